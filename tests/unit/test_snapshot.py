"""Snapshots of JSON: what is read, and what counts as a change."""

import json
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.feeds.kinds import Poll, Reading, snapshot
from kdpo_daemon.records.intake import Feed, Fetched, Page, RawFact, Trust

URL = "https://example.org/{value}.json"
ONE = {"subject": "$.name", "relations": {"head_of_state": "$.head"}}
MANY = ONE | {"each": "$.countries[*]"}


def feed(options: dict[str, Any], url: str = "https://example.org/all.json") -> Feed:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Feed(1, "world", url, Trust.AUTO, 60, False, True, now, options=options)


def refuse(url: str) -> bytes:
    raise AssertionError(url)


def read(
    options: dict[str, Any], said: object, values: dict[str, str] | None = None, limit: int = 500
) -> Reading:
    page = Page("https://example.org/all.json", values=values or {})
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    poll = Poll(datetime(2026, 1, 1, tzinfo=UTC), limit, Pack({}, {}), refuse)
    return snapshot.read(feed(options), Fetched(page.url, body), page, poll)


def facts(options: dict[str, Any], *documents: object) -> list[list[RawFact | None]]:
    """Give the facts of each document, read one after the other."""
    values: dict[str, str] = {}
    told = []
    for said in documents:
        reading = read(options, said, values)
        values = dict(reading.values)
        told.append([entry.fact for entry in reading.entries])
    return told


def test_the_first_sight_of_a_document_changes_nothing() -> None:
    assert facts(ONE, {"name": "Utopia", "head": "Ada"}) == [[]]


def test_a_value_that_reads_otherwise_is_told_with_the_old_one() -> None:
    first, second = {"name": "Utopia", "head": "Ada"}, {"name": "Utopia", "head": "Bea"}

    told = facts(ONE, first, second, second)

    assert told == [[], [RawFact("Utopia", "head_of_state", "Bea", old="Ada")], []]


def test_a_value_that_vanishes_and_comes_back_is_no_change() -> None:
    there, gone = {"name": "Utopia", "head": "Ada"}, {"name": "Utopia"}

    assert facts(ONE, there, gone, there) == [[], [], []]


def test_a_list_of_ever_other_things_does_not_fill_the_memory() -> None:
    values: dict[str, str] = {}
    for n in range(30):
        countries = [{"name": f"Utopia {n} {m}", "head": "Ada"} for m in range(10)]
        values = dict(read(MANY, {"countries": countries}, values, limit=1).values)

    assert len(values) == 100
    assert "Utopia 29 9/head_of_state" in " ".join(values)


def test_a_value_of_very_many_parts_is_cut_like_every_text() -> None:
    options = ONE | {"relations": {"head_of_state": "$.heads[*]"}}
    heads = [f"Ada {n}" for n in range(1000)]

    [value] = read(options, {"name": "Utopia", "heads": heads}).values.values()

    assert value.startswith("Ada 0; Ada 1; ")
    assert len(value) <= 600


def test_a_document_of_far_too_many_things_is_refused_before_it_is_read() -> None:
    flood = {"countries": [{"name": "Utopia", "head": "Ada"}] * 301}

    with pytest.raises(SourceError, match="tells of 301 things"):
        read(MANY, flood, limit=3)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"countries":' * 100_000])
def test_a_document_that_is_nested_too_deep_is_refused(body: bytes) -> None:
    with pytest.raises(SourceError, match="is not JSON"):
        read(MANY, body)


def test_none_is_no_value() -> None:
    assert facts(ONE, {"name": "U", "head": "Ada"}, {"name": "U", "head": "none"}) == [[], []]


def test_a_new_thing_in_a_document_of_many_is_a_first_sight_too() -> None:
    ada, bea = {"name": "Utopia", "head": "Ada"}, {"name": "Arcadia", "head": "Bea"}
    eve = {"name": "Arcadia", "head": "Eve"}

    told = facts(MANY, {"countries": [ada]}, {"countries": [bea, ada]}, {"countries": [ada, eve]})

    assert told == [[], [], [RawFact("Arcadia", "head_of_state", "Eve", old="Bea")]]


def test_markup_and_character_references_are_no_part_of_a_value() -> None:
    said = {"name": "Utopia", "head": "<p>&Eacute;lisabeth&nbsp;<strong>BORNE</strong></p>\r\n"}

    assert list(read(ONE, said).values.values()) == ["Élisabeth BORNE"]


def test_a_subject_may_be_named_in_one_of_several_places() -> None:
    options = {"subject": ["$.short", "$.long"], "relations": {"head_of_state": "$.head"}}
    first = {"short": "none", "long": "Federated States of Micronesia", "head": "Ada"}

    told = facts(options, first, first | {"head": "Bea"})

    fact = told[1][0]
    assert fact is not None
    assert fact.subject == "Federated States of Micronesia"


def test_a_relation_may_have_a_subject_of_its_own() -> None:
    options = {
        "subject": "$.short",
        "relations": {"country_short_name": {"path": "$.short", "subject": "$.long"}},
    }
    first = {"short": "Swaziland", "long": "Kingdom of Eswatini"}

    told = facts(options, first, first | {"short": "Eswatini"})

    assert told[1] == [
        RawFact("Kingdom of Eswatini", "country_short_name", "Eswatini", old="Swaziland")
    ]


def test_a_gloss_that_is_longer_than_a_name_is_left_out_of_the_subject() -> None:
    long = "Svalbard (sometimes referred to as Spitsbergen, the largest island there)"

    named = [
        facts(ONE, {"name": name, "head": "A"}, {"name": name, "head": "B"})[1][0]
        for name in (long, "Congo (Brazzaville)")
    ]

    assert [fact and fact.subject for fact in named] == ["Svalbard", "Congo (Brazzaville)"]


def test_what_the_limit_cuts_off_is_told_by_the_next_poll() -> None:
    names = ["A", "B", "C"]
    first = {"countries": [{"name": name, "head": "x"} for name in names]}
    second = {"countries": [{"name": name, "head": "y"} for name in names]}
    values = dict(read(MANY, first).values)

    told = read(MANY, second, values, limit=2)
    rest = read(MANY, second, dict(told.values), limit=2)

    assert [len(told.entries), len(rest.entries)] == [2, 1]
    assert rest.entries[0].title == "C, head_of_state: y"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\x00", b"[" * 200_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(SourceError, match="feed world: is not JSON"):
        read(ONE, body)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "subject: must be a text"),
        ({"subject": "$.a"}, "relations: must be a table"),
        ({"subject": "$.a", "relations": {}}, "relations: maps nothing"),
        (ONE | {"subjekt": "$.a"}, r"mapping\.subjekt: unknown key"),
        (ONE | {"subject": "$.["}, "subject: '.*' is no JSONPath"),
        (ONE | {"relations": {"a": {"paht": "$.a"}}}, r"relations\.a\.paht: unknown key"),
        (ONE | {"values": ["a"]}, "want each other"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        snapshot.urls(feed(options))


def test_a_url_template_gives_one_url_for_each_value() -> None:
    options = ONE | {"values": ["europe/fr", "a b"]}

    found = snapshot.urls(feed(options, URL))

    assert found == ["https://example.org/europe/fr.json", "https://example.org/a%20b.json"]


def test_a_template_without_values_is_refused() -> None:
    with pytest.raises(SettingsError, match="want each other"):
        snapshot.urls(feed(ONE, URL))


def test_the_shipped_mapping_reads_the_factbook_as_it_was_published() -> None:
    mapping = tomllib.loads(packs.text("mappings/factbook.toml"))
    options = {key: mapping[key] for key in ("subject", "relations")}
    # of europe/fr.json, 2022-12-29
    said = {
        "Government": {
            "Country name": {
                "conventional long form": {"text": "French Republic"},
                "conventional short form": {"text": "France"},
            },
            "Government type": {"text": "semi-presidential republic"},
            "Capital": {"name": {"text": "Paris"}},
            "Executive branch": {
                "chief of state": {"text": "President Emmanuel MACRON (since 14 May 2017)"},
                "head of government": {
                    "text": "Prime Minister &Eacute;lisabeth BORNE (since 16 May 2022)"
                },
            },
        }
    }

    values = read(options, said).values

    assert {key.partition("#")[2]: value for key, value in values.items()} == {
        "head_of_state": "President Emmanuel MACRON (since 14 May 2017)",
        "head_of_government": "Prime Minister Élisabeth BORNE (since 16 May 2022)",
        "capital": "Paris",
        "government_type": "semi-presidential republic",
        "country_long_name": "French Republic",
        "country_short_name": "France",
    }


def test_every_relation_of_the_shipped_mapping_is_in_the_shipped_packs() -> None:
    mapping = tomllib.loads(packs.text("mappings/factbook.toml"))

    known = read_pack([packs.text(name) for name in packs.RELATIONS]).relations

    assert set(mapping["relations"]) <= set(known)
