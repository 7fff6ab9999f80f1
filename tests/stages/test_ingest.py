"""Many feeds in one pass: side by side, but no host is asked twice at once or against its will."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from random import Random

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.feeds.rounds import Round
from kdpo_daemon.records.intake import Feed, FeedKind, Trust
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import feeds
from kdpo_daemon.store.db import Database
from tests.edges.feed_server import Answer, FeedServer, running, says

PACK = read_pack([packs.text("relations.toml")])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RSS = b"<rss version='2.0'><channel><title>n</title><item><guid>1</guid></item></channel></rss>"
FEED = Feed(1, "a", "http://a.example/", Trust.AUTO, 3600, True, True, NOW)


@dataclass
class Press:
    """Three servers and the stage that polls them."""

    db: Database
    servers: list[FeedServer]

    def publish(self, server: int, path: str, answer: Answer | None = None) -> None:
        self.servers[server].answers[path] = answer or says(200, RSS)
        name = f"{server}{path}"
        with self.db.begin() as tx:
            feeds.add_feed(tx, name, self.servers[server].url(path), Trust.AUTO, 3600, True, NOW)

    def poll(self, now: datetime = NOW, at_once: int = 4) -> dict[str, int]:
        policy = FetchPolicy(connect_s=2, read_s=5, total_s=10, at_once=at_once)
        stage = Ingest(self.db, policy, PACK, lambda: now, Random(1), lambda *_: None)
        return {what: n for what, n in stage.run().counts.items() if n}

    def feeds(self) -> dict[str, Feed]:
        with self.db.begin() as tx:
            return {feed.name: feed for feed in feeds.list_feeds(tx)}


@pytest.fixture
def press(database: Database) -> Iterator[Press]:
    with ExitStack() as stack:
        yield Press(database, [stack.enter_context(running()) for _ in range(3)])


def test_every_due_feed_is_polled_and_one_failure_is_its_own(press: Press) -> None:
    for server in range(3):
        press.publish(server, "/one")
        press.publish(server, "/two")
    press.publish(1, "/broken", says(500))
    press.publish(2, "/empty", says(200, b""))

    assert press.poll() == {"new": 6, "failed": 2}
    assert [name for name, feed in press.feeds().items() if feed.failures] == [
        "1/broken",
        "2/empty",
    ]
    assert press.poll() == {}


@pytest.mark.parametrize("where", ["urls", "read"])
def test_a_kind_that_fails_in_a_way_of_its_own_does_not_stop_the_other_feeds(
    press: Press, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fails(*_: object) -> None:
        raise RecursionError("too deep for it")

    press.publish(0, "/good")
    press.publish(1, "/bad")
    with press.db.begin() as tx:
        url, kind = press.servers[1].url("/bad"), FeedKind.SNAPSHOT
        options = {"subject": "$.name", "relations": {"capital": "$.capital"}}
        feeds.add_feed(tx, "other", url, Trust.AUTO, 3600, True, NOW, kind, options)
    monkeypatch.setattr(f"kdpo_daemon.feeds.kinds.snapshot.{where}", fails)

    assert press.poll() == {"new": 2, "failed": 1}
    assert "RecursionError: too deep for it" in str(press.feeds()["other"].last_error)


def test_a_server_that_asks_for_patience_is_left_alone_with_all_its_feeds(press: Press) -> None:
    press.publish(0, "/a", says(429, Retry_After="7200"))
    for path in ("/b", "/c", "/d"):
        press.publish(0, path)
        press.publish(1, path)

    assert press.poll() == {"new": 3, "failed": 1, "paused": 3}
    assert [seen["path"] for seen in press.servers[0].seen] == ["/a"]
    paused = {name: feed for name, feed in press.feeds().items() if name.startswith("0")}
    assert min(feed.next_poll_at for feed in paused.values()) >= NOW + timedelta(hours=2)
    assert [feed.failures for feed in paused.values()] == [1, 0, 0, 0]
    assert press.poll(NOW + timedelta(days=1)) == {"new": 3, "failed": 1, "paused": 3}


def test_a_server_that_asks_for_patience_is_left_alone_with_feeds_that_are_not_due_yet(
    press: Press,
) -> None:
    press.publish(0, "/b")
    press.publish(1, "/b")
    press.poll()
    press.publish(0, "/a", says(503, Retry_After="7200"))

    assert press.poll() == {"failed": 1, "paused": 1}
    polls = {name: feed.next_poll_at for name, feed in press.feeds().items()}
    assert polls["0/b"] == NOW + timedelta(hours=2)
    assert polls["1/b"] < NOW + timedelta(hours=2)


def test_a_feed_is_polled_as_often_as_it_changes(press: Press) -> None:
    press.publish(0, "/a")
    intervals: list[int | None] = []
    for day, body in enumerate((RSS, RSS, RSS, RSS.replace(b"1</", b"2</"), b"", RSS)):
        press.servers[0].answers["/a"] = says(200, body)
        press.poll(NOW + timedelta(days=day))
        intervals.append(press.feeds()["0/a"].interval_s)

    assert intervals == [3600, 4500, 5625, 2812, 2812, 3515]
    wait = press.feeds()["0/a"].next_poll_at - NOW - timedelta(days=5)
    assert timedelta(seconds=3515) <= wait <= timedelta(seconds=1.1 * 3515)


def test_news_of_any_document_of_a_feed_is_news(press: Press) -> None:
    options = {"subject": "$.n", "relations": {"capital": "$.c"}, "values": ["a", "b"]}
    url, kind = press.servers[0].url("/{value}"), FeedKind.SNAPSHOT
    with press.db.begin() as tx:
        feeds.add_feed(tx, "many", url, Trust.AUTO, 3600, True, NOW, kind, options)
    press.servers[0].answers["/b"] = says(200, b'{"n": "Ruritania", "c": "Strelsau"}')
    for day, capital in enumerate((b"Amaurot", b"Aircastle")):
        press.servers[0].answers["/a"] = says(200, b'{"n": "Utopia", "c": "%s"}' % capital)
        press.poll(NOW + timedelta(days=day))

    assert press.feeds()["many"].interval_s == 1800


def test_another_interval_starts_the_pace_anew(press: Press) -> None:
    press.publish(0, "/a")
    press.poll()
    press.poll(NOW + timedelta(days=1))

    press.publish(0, "/a")
    assert press.feeds()["0/a"].pace_s == 4500
    with press.db.begin() as tx:
        url = press.servers[0].url("/a")
        changed = feeds.add_feed(tx, "0/a", url, Trust.AUTO, 60, True, NOW)
    assert changed.pace_s == 60


def test_a_server_that_is_broken_is_asked_for_its_other_feeds(press: Press) -> None:
    press.publish(0, "/a", says(500))
    press.publish(0, "/b")

    assert press.poll() == {"new": 1, "failed": 1}


def test_of_one_host_there_is_one_request_at_a_time_and_of_several_more(press: Press) -> None:
    lock = threading.Lock()
    now: list[str] = []
    most: list[list[str]] = []

    def slow(to: BaseHTTPRequestHandler) -> None:
        with lock:
            now.append(to.headers["Host"])
            most.append(list(now))
        time.sleep(0.2)
        with lock:
            now.remove(to.headers["Host"])
        says(200, RSS)(to)

    for path in ("/a", "/b", "/c"):
        for server in range(3):
            press.publish(server, path, slow)

    press.poll(at_once=4)

    assert all(len(set(hosts)) == len(hosts) for hosts in most)
    assert max(len(hosts) for hosts in most) > 1


def test_no_more_is_asked_for_than_is_taken() -> None:
    due = [replace(FEED, id=n, url=f"http://{n}.example/") for n in range(1000)]
    asked: list[int] = []

    def task(feed: Feed) -> Callable[[], bytes]:
        asked.append(feed.id)
        return lambda: b"x" * 1000

    waiting: Round[bytes] = Round(due)
    results = waiting.results(task, at_once=5)
    taken = [next(results) for _ in range(100)]

    assert len(asked) <= 100 + 5
    assert waiting.done >= len(taken)
    assert len(list(results)) == 900
    assert sorted(asked) == list(range(1000))
