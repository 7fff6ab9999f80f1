"""Feeds of many documents that are compared with what they said before, through the stages."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import pytest

from kdpo_daemon import packs
from kdpo_daemon.app import clock, silent
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import FeedKind, Trust
from kdpo_daemon.stages import Report
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import facts, feeds
from kdpo_daemon.store.db import Database
from tests.edges.feed_server import Answer, FeedServer, running, says
from tests.stages.test_cli import kdpo

PACK = read_pack([packs.text(name) for name in packs.RELATIONS])
RUTTE = "Prime Minister Mark RUTTE (since 14 October 2010)"
SCHOOF = "Prime Minister Dick SCHOOF (since 2 July 2024)"
ORBAN = "Prime Minister Viktor ORBAN (since 29 May 2010)"


def country(name: str, head: str) -> Answer:
    """Serve a country's document, with an ETag that is its content."""
    body = json.dumps({"name": name, "head": head}).encode()
    etag = f'"{hash(body)}"'

    def answer(to: BaseHTTPRequestHandler) -> None:
        same = to.headers.get("If-None-Match") == etag
        says(304 if same else 200, b"" if same else body, ETag=etag)(to)

    return answer


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with running() as site:
        site.answers["/nl.json"] = country("Netherlands", RUTTE)
        site.answers["/hu.json"] = country("Hungary", ORBAN)
        yield site


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    database.upgrade()
    yield database
    database.dispose()


@pytest.fixture
def polled(database: Database, server: FeedServer) -> Database:
    """Give the database after the first sight of both countries."""
    options = {
        "values": ["nl", "hu"],
        "subject": "$.name",
        "relations": {"head_of_government": "$.head"},
    }
    url = server.url("/{value}.json")
    with database.begin() as tx:
        feeds.add_feed(tx, "world", url, Trust.AUTO, 60, True, clock(), FeedKind.SNAPSHOT, options)
    assert poll(database).idle
    return database


def poll(database: Database) -> Report:
    ingest = Ingest(database, FetchPolicy(), PACK, clock, Random(0), silent)
    report = ingest.run("world")
    Accept(database, PACK, AcceptancePolicy(), clock).run()
    return report


def told(database: Database) -> list[tuple[str, str, str]]:
    with database.begin() as tx:
        return [(f.subject, f.old_object, f.object) for f in facts.list_facts(tx)]


def test_only_what_changed_after_the_first_sight_becomes_a_fact(
    polled: Database, server: FeedServer
) -> None:
    server.answers["/nl.json"] = country("Netherlands", SCHOOF)

    reports = [poll(polled), poll(polled)]

    assert told(polled) == [("Netherlands", "Mark Rutte", "Dick Schoof")]
    assert [report.counts.get("new", 0) for report in reports] == [1, 0]


def test_each_document_is_asked_for_with_its_own_validator(
    polled: Database, server: FeedServer
) -> None:
    server.seen.clear()

    poll(polled)

    asked = {one["path"]: one.get("If-None-Match") for one in server.seen}
    assert set(asked) == {"/nl.json", "/hu.json"}
    assert None not in asked.values()
    assert asked["/nl.json"] != asked["/hu.json"]


def test_a_new_office_holder_after_a_vacancy_is_compared_with_the_one_before_it(
    polled: Database, server: FeedServer
) -> None:
    for head in ("Prime Minister (vacant)", RUTTE, "Prime Minister (vacant)", SCHOOF):
        server.answers["/nl.json"] = country("Netherlands", head)
        poll(polled)

    assert told(polled) == [("Netherlands", "Mark Rutte", "Dick Schoof")]


def test_one_document_that_fails_does_not_stop_the_others(
    polled: Database, server: FeedServer
) -> None:
    server.answers["/nl.json"] = says(404)
    server.answers["/hu.json"] = country("Hungary", "Prime Minister Peter MAGYAR")

    report = poll(polled)

    assert told(polled) == [("Hungary", "Viktor Orban", "Peter Magyar")]
    assert "one of its 2 URLs failed: was answered with status 404" in report.problems[0]


def test_a_server_that_wants_a_pause_is_asked_nothing_more(
    polled: Database, server: FeedServer
) -> None:
    server.answers["/nl.json"] = says(429, Retry_After="60")
    server.seen.clear()

    poll(polled)

    assert [one["path"] for one in server.seen] == ["/nl.json"]


def test_a_feed_whose_options_no_longer_fit_fails_alone_with_a_remedy(
    polled: Database, server: FeedServer
) -> None:
    with polled.begin() as tx:
        url = server.url("/{value}.json")
        feeds.add_feed(tx, "world", url, Trust.AUTO, 60, True, clock(), FeedKind.SNAPSHOT, {})

    report = poll(polled)

    assert "feed world: subject: must be a text" in report.problems[0]


def test_the_command_line_adds_a_snapshot_by_the_name_of_a_shipped_mapping(
    tmp_path: Path,
) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")

    kdpo(tmp_path, "feeds", "add", "factbook", "--mapping", "factbook")

    (row,) = json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout)
    assert (row["kind"], row["url"][-12:]) == ("snapshot", "{value}.json")


@pytest.mark.parametrize(
    ("mapping", "words", "why"),
    [
        ('kind = "snapshot"', ["http://a/"], "subject: must be a text"),
        ('kind = "tidings"', ["http://a/"], "no such kind of feed. Kinds are feed, file"),
        ("kind =", ["http://a/"], "not valid TOML"),
        ('subject = "$"', ["http://a/"], "a feed has no option 'subject'"),
        ('kind = "snapshot"', [], "only http and https are polled"),
    ],
)
def test_the_command_line_refuses_a_mapping_that_cannot_be_used(
    tmp_path: Path, mapping: str, words: list[str], why: str
) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")
    (tmp_path / "own.toml").write_text(mapping, "utf-8")

    ended = kdpo(tmp_path, "feeds", "add", "x", *words, "--mapping", "own.toml", status=1)

    assert why in " ".join(ended.stderr.split())
    assert json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout) == []


def test_a_country_that_changes_its_name_takes_nothing_back(
    polled: Database, server: FeedServer
) -> None:
    server.answers["/nl.json"] = country("Netherlands", SCHOOF)
    poll(polled)
    jetten = "Prime Minister Rob JETTEN (since 23 February 2026)"
    for head in (SCHOOF, f"{SCHOOF}; note - in caretaker status", jetten):
        server.answers["/nl.json"] = country("Low Countries", head)
        poll(polled)

    assert told(polled) == [
        ("Low Countries", "Dick Schoof", "Rob Jetten"),
        ("Netherlands", "Mark Rutte", "Dick Schoof"),
    ]
