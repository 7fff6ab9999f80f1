"""Keep a deployed language model current, fact by fact."""

__version__ = "0.1.0"
