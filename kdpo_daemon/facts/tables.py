"""Checked values out of the tables of packs (TOML).  Does not know what they mean."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from string import Formatter

from kdpo_daemon.errors import SettingsError

Table = Mapping[str, object]


def refused(where: str, why: str, hint: str = "") -> SettingsError:
    """Give the error for a key that cannot be used."""
    return SettingsError(why, subject=where, hint=hint or "correct it in the pack")


def named_tables(
    text: str, place: str, sections: tuple[str, ...]
) -> Iterator[tuple[str, str, Table]]:
    """Give (section, name, table) for each `[section.name]` of a TOML text.

    Raises:
        SettingsError: not TOML, or another section.

    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise refused(place, f"not valid TOML: {error}") from error
    for section, tables in content.items():
        if section not in sections or not isinstance(tables, dict):
            raise refused(f"{place}: {section}", f"tables are [{'.NAME], ['.join(sections)}.NAME]")
        for name, table in tables.items():
            yield section, name, as_table(f"{place}: {section}.{name}", table)


def as_table(where: str, value: object, keys: frozenset[str] | None = None) -> Table:
    """Give a table, with no other keys than `keys`."""
    if not isinstance(value, dict):
        raise refused(where, "must be a table")
    for key in value:
        if keys is not None and key not in keys:
            raise refused(f"{where}.{key}", "unknown key", f"keys are {', '.join(sorted(keys))}")
    return value


def as_flag(where: str, value: object) -> bool:
    """Give true or false."""
    if not isinstance(value, bool):
        raise refused(where, "must be true or false")
    return value


def as_number(where: str, value: object, most: int) -> int:
    """Give a whole number from 1 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise refused(where, f"must be a number from 1 to {most}")
    return value


def as_property(where: str, value: object) -> str:
    """Give the name of a Wikidata property, or ""."""
    if not isinstance(value, str) or not re.fullmatch(r"(P[1-9]\d*)?", value):
        raise refused(where, "must be a Wikidata property such as P35")
    return value


def as_text(where: str, value: object) -> str:
    """Give a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise refused(where, "must be a text, and not empty")
    return value


def as_texts(where: str, value: object) -> tuple[str, ...]:
    """Give a list of different texts, at least one."""
    if not isinstance(value, list) or not value:
        raise refused(where, "must be a list of texts, and not empty")
    texts = tuple(as_text(where, one) for one in value)
    if len(set(texts)) < len(texts):
        raise refused(where, "says the same twice")
    return texts


def as_templates(where: str, value: object, fields: frozenset[str]) -> tuple[str, ...]:
    """Give templates that use {subject}, and of other fields only `fields`."""
    templates = as_texts(where, value)
    for template in templates:
        try:
            used = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
        except ValueError as error:
            raise refused(where, f"{template!r}: {error}") from error
        if "subject" not in used or used - fields:
            names = ", ".join(f"{{{name}}}" for name in sorted(fields))
            raise refused(where, f"{template!r} must use {{subject}}, and nothing but {names}")
        if template != template.strip():
            raise refused(where, f"{template!r} must not begin or end with a space")
    return templates
