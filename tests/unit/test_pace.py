"""How long a feed is left alone: by how often it changes, in bounds, and as its server wishes."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.feeds.pace import next_interval, next_poll
from kdpo_daemon.records.intake import Feed, FeedKind, Fetched, Trust

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
POLICY = FetchPolicy()
FEED = Feed(1, "news", "http://a/", Trust.AUTO, 3600, True, True, NOW, last_polled_at=NOW)
SAME = Fetched("u", None)


@pytest.mark.parametrize(
    ("every_s", "interval_s", "news", "then"),
    [
        (3600, None, False, 4500),
        (3600, None, True, 1800),
        (3600, 1800, True, 1800),
        (3600, 1800, False, 2250),
        (3600, 13000, False, 14400),
        (3600, 14400, False, 14400),
        (3600, 14400, True, 7200),
        (1, 1, False, 2),
        (1, None, True, 1),
        (43200, 80000, False, 86400),
        (7 * 86400, None, False, 7 * 86400),
        (7 * 86400, None, True, 302400),
    ],
)
def test_an_interval_halves_with_news_and_grows_by_a_quarter_without(
    every_s: int, interval_s: int | None, news: bool, then: int
) -> None:
    feed = replace(FEED, every_s=every_s, interval_s=interval_s)

    assert next_interval(feed, POLICY, news=news) == then


def test_the_first_poll_says_nothing_about_how_often_a_feed_changes() -> None:
    first = replace(FEED, last_polled_at=None)

    assert next_interval(first, POLICY, news=True) == 3600


def test_a_folder_is_looked_at_as_configured() -> None:
    folder = replace(FEED, kind=FeedKind.FILE, interval_s=7200)

    assert [next_interval(folder, POLICY, news=news) for news in (True, False)] == [3600, 3600]


@pytest.mark.parametrize(
    ("every_s", "interval_s", "failures", "outcome", "hours"),
    [
        (3600, None, 0, SAME, 1),
        (3600, 1800, 0, SAME, 0.5),
        (3600, 14400, 0, SAME, 4),
        (3600, 1800, 0, replace(SAME, max_age=7200), 2),
        (3600, 14400, 0, replace(SAME, max_age=7200), 4),
        (3600, None, 0, replace(SAME, max_age=60), 1),
        (3600, None, 0, replace(SAME, max_age=10**9), 24),
        (7 * 86400, None, 0, SAME, 168),
        (7 * 86400, 302400, 0, SAME, 84),
        (3600, None, 0, SourceError("x"), 1),
        (3600, 1800, 0, SourceError("x"), 1),
        (3600, 14400, 0, SourceError("x"), 4),
        (3600, None, 1, SourceError("x"), 2),
        (3600, None, 4, SourceError("x"), 16),
        (3600, None, 5, SourceError("x"), 24),
        (3600, None, 9999, SourceError("x"), 24),
        (3600, None, 0, SourceError("x", retry_after=7200), 2),
        (3600, None, 3, SourceError("x", retry_after=7200), 8),
        (3600, None, 0, SourceError("x", retry_after=10**9), 24),
        (7 * 86400, None, 3, SourceError("x"), 168),
    ],
)
def test_the_next_poll_waits_for_the_longest_wish_within_bounds(
    every_s: int,
    interval_s: int | None,
    failures: int,
    outcome: Fetched | SourceError,
    hours: float,
) -> None:
    feed = replace(FEED, every_s=every_s, interval_s=interval_s, failures=failures)

    times = [next_poll(feed, outcome, POLICY, NOW, random.Random(seed)) for seed in range(50)]

    wait = timedelta(hours=hours)
    assert NOW + wait <= min(times) < max(times) <= NOW + 1.1 * wait
