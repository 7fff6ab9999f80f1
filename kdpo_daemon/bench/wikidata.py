"""Revisions of real Wikidata items: are exactly the changed best-rank statements told?

`measure(data)` reads `data/wikidata/<item>@rev<revision>_<day>.json`.  Each two successive
revisions of an item are given to the feed kind, one after the other, with every property watched;
how many values it tells of each that came or went is compared with a plain count, made from the
raw JSON only.  An item of one revision is given twice: then nothing may be told.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.relations import Pack, Phrasings, Relation, ValueKind
from kdpo_daemon.feeds.kinds import Poll, wikidata
from kdpo_daemon.records.intake import Feed, FeedKind, Fetched, Page, Trust

_URL = "http://127.0.0.1/{item}.json"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Difference:
    """A property of which the feed kind tells more or less than the plain count finds.

    Pairs are how many values came and how many went.
    """

    property: str
    told: tuple[int, int]
    expected: tuple[int, int]
    before: list[str]  #: raw values of the statements that count
    after: list[str]


@dataclass(frozen=True)
class Pair:
    """Two successive revisions of an item, or one that was read twice."""

    item: str
    before: str  #: file
    after: str
    statements: int  #: of the later one
    properties: int  #: in either
    touched: int  #: properties whose statements differ at all, in rank or qualifiers for example
    told: int  #: values that came or went
    expected: int
    differences: list[Difference]


def measure(data: Path) -> list[Pair]:
    """Compare all revisions of a folder.  SettingsError if it has none."""
    files = sorted((data / "wikidata").glob("Q*@rev*.json"), key=_place)
    if not files:
        raise SettingsError(
            "holds no Q*@rev*.json",
            subject=str(data / "wikidata"),
            hint="give the folder that holds wikidata/ as --data",
        )
    by_item: dict[str, list[Path]] = {}
    for file in files:
        by_item.setdefault(file.name.partition("@")[0], []).append(file)
    pairs = [
        pair for own in by_item.values() for pair in (pairwise(own) if own[1:] else [own * 2])
    ]
    return [_compared(*pair) for pair in pairs]


def _place(file: Path) -> tuple[str, int]:
    item, _, rest = file.name.partition("@rev")
    return item, int(rest.partition("_")[0])


def _compared(first: Path, second: Path) -> Pair:
    item = first.name.partition("@")[0]
    before, after = _claims(first), _claims(second)
    properties = sorted({*before, *after}, key=lambda one: int(one[1:]))
    told = _told(item, properties, first.read_bytes(), second.read_bytes())
    raw = {one: (_raw(_entity(first), one), _raw(_entity(second), one)) for one in properties}
    expected = {one: (len(now - then), len(then - now)) for one, (then, now) in raw.items()}
    return Pair(
        item=item,
        before=first.name,
        after=second.name,
        statements=sum(map(len, after.values())),
        properties=len(properties),
        touched=sum(_plain(before.get(one)) != _plain(after.get(one)) for one in properties),
        told=sum(map(sum, told.values())),
        expected=sum(map(sum, expected.values())),
        differences=[
            Difference(one, told[one], expected[one], sorted(raw[one][0]), sorted(raw[one][1]))
            for one in properties
            if told[one] != expected[one]
        ],
    )


# ---------------------------------------------------------------- what the feed kind tells


def _told(item: str, properties: list[str], *bodies: bytes) -> dict[str, tuple[int, int]]:
    relations = dict(zip(properties, properties, strict=True))
    options: dict[str, object] = {"items": [item], "properties": relations, "settle_s": 0}
    kind = FeedKind.WIKIDATA
    feed = Feed(1, "bench", _URL, Trust.AUTO, 60, False, True, _NOW, kind=kind, options=options)
    poll = Poll(_NOW, 10_000, Pack({one: _several(one) for one in properties}, {}), _label)
    page = Page(_URL.format(item=item))
    came: Counter[str] = Counter()
    went: Counter[str] = Counter()
    for body in bodies:
        reading = wikidata.read(feed, Fetched(page.url, _labelled(body)), page, poll)
        page = Page(page.url, values=reading.values)
        facts = [entry.fact for entry in reading.entries if entry.fact]
        came.update(fact.relation for fact in facts if fact.new)
        went.update(fact.relation for fact in facts if not fact.new)
    return {one: (came[one], went[one]) for one in properties}


def _several(name: str) -> Relation:
    """Give a relation of several values, of which each is told by itself."""
    none = Phrasings((), ())
    return Relation(name, name, name, "", ValueKind.PLAIN, 60, none, none, functional=False)


def _labelled(body: bytes) -> bytes:
    """Give an entity with a label, so that a missing one hides nothing."""
    read = json.loads(body)
    entity = next(iter(read["entities"].values())) if "entities" in read else read
    return json.dumps(entity | {"labels": {"en": {"value": "subject"}}}).encode()


def _label(url: str) -> bytes:
    item = url.rpartition("/")[2].removesuffix(".json")
    said = {"id": item, "labels": {"en": {"value": f"[{item}]"}}, "claims": {}}
    return json.dumps(said).encode()


# ---------------------------------------------------------------- the count of its own


def _entity(file: Path) -> Mapping[str, Any]:
    read = json.loads(file.read_bytes())
    return dict(next(iter(read["entities"].values())) if "entities" in read else read)


def _claims(file: Path) -> dict[str, list[dict[str, Any]]]:
    return dict(_entity(file)["claims"] or {})


def _raw(entity: Mapping[str, Any], item_property: str) -> set[str]:
    """Give the values that hold, as the JSON has them."""
    found: dict[str, set[str]] = {}
    for one in entity["claims"].get(item_property, []):
        snak = one["mainsnak"]
        if snak["snaktype"] == "value" and "rank" in one:
            over = any(_times(one)) and min(_times(one)) <= entity["modified"]
            value = "" if over else json.dumps(snak["datavalue"]["value"], sort_keys=True)
            found.setdefault(one["rank"], set()).add(value)
    return (found.get("preferred") or found.get("normal") or set()) - {""}


def _times(statement: dict[str, Any]) -> Iterator[str]:
    for end in statement.get("qualifiers", {}).get("P582", []):
        yield end.get("datavalue", {}).get("value", {}).get("time", "").lstrip("+") or "0"


def _plain(statements: list[dict[str, Any]] | None) -> set[str]:
    """Give the statements as they are, without hashes and references."""
    kept = ("id", "rank", "mainsnak", "qualifiers")
    return {
        json.dumps({key: _bare(one[key]) for key in kept if key in one}, sort_keys=True)
        for one in statements or []
    }


def _bare(read: Any) -> Any:
    if isinstance(read, dict):
        return {key: _bare(value) for key, value in read.items() if key != "hash"}
    return [_bare(one) for one in read] if isinstance(read, list) else read
