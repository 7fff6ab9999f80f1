"""Versions of programs: `Python v3.13.1 (released 3 December 2024)`, and which is the later one.

Pure.  Which of two is later is asked of packaging, which knows pre-releases.
"""

import re

from packaging.version import InvalidVersion, Version

from kdpo_daemon.facts.dates import date_in
from kdpo_daemon.facts.names import Reading, read_plain
from kdpo_daemon.facts.spelling import same_spelling

# With a point, or after a v: a bare number may be a name's, `Windows 11`.
_VERSION = re.compile(
    r"(?<![\w.])(?:v(?=\d)|version )?(\d+(?:\.\w+)+(?:[-+][\w.+-]+)?|(?<=v)\d+|(?<=version )\d+)"
    r"(?: (LTS))?(?![\w.]*\d)",
    re.IGNORECASE,
)


def read_version(raw: str) -> Reading:
    """Give the version that a text names, without the program's name; else as `read_plain`."""
    told = re.split(r"[(;]|\b(?:released|since|on) ", raw, maxsplit=1)[0]
    found = [" ".join(filter(None, one.groups())) for one in _VERSION.finditer(told)]
    if len(set(found)) > 1:
        return Reading("", note="several values")
    return Reading(found[0], since=date_in(raw)) if found else read_plain(raw)


def same_version(one: str, other: str) -> bool:
    """True when two versions are one: `v3.12`, `3.12.0`."""
    mine, theirs = _version(one), _version(other)
    return mine == theirs if mine and theirs else same_spelling(one, other)


def is_earlier(one: str, other: str) -> bool:
    """Tell whether a version is surely earlier than another one."""
    mine, theirs = _version(one), _version(other)
    return bool(mine and theirs and mine < theirs)


def _version(text: str) -> Version | None:
    try:
        return Version(text.removesuffix(" LTS"))
    except InvalidVersion:
        return None
