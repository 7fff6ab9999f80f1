"""Texts that ship with the package: relations, probes, prose, and a feed for the demo."""

from importlib.resources import files

#: The shipped packs of relations, in the order in which they are read.
RELATIONS = ("relations.toml", "countries.toml")


def mappings() -> list[str]:
    """Give the names of the shipped mappings for feeds of other kinds than `feed`."""
    folder = files(__name__).joinpath("mappings")
    return sorted(one.name.removesuffix(".toml") for one in folder.iterdir())


def text(name: str) -> str:
    """Give a shipped file's text, for example `relations.toml`."""
    return files(__name__).joinpath(name).read_text("utf-8")
