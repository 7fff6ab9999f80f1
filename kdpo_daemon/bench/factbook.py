"""The World Factbook as it was week by week, rebuilt from a record of its changes.

Reads `factbook/yearly_state.jsonl` and `factbook/changes.jsonl`; docs/intake.md says how the
documents are made of them.  Does not serve, poll or judge.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from kdpo_daemon.errors import SettingsError

#: The day from which the Factbook's JSON was committed about once a week.
START = date(2021, 1, 1)

# field of the record of changes -> where it stands in a country's document
_PLACES = {
    "chief_of_state": ("Executive branch", "chief of state"),
    "head_of_government": ("Executive branch", "head of government"),
    "capital": ("Capital", "name"),
    "government_type": ("Government type",),
    "country_short_name": ("Country name", "conventional short form"),
    "country_long_name": ("Country name", "conventional long form"),
}
#: field of the record of changes -> relation
RELATIONS = {field: field for field in _PLACES} | {"chief_of_state": "head_of_state"}

_Slot = tuple[str, str]  # path of the document, field


@dataclass(frozen=True)
class Week:
    """One commit: the texts that read otherwise since the commit before."""

    day: date
    texts: Mapping[_Slot, str]

    @property
    def at(self) -> datetime:
        """Noon of the day."""
        return datetime(self.day.year, self.day.month, self.day.day, 12, tzinfo=UTC)


@dataclass(frozen=True)
class History:
    """All documents as they were at first, what each week changed, and which changes are known."""

    first: Mapping[_Slot, str]
    weeks: tuple[Week, ...]
    recorded: frozenset[tuple[str, str, str]]  #: day, path, relation

    @property
    def paths(self) -> list[str]:
        """The documents' names, `europe/fr`, in order."""
        return sorted({path.removesuffix(".json") for path, _ in self.first})


def read_history(folder: Path) -> History:
    """Rebuild the documents.  SettingsError if the folder does not hold the two files."""
    changes = [one for one in _lines(folder / "changes.jsonl") if one["date"] >= str(START)]
    first = dict(_first_state(folder))
    days = sorted({date.fromisoformat(one["date"]) for one in changes})
    events: dict[date, dict[_Slot, str]] = defaultdict(dict)
    now: dict[_Slot, tuple[date | None, str]] = {}
    for one in changes:
        if one["field"] not in _PLACES:
            continue
        slot, day = (one["path"], one["field"]), date.fromisoformat(one["date"])
        if slot not in now:
            first[slot] = one["old"]
        elif now[slot][1] != one["old"]:
            _bridge(events, slot, one["old"], now[slot][0], days[: days.index(day)])
        events[day][slot] = one["new"]
        now[slot] = day, one["new"]
    recorded = frozenset(
        (one["date"], one["path"], RELATIONS[one["field"]])
        for one in changes
        if one["field"] in RELATIONS
    )
    return History(first, tuple(Week(day, events[day]) for day in days), recorded)


def _bridge(
    events: dict[date, dict[_Slot, str]],
    slot: _Slot,
    old: str,
    last: date | None,
    days: list[date],
) -> None:
    """Let a text read `old` a week before it changes: the record leaves out small changes."""
    if days and (last is None or days[-1] > last):
        events[days[-1]][slot] = old


def _first_state(folder: Path) -> Iterator[tuple[_Slot, str]]:
    states = list(_lines(folder / "yearly_state.jsonl"))
    earliest = min(one["as_of"] for one in states)
    for state in states:
        if state["as_of"] == earliest:
            for field in _PLACES:
                if text := state["facts"].get(field):
                    yield (state["path"], field), text


def document(path: str, texts: Mapping[_Slot, str]) -> bytes:
    """Give a country's document in the shape of the Factbook's own, with the known texts."""
    government: dict[str, Any] = {}
    for field, (*outer, last) in _PLACES.items():
        if (path, field) in texts:
            within = government
            for name in outer:
                within = within.setdefault(name, {})
            within[last] = {"text": texts[path, field]}
    return json.dumps({"Government": government}, ensure_ascii=False).encode()


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(
            f"cannot be read: {error.strerror}",
            subject=str(file),
            hint="give the folder that holds factbook/changes.jsonl as --data",
        ) from error
    return (json.loads(line) for line in text.splitlines())
