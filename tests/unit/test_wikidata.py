"""Two revisions of an entity: exactly the statements of best rank that changed.

`data/Q2112_*.json` is Bielefeld on Wikidata (CC0) at two dates: without sitelinks, other languages
and statements that only hold ids of other catalogues.
"""

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.kinds import Poll, Reading, wikidata
from kdpo_daemon.feeds.kinds.wikidata.watch import relations_of, watch_list_of
from kdpo_daemon.records.intake import Entry, Feed, Fetched, Page, RawFact, Trust

DATA = Path(__file__).parent / "data"
BEFORE, AFTER = ((DATA / f"Q2112_{day}.json").read_bytes() for day in ("2016-08-12", "2023-04-04"))
URL = "https://example.org/{item}.json"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PACK = read_pack([packs.text("relations.toml")])
#: Items that are not served as `label` makes them up.
ITEMS: dict[str, dict[str, Any]] = {
    "Q5": {"id": "Q6", "labels": {"en": {"value": "Six"}}},
    "Q6": {
        "labels": {"en": {"value": "Six"}},
        "aliases": {"en": [{"value": "6"}, {"value": "Q6"}]},
    },
    "Q404": {"labels": {"de": {"value": "auf Deutsch"}, "en": {"value": "Q404"}}},
}

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
    ("P625", "52.016666666667, 8.5166666666667", "52.016666666667, 8.5333333333333"),
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
    said = {"items": ["Q2112"], "properties": properties, "settle_s": 0} | options
    return Feed(1, "wd", URL, Trust.AUTO, 60, False, True, NOW, options=said)


def label(url: str) -> bytes:
    """Serve an item whose label is its id in brackets."""
    item = url.removeprefix("https://example.org/").removesuffix(".json")
    said = {"id": item, "labels": {"en": {"value": f"[{item}]"}}, "claims": {}} | ITEMS.get(
        item, {}
    )
    return json.dumps({"entities": {item: said}}).encode()


def read(watching: Feed, *bodies: bytes, hours: int = 1, limit: int = 500) -> Reading:
    """Read one document after the other, some hours apart; give what the last one says."""
    page = Page("https://example.org/Q2112.json")
    reading = Reading([])
    for place, body in enumerate(bodies):
        poll = Poll(NOW + timedelta(hours=place * hours), limit, PACK, label)
        reading = wikidata.read(watching, Fetched(page.url, body), page, poll)
        page = Page(page.url, values=reading.values, waiting=reading.waiting)
    return reading


def values_of(fact: tuple[str, str]) -> list[list[str]]:
    """Give the values before and after; the order of several says nothing."""
    return [sorted(said.split("; ")) for said in fact]


def entity(**claims: list[dict[str, Any]]) -> bytes:
    said = {"id": "Q2112", "labels": {"en": {"value": "Utopia"}}, "claims": claims}
    return json.dumps(said | {"modified": "2024-01-01T00:00:00Z"}).encode()


def statement(
    item: str, rank: str = "normal", refs: list[dict[str, str]] | None = None, **qualifiers: str
) -> dict[str, Any]:
    value = {"type": "wikibase-entityid", "value": {"id": item}}
    return {
        "mainsnak": {"datavalue": value},
        "rank": rank,
        "references": [
            {"snaks": {name: [{"datavalue": {"value": said}}] for name, said in one.items()}}
            for one in refs or []
        ],
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
        entry.key.rpartition("#")[2]: (entry.fact.old, entry.fact.new)
        for entry in entries
        if entry.fact
    }
    wanted = {name: (old, new) for name, old, new in CHANGED}
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

    assert entry.fact == RawFact(
        "Utopia", "head_of_government", "", old="[Q1]", valid_from="2023-05-01"
    )
    assert entry.title == "Utopia, head_of_government: no longer [Q1]"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is not JSON"),
        (b"[]", "is no Wikibase entity"),
        (b'{"entities": {"Q2112": {"missing": ""}}}', "was deleted"),
        (b'{"id": "Q64", "claims": {}}', r"Q2112 was merged into Q64\. Watch Q64 instead"),
        (b'{"id": "Q2112", "claims": {"P6": [{"rank": "normal"}]}}', "is not what a Wikibase"),
    ],
)
def test_what_cannot_be_compared_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(SourceError, match=f"feed wd: {why}"):
        read(feed({"P6": "head_of_government"}), body)


# ---------------------------------------------------------------- what has to stand


OLD, NEW = entity(P6=[statement("Q1")]), entity(P6=[statement("Q2")])


def test_a_change_is_told_once_it_has_stood() -> None:
    watching = feed({"P6": "head_of_government"}, settle_s=2 * 3600)

    told = [read(watching, OLD, *[NEW] * n).entries for n in (1, 2, 3)]

    assert [len(entries) for entries in told] == [0, 0, 1]


def test_a_change_that_is_taken_back_in_time_leaves_nothing() -> None:
    reading = read(feed({"P6": "head_of_government"}, settle_s=2 * 3600), OLD, NEW, OLD, OLD, OLD)

    assert (reading.entries, reading.waiting) == ([], {})


def test_a_change_after_a_change_has_to_stand_for_itself() -> None:
    third = entity(P6=[statement("Q3")])
    watching = feed({"P6": "head_of_government"}, settle_s=2 * 3600)

    early = read(watching, OLD, NEW, third, third).entries
    (entry,) = read(watching, OLD, NEW, third, third, third).entries

    assert early == []
    assert entry.fact == RawFact("Utopia", "head_of_government", "[Q3]", old="[Q1]")


def test_what_is_beyond_the_limit_of_entries_is_told_later() -> None:
    both = feed({"P6": "head_of_government", "P36": "capital"})
    first, second = (entity(P6=[statement(f"Q{n}")], P36=[statement(f"Q9{n}")]) for n in (1, 2))

    reading = read(both, first, second, limit=1)
    later = read(both, first, second, second, limit=1, hours=24)

    assert [entry.key[-3:] for entry in reading.entries] == ["#P6"]
    assert list(reading.waiting) == ["https://example.org/Q2112.json#P36"]
    assert [entry.key[-4:] for entry in later.entries] == ["#P36"]


# ---------------------------------------------------------------- references


IMPORTED = {"P143": "Q48183", "P813": "+2020-01-01"}
WEB = {"P854": "https://example.org/council", "P813": "+2020-01-01"}
FOUNDED = [
    ("none", None, True),
    ("any", None, False),
    ("any", [IMPORTED], True),
    ("not imported", [IMPORTED], False),
    ("not imported", [{"P813": "+2020-01-01"}], False),
    ("not imported", [IMPORTED | WEB], False),
    ("not imported", [IMPORTED, WEB], True),
]


@pytest.mark.parametrize(("wanted", "refs", "told"), FOUNDED)
def test_a_new_statement_needs_the_references_that_are_wanted(
    wanted: str, refs: list[dict[str, str]] | None, told: bool
) -> None:
    now = entity(P6=[statement("Q2", refs=refs)])
    gone = entity(P6=[])

    watching = feed({"P6": "head_of_government"}, references=wanted)

    assert len(read(watching, OLD, now).entries) == told
    assert len(read(watching, OLD, gone).entries) == 1  # an end needs none


def test_a_reference_that_comes_later_lets_the_change_be_told_with_its_address() -> None:
    watching = feed({"P6": "head_of_government"}, references="not imported")

    poor = IMPORTED | {"P854": "https://example.org/imported"}

    (entry,) = read(watching, OLD, NEW, entity(P6=[statement("Q2", refs=[poor, WEB])])).entries

    assert entry.link == "https://example.org/council"
    assert entry.fact == RawFact("Utopia", "head_of_government", "[Q2]", old="[Q1]")


def test_real_references_decide_which_real_changes_are_told() -> None:
    properties = {name: name for name, _, _ in CHANGED}

    told = {
        wanted: [one.key.rpartition("#")[2] for one in _read_both(properties, wanted)]
        for wanted in ("any", "not imported")
    }

    # By hand: the properties of which each statement that came has such a reference, and those
    # of which none came.
    gone = ["P443", "P706", "P1036", "P1997"]
    good = ["P1082", "P1448", "P1539", "P1540", "P1813"]
    imported = ["P361", "P571", "P948", "P1889"]
    assert {wanted: set(names) for wanted, names in told.items()} == {
        "any": {*gone, *good, *imported},
        "not imported": {*gone, *good},
    }


def _read_both(properties: dict[str, str], wanted: str) -> list[Entry]:
    return read(feed(properties, references=wanted), BEFORE, AFTER).entries


# ---------------------------------------------------------------- names


def measure(amount: str, unit: str) -> dict[str, Any]:
    value = {"amount": amount, "unit": f"http://www.wikidata.org/entity/{unit}"}
    return {"mainsnak": {"datavalue": {"type": "quantity", "value": value}}, "rank": "normal"}


def test_a_quantity_is_told_with_its_unit_and_another_unit_is_another_value() -> None:
    watching = feed({"P2046": "area"})
    before = entity(P2046=[measure("+258.8", "Q712226")])

    (grown,) = read(watching, before, entity(P2046=[measure("+260", "Q712226")])).entries
    (other,) = read(watching, before, entity(P2046=[measure("+258.8", "Q6")])).entries

    assert grown.fact == RawFact("Utopia", "area", "260 [Q712226]", old="258.8 [Q712226]")
    assert other.fact == RawFact("Utopia", "area", "258.8 Six", old="258.8 [Q712226]")


def test_a_quantity_whose_unit_has_no_name_waits() -> None:
    before = entity(P2046=[measure("+1", "Q6")])

    assert (
        read(feed({"P2046": "area"}), before, entity(P2046=[measure("+1", "Q404")])).entries == []
    )


def test_another_language_is_asked_for_and_its_aliases_are_kept() -> None:
    watching = feed({"P36": "capital"}, language="de")
    both = (entity(P36=[statement(item)]) for item in ("Q1", "Q404"))

    (entry,) = read(watching, *both).entries

    assert entry.fact == RawFact("Utopia", "capital", "auf Deutsch", old="[Q1]")
    assert read(feed({"P1082": "population"}, language="de"), BEFORE, AFTER).entries[0].fact == (
        RawFact("Bielefeld", "population", "334002", old="329327", valid_from="2021-12-31")
    )


def test_other_names_of_both_objects_are_told_and_ids_are_no_names() -> None:
    (entry,) = read(
        feed({"P36": "capital"}), entity(P36=[statement("Q6")]), entity(P36=[statement("Q7")])
    ).entries

    assert entry.fact == RawFact("Utopia", "capital", "[Q7]", old="Six", old_aliases=("6",))


def test_an_object_without_a_label_is_never_taught_by_its_id() -> None:
    first, second = entity(P36=[statement("Q1")]), entity(P36=[statement("Q404")])

    reading = read(feed({"P36": "capital"}), first, second)

    assert reading.entries == []
    assert list(reading.waiting) == ["https://example.org/Q2112.json#P36"]


def test_an_item_that_was_merged_into_another_is_no_change() -> None:
    first, second = (entity(P36=[statement(item)]) for item in ("Q5", "Q6"))

    reading = read(feed({"P36": "capital"}), first, second)

    assert reading.entries == []
    assert list(reading.values.values()) == ["Q6"]


# ---------------------------------------------------------------- several values


def told_of_employers(*documents: bytes) -> list[tuple[str, str, str, str]]:
    """Give key, new, old and date of what the last document tells of employers."""
    entries = read(feed({"P108": "employer"}), *documents).entries
    facts = [(entry.key.rpartition("#")[2], entry.fact) for entry in entries]
    return [(key, fact.new, fact.old, fact.valid_from) for key, fact in facts if fact]


def test_of_several_values_exactly_those_that_came_and_ended_are_told() -> None:
    first = entity(P108=[statement("Q1"), statement("Q2"), statement("Q3")])
    second = entity(
        P108=[
            statement("Q1"),
            statement("Q2", P582="+2023-05-01T00:00:00Z"),
            statement("Q3"),
            statement("Q4", P580="+2023-06-00T00:00:00Z"),
        ]
    )

    assert told_of_employers(first, second) == [
        ("P108/Q4", "[Q4]", "", "2023-06-01"),
        ("P108/Q2", "", "[Q2]", "2023-05-01"),
    ]
    assert told_of_employers(first, second, second) == []


def test_a_value_that_comes_back_is_told_again() -> None:
    with_it, without = entity(P108=[statement("Q1")]), entity(P108=[])

    assert told_of_employers(with_it, without, with_it) == [("P108/Q1", "[Q1]", "", "")]


def test_of_several_values_a_merged_item_is_no_change() -> None:
    documents = [entity(P108=[statement(item)]) for item in ("Q5", "Q6")]
    both = entity(P108=[statement("Q5"), statement("Q6")])

    assert told_of_employers(*documents) == []
    assert told_of_employers(both, documents[1]) == []


def test_one_value_said_twice_is_one_value() -> None:
    first = entity(P36=[statement("Q1")])
    again = entity(P36=[statement("Q1", P580="+2001-01-01T00:00:00Z"), statement("Q1")])

    assert read(feed({"P36": "capital"}), first, again).entries == []


# ---------------------------------------------------------------- the watch list


def test_without_properties_all_are_watched_that_one_relation_of_the_packs_has() -> None:
    watched = relations_of(watch_list_of(feed(["P35"])), PACK)
    everything = Feed(1, "wd", URL, Trust.AUTO, 60, False, True, NOW, options={"items": ["Q1"]})

    all_of_them = relations_of(watch_list_of(everything), PACK)

    assert watched == {"P35": "head_of_state"}
    assert all_of_them["P36"] == "capital"
    assert "P6" not in all_of_them  # of mayors and of heads of government


def test_the_shipped_mapping_watches_properties_by_recent_changes() -> None:
    mapping = tomllib.loads(packs.text("mappings/wikidata.toml"))
    options = {key: value for key, value in mapping.items() if key not in ("kind", "url")}
    shipped = Feed(
        1, "wd", mapping["url"], Trust.AUTO, 60, False, True, NOW, "etag", options=options
    )

    (url,) = wikidata.urls(shipped)
    relations = relations_of(watch_list_of(shipped), PACK)

    assert url.startswith("https://www.wikidata.org/w/api.php?action=query&")
    assert list(relations.values()) == [
        "head_of_state",
        "capital",
        "chief_executive",
        "coach",
        "captain",
        "record_holder",
    ]


def test_the_api_is_where_the_entities_are() -> None:
    options = {"properties": ["P35"], "api": "https://elsewhere.org/w/api.php"}
    watching = Feed(1, "wd", URL, Trust.AUTO, 60, False, True, NOW, options=options)

    with pytest.raises(SettingsError, match="api: is elsewhere than the URL"):
        wikidata.urls(watching)


def test_a_property_of_two_relations_has_to_be_told_apart() -> None:
    why = r"P6 has several relations: head_of_government, mayor\. Write P6 = "
    with pytest.raises(SourceError, match=why):
        read(feed(["P6"]), OLD)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"items": []}, "items: must be a list"),
        ({"settle_s": -1}, "settle_s: must be a number"),
        ({"references": "some"}, "references: must be one of none, any, not imported"),
        ({"api": "https://example.org/api.php"}, "api: is asked for recent changes"),
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
        ("P6", "properties: must be a table"),
        ([], "must be a list of texts, and not empty"),
        (["P6", "P6"], "says the same twice"),
    ],
)
def test_properties_that_cannot_be_watched_are_named(properties: object, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        wikidata.urls(feed(properties))
