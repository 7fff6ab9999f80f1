"""JSON Feed 1.0 and 1.1, good, odd and hostile, with the facts that items may carry."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Entry, Fetched, RawFact

FACT: dict[str, Any] = {
    "subject": "Netherlands",
    "relation": "head_of_government",
    "old": "Prime Minister Mark RUTTE (since 14 October 2010)",
    "new": "Prime Minister Dick SCHOOF (since 2 July 2024)",
    "valid_from": "2024-07-02",
}
ITEM = {
    "id": "1",
    "url": "https://example.org/1",
    "title": "New premier",
    "content_text": "Dick Schoof it is.",
    "date_published": "2024-07-04T10:00:00+02:00",
    "_kdpo": FACT,
}


def feed(*items: object, version: str = "https://jsonfeed.org/version/1.1") -> str:
    return json.dumps({"version": version, "title": "News", "items": items})


def read(document: str | bytes, most: int = 500) -> list[Entry]:
    body = document.encode() if isinstance(document, str) else document
    return entries_of("news", Fetched("http://example.org/feed.json", body), most)


@pytest.mark.parametrize("version", ["1", "1.0", "1.1"])
def test_an_item_is_read_with_its_fact(version: str) -> None:
    (entry,) = read(feed(ITEM, version=f"https://jsonfeed.org/version/{version}"))

    assert entry == Entry(
        key="1",
        title="New premier",
        link="https://example.org/1",
        published_at=datetime(2024, 7, 4, 8, tzinfo=UTC),
        summary="Dick Schoof it is.",
        fact=RawFact(**FACT),
        content_hash=entry.content_hash,
    )


def test_the_same_entry_in_atom_and_json_reads_alike() -> None:
    elements = [(name.replace("_", "-"), value) for name, value in FACT.items()]
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:kdpo="urn:kdpo:facts:1"><title>N</title>'
        "<id>urn:n</id><entry><id>1</id><title>New premier</title>"
        "<link href='https://example.org/1'/><published>2024-07-04T10:00:00+02:00</published>"
        "<summary>Dick Schoof it is.</summary>"
        + "".join(f"<kdpo:{name}>{value}</kdpo:{name}>" for name, value in elements)
        + "</entry></feed>"
    )

    assert read(atom) == read(feed(ITEM))


@pytest.mark.parametrize("missing", ["subject", "relation", "new"])
def test_a_fact_needs_subject_relation_and_new(missing: str) -> None:
    part = {name: value for name, value in FACT.items() if name != missing}

    assert read(feed(ITEM | {"_kdpo": part}))[0].fact is None


@pytest.mark.parametrize("odd", [None, [], "x", 7, {"subject": ["x"], "relation": {}, "new": 1}])
def test_an_extension_of_another_shape_is_no_fact(odd: object) -> None:
    assert read(feed(ITEM | {"_kdpo": odd}))[0].fact is None


def test_what_an_item_lacks_is_left_empty() -> None:
    (entry,) = read(feed({"id": 7}))

    assert (entry.key, entry.title, entry.link, entry.published_at) == ("7", "", "", None)


def test_an_item_without_an_id_is_known_by_its_link() -> None:
    assert read(feed({"url": "https://example.org/1"}))[0].key == "https://example.org/1"


def test_what_is_no_item_is_passed_over() -> None:
    assert [entry.key for entry in read(feed("x", None, {"id": "1"}, [1]))] == ["1"]


def test_html_becomes_text_and_text_stays_what_it_is() -> None:
    html = "<p>Say <script>alert(1)</script><b>hi</b> &amp; go</p>"

    (first, second) = read(
        feed({"id": "1", "content_html": html}, {"id": "2", "content_text": "1 < 2 > 0 &amp;"})
    )

    assert (first.summary, second.summary) == ("Say hi & go", "1 < 2 > 0 &amp;")


def test_only_web_links_are_kept() -> None:
    links = ["javascript:alert(1)", "file:///etc/passwd", "/news/1"]

    read_links = [entry.link for entry in read(feed(*({"id": k, "url": k} for k in links)))]

    assert read_links == ["", "", "http://example.org/news/1"]


@pytest.mark.parametrize("date", ["yesterday", "", "9999-99-99", "0001-01-01T00:00:00+23:59"])
def test_a_date_that_cannot_be_read_is_none(date: str) -> None:
    assert read(feed(ITEM | {"date_published": date}))[0].published_at is None


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "{}",
        '{"version": "https://jsonfeed.org/version/2", "items": []}',
        '{"version": "https://jsonfeed.org/version/1.1"}',
        '{"version": "https://jsonfeed.org/version/1.1", "items": {}}',
        '{"a":' * 100_000,
        '{"version": ' + "9" * 10_000 + "}",
        b'{"title": "\xff"}',
    ],
    ids=["cut", "empty", "version 2", "no items", "items", "deep", "number", "encoding"],
)
def test_what_is_no_json_feed_is_refused(document: str | bytes) -> None:
    with pytest.raises(SourceError, match="not a feed") as refused:
        read(document)

    assert refused.value.hint


def test_items_whose_ids_collide_are_all_read() -> None:
    entries = read(feed(ITEM, ITEM | {"title": "another"}))

    assert [entry.title for entry in entries] == ["New premier", "another"]
    assert entries[0].key != entries[1].key


def test_of_many_items_the_first_are_read() -> None:
    items = [{"id": str(n)} for n in range(300)]

    assert [entry.key for entry in read(feed(*items), most=3)] == ["0", "1", "2"]


def test_the_child_gives_the_same_entries() -> None:
    fetched = Fetched("http://example.org/", ("\ufeff" + feed(ITEM)).encode(), "application/json")

    assert parse("news", fetched, 500) == read(feed(ITEM))


def test_the_example_in_the_documentation_is_read() -> None:
    text = (Path(__file__).parents[2] / "docs" / "feed-format.md").read_text("utf-8")
    document = text.split('```json\n{\n  "version"')[1].split("```")[0]

    (entry,) = read('{\n  "version"' + document)

    assert entry.fact == RawFact(
        subject="Ireland",
        relation="head_of_state",
        new="President Catherine CONNOLLY (since 11 November 2025)",
        old="President Michael D. HIGGINS (since 11 November 2011)",
    )
