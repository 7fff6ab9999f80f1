"""Two revisions of an entity: exactly the statements of best rank that changed.

`data/Q2112_*.json` is Bielefeld on Wikidata (CC0) at two dates: without references, sitelinks
and statements that only hold ids of other catalogues.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.feeds.kinds import Reading, wikidata
from kdpo_daemon.records.intake import Feed, Fetched, Page, RawFact, Trust

DATA = Path(__file__).parent / "data"
BEFORE, AFTER = ((DATA / f"Q2112_{day}.json").read_bytes() for day in ("2016-08-12", "2023-04-04"))
URL = "https://example.org/{item}.json"

# By hand from the two documents: property, best before, best after.
CHANGED = [
    ("P18", "Bielefeld City.jpg", "Sparrenburg innovative sights.JPG"),
    (
        "P31",
        "[Q22865]; [Q262166]; [Q1549591]; [Q1187811]",
        "[Q1549591]; [Q1187811]; [Q42744322]; [Q707813]; [Q85635630]",
    ),
    ("P41", "", "Hissflagge Bielefeld.svg"),
    (
        "P47",
        "[Q6234]; [Q6230]; [Q6218]; [Q3771]; [Q225375]; [Q225432]",
        "[Q6234]; [Q6230]; [Q6218]; [Q3771]; [Q225375]; [Q225432]; [Q242757]; [Q242385]; [Q4108];"
        " [Q3971]; [Q53901]; [Q53904]; [Q32750]; [Q225002]",
    ),
    ("P237", "", "[Q106092685]"),
    ("P361", "", "[Q487924]"),
    ("P421", "[Q6655]", "[Q6655]; [Q6723]"),
    ("P443", "De-Bielefeld.ogg", ""),
    ("P463", "", "[Q627637]; [Q1768108]; [Q747279]; [Q52144567]; [Q896216]"),
    ("P485", "", "[Q28719794]"),
    ("P571", "", "1214"),
    ("P706", "[Q677337]; [Q109773]", "[Q677337]"),
    ("P856", "http://www.bielefeld.de/", "https://www.bielefeld.de/"),
    ("P948", "Bielefeld City.jpg", "Bielefeld WV banner.jpg"),
    ("P1036", "2--435655", ""),
    ("P1082", "329327", "334002"),
    (
        "P1343",
        "",
        "[Q3181656]; [Q20078554]; [Q19180675]; [Q602358]; [Q4173137]; [Q19219752]; [Q1547546];"
        " [Q19230705]",
    ),
    ("P1448", "", "Bielefeld"),
    ("P1539", "", "172707"),
    ("P1540", "", "160802"),
    ("P1813", "", "Bi; Bet"),
    ("P1889", "", "[Q857318]"),
    ("P1997", "110710585624249", ""),
    ("P4552", "", "[Q109773]"),
    ("P7867", "", "[Q84112142]"),
    ("P8402", "", "[Q97362524]"),
    ("P8744", "", "[Q100868437]"),
    ("P10280", "", "[Q16793643]"),
]


def feed(properties: object, **options: Any) -> Feed:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    said = {"items": ["Q2112"], "properties": properties} | options
    return Feed(1, "wd", URL, Trust.AUTO, 60, False, True, now, options=said)


def label(url: str) -> bytes:
    """Serve an item whose label is its id in brackets."""
    item = url.removeprefix("https://example.org/").removesuffix(".json")
    said = {"id": item, "labels": {"en": {"value": f"[{item}]"}}, "claims": {}}
    return json.dumps({"entities": {item: said}}).encode()


def read(watching: Feed, *bodies: bytes) -> Reading:
    page = Page("https://example.org/Q2112.json")
    reading = Reading([])
    for body in bodies:
        reading = wikidata.read(watching, Fetched(page.url, body), page, 500, label)
        page = Page(page.url, values=reading.values)
    return reading


def values_of(fact: tuple[str, str] | None) -> list[list[str]]:
    """Give the values before and after; the order of several says nothing."""
    return [sorted(said.split("; ")) for said in fact or ()]


def entity(**claims: list[dict[str, Any]]) -> bytes:
    said = {"id": "Q2112", "labels": {"en": {"value": "Utopia"}}, "claims": claims}
    return json.dumps(said | {"modified": "2024-01-01T00:00:00Z"}).encode()


def statement(item: str, rank: str = "normal", **qualifiers: str) -> dict[str, Any]:
    value = {"type": "wikibase-entityid", "value": {"id": item}}
    return {
        "mainsnak": {"datavalue": value},
        "rank": rank,
        "qualifiers": {
            name: [{"datavalue": {"type": "time", "value": {"time": day, "precision": 11}}}]
            for name, day in qualifiers.items()
        },
    }


def test_two_revisions_of_a_city_give_exactly_the_changed_best_statements() -> None:
    both = [next(iter(json.loads(body)["entities"].values())) for body in (BEFORE, AFTER)]
    properties = {name for one in both for name in one["claims"]}
    watching = feed({name: name for name in sorted(properties, key=lambda p: int(p[1:]))})

    entries = read(watching, BEFORE, AFTER).entries

    told = {
        entry.key.rpartition("#")[2]: (entry.fact.old, entry.fact.new) if entry.fact else None
        for entry in entries
    }
    wanted = {name: (old, new) if new else None for name, old, new in CHANGED}
    assert {name: values_of(fact) for name, fact in told.items()} == {
        name: values_of(fact) for name, fact in wanted.items()
    }


def test_a_change_carries_labels_and_when_it_began() -> None:
    entries = read(feed({"P1082": "population"}), BEFORE, AFTER).entries

    assert [entry.fact for entry in entries] == [
        RawFact("Bielefeld", "population", "334002", old="329327", valid_from="2021-12-31")
    ]


def test_the_same_revision_again_changes_nothing() -> None:
    assert read(feed({"P1082": "population"}), BEFORE, AFTER, AFTER).entries == []


def test_ended_and_deprecated_statements_do_not_count() -> None:
    ended = statement("Q1", P582="+2023-05-01T00:00:00Z")
    first = entity(P6=[statement("Q1")])
    second = entity(P6=[ended, statement("Q9", "deprecated"), statement("Q2")])

    (entry,) = read(feed({"P6": "head_of_government"}), first, second).entries

    assert entry.fact == RawFact("Utopia", "head_of_government", "[Q2]", old="[Q1]")


def test_an_end_that_is_still_to_come_does_not_end_a_statement() -> None:
    first = entity(P6=[statement("Q1")])
    second = entity(P6=[statement("Q1", P582="+2025-05-01T00:00:00Z")])

    assert read(feed({"P6": "head_of_government"}), first, second).entries == []


def test_a_preferred_statement_that_ended_does_not_bring_old_normal_ones_back() -> None:
    old = statement("Q7")
    first = entity(P6=[old, statement("Q1", "preferred")])
    second = entity(P6=[old, statement("Q1", "preferred", P582="+2023-05-01T00:00:00Z")])

    (entry,) = read(feed({"P6": "head_of_government"}), first, second).entries

    assert entry.fact is None
    assert entry.title == "Utopia, head_of_government: nothing any more"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"entities": {"Q1": {"missing": ""}}}'])
def test_what_is_no_entity_is_refused(body: bytes) -> None:
    with pytest.raises(SourceError, match="feed wd: is n"):
        read(feed({"P6": "head_of_government"}), body)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"items": []}, "items: must be a list"),
        ({"items": ["2112"]}, "items: '2112' is no id"),
        ({"proprties": {}}, "unknown key"),
    ],
)
def test_a_watch_list_that_cannot_be_used_is_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        wikidata.urls(feed({"P6": "head_of_government"}, **options))


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({}, "watches nothing"),
        ({"6": "head_of_government"}, "properties: '6' is no id"),
        ({"P6": 6}, r"properties\.P6: must be a text"),
        (["P6"], "properties: must be a table"),
    ],
)
def test_properties_that_cannot_be_watched_are_named(properties: object, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        wikidata.urls(feed(properties))
