"""Texts that ship with the package: relations, probes, prose, and a feed for the demo."""

from importlib.resources import files


def text(name: str) -> str:
    """Give a shipped file's text, for example `relations.toml`."""
    return files(__name__).joinpath(name).read_text("utf-8")
