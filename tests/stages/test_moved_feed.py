"""A feed that has moved for good is asked there, and at its own URL if that fails."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import Feed, FeedKind, Trust
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database
from tests.edges.feed_server import FeedServer, running, says

PACK = read_pack([packs.text("relations.toml")])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RSS = b"<rss version='2.0'><channel><title>n</title><item><guid>1</guid></item></channel></rss>"


@dataclass
class Office:
    """A publisher that moves, and the stage that polls it day by day."""

    db: Database
    server: FeedServer
    day: int = 0

    def add(self) -> None:
        with self.db.begin() as tx:
            feeds.add_feed(tx, "news", self.server.url("/"), Trust.AUTO, 3600, True, NOW)

    def poll(self) -> list[str]:
        """Poll a day later; give the paths that were asked for."""
        self.day += 2
        self.server.seen.clear()
        policy = FetchPolicy(connect_s=2, read_s=5, total_s=10)
        at = NOW + timedelta(days=self.day)
        Ingest(self.db, policy, PACK, lambda: at, Random(1), lambda *_: None).run()
        return [seen["path"] for seen in self.server.seen]

    @property
    def feed(self) -> Feed:
        with self.db.begin() as tx:
            return feeds.get_feed(tx, "news")

    @property
    def moves(self) -> list[tuple[object, object]]:
        """What the audit log tells of moves, as paths."""
        with self.db.begin() as tx:
            told = [one.detail for one in audit.events(tx) if one.event == "feed.moved"]
        start = len(self.server.url(""))
        return [(str(one["from"])[start:], str(one["to"])[start:]) for one in told]


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    with running() as server:
        server.answers["/"] = says(301, Location="/moved")
        server.answers["/moved"] = says(308, Location="/new")
        server.answers["/new"] = says(200, RSS, ETag='"1"')
        made = Office(database, server)
        made.add()
        yield made


def test_a_move_is_put_down_told_once_and_followed_without_the_detour(office: Office) -> None:
    assert office.poll() == ["/", "/moved", "/new"]
    assert office.feed.moved_to == office.server.url("/new")
    office.server.answers["/new"] = says(304)

    assert [office.poll(), office.poll()] == [["/new"], ["/new"]]
    assert office.server.seen[0]["If-None-Match"] == '"1"'
    assert office.moves == [("/", "/new")]
    assert office.feed.moved_to == office.server.url("/new")
    assert office.feed.failures == 0


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_chain_with_one_passing_redirect_is_no_move(office: Office, status: int) -> None:
    office.server.answers["/moved"] = says(status, Location="/new")

    assert [office.poll(), office.poll()] == [["/", "/moved", "/new"]] * 2
    assert office.feed.moved_to is None
    assert office.moves == []


@pytest.mark.parametrize("status", [403, 404, 500, 429])
def test_a_move_to_an_answer_that_is_not_good_is_not_put_down(office: Office, status: int) -> None:
    office.server.answers["/new"] = says(status)

    office.poll()

    assert office.feed.moved_to is None
    assert office.moves == []


def test_a_move_to_what_cannot_be_read_is_not_put_down(office: Office) -> None:
    office.server.answers["/new"] = says(200, b"")

    office.poll()

    assert office.feed.moved_to is None


def test_a_move_to_what_is_gone_is_put_down_with_the_feed_disabled(office: Office) -> None:
    office.server.answers["/new"] = says(410)

    office.poll()

    assert office.feed.moved_to == office.server.url("/new")
    assert not office.feed.enabled
    assert office.moves == [("/", "/new")]
    assert office.poll() == []


def test_where_the_new_address_fails_the_configured_one_is_asked_in_the_same_poll(
    office: Office,
) -> None:
    office.poll()
    office.server.answers["/new"] = says(404)
    office.server.answers["/moved"] = says(301, Location="/newer")
    office.server.answers["/newer"] = says(200, RSS)

    assert office.poll() == ["/new", "/", "/moved", "/newer"]
    assert "If-None-Match" not in office.server.seen[1]  # that was the other server's
    assert office.feed.failures == 0
    assert office.poll() == ["/newer"]
    assert office.moves == [("/", "/new"), ("/new", "/newer")]


def test_a_feed_that_is_back_at_its_configured_address_is_asked_there(office: Office) -> None:
    office.poll()
    office.server.answers["/new"] = says(410)
    office.server.answers["/"] = says(200, RSS)

    assert office.poll() == ["/new", "/"]
    assert office.feed.enabled
    assert office.feed.moved_to is None
    assert office.poll() == ["/"]
    assert office.moves == [("/", "/new"), ("/new", "/")]


def test_a_feed_that_redirects_back_for_good_has_not_moved(office: Office) -> None:
    office.poll()
    office.server.answers["/new"] = says(301, Location="/")
    office.server.answers["/"] = says(200, RSS)

    assert office.poll() == ["/new", "/"]
    assert office.feed.moved_to is None


def test_after_a_poll_that_failed_the_configured_address_is_asked_first(office: Office) -> None:
    office.poll()
    office.server.answers["/new"] = says(200, b"a parked domain")

    assert office.poll() == ["/new"]
    assert office.feed.failures == 1
    assert office.poll() == ["/", "/moved", "/new"]


def test_a_new_address_that_asks_for_patience_is_not_gone_around(office: Office) -> None:
    office.poll()
    office.server.answers["/new"] = says(429, Retry_After="60")

    assert office.poll() == ["/new"]
    assert office.feed.moved_to == office.server.url("/new")


def test_a_feed_that_is_added_again_is_asked_where_it_was_added(office: Office) -> None:
    office.poll()

    office.add()

    assert office.feed.moved_to is None
    assert office.poll() == ["/", "/moved", "/new"]


def test_a_move_into_a_private_network_is_refused_then_as_before(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.poll()
    monkeypatch.setattr("kdpo_daemon.feeds.network.is_allowed", lambda *_, **__: False)

    assert office.poll() == []
    assert "not public" in str(office.feed.last_error)


def test_the_documents_of_a_feed_of_many_do_not_move_it(office: Office) -> None:
    options = {"subject": "$.n", "relations": {"capital": "$.c"}, "values": ["a"]}
    url, kind = office.server.url("/{value}"), FeedKind.SNAPSHOT
    with office.db.begin() as tx:
        feeds.add_feed(tx, "many", url, Trust.AUTO, 3600, True, NOW, kind, options)
    office.server.answers["/a"] = says(301, Location="/b")
    office.server.answers["/b"] = says(200, b'{"n": "Utopia", "c": "Amaurot"}')

    office.poll()

    with office.db.begin() as tx:
        assert feeds.get_feed(tx, "many").moved_to is None
