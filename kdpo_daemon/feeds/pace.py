"""How long a feed is left alone: the interval that its changes suggest, and when it is due.

Pure but for the jitter, which is handed in.
"""

import math
import random
from datetime import datetime, timedelta

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import Feed, FeedKind, Fetched

#: A feed is polled at most so many times as often as its `every_s` says, and as seldom.
_FASTER, _SLOWER = 2, 4


def next_interval(feed: Feed, policy: FetchPolicy, *, news: bool) -> int:
    """Give the seconds between polls after one that went well, and brought something or nothing.

    Half as long after news, a quarter longer after none, from half to four times `every_s`.  The
    first poll tells nothing, all is new to it; and to look at a folder disturbs nobody.
    """
    if feed.last_polled_at is None or feed.kind == FeedKind.FILE:
        return feed.every_s
    shortest = max(1, feed.every_s // _FASTER)
    longest = max(feed.every_s, min(feed.every_s * _SLOWER, policy.longest_wait_s))
    wish = feed.pace_s // 2 if news else math.ceil(feed.pace_s * 1.25)
    return min(max(wish, shortest), longest)


def next_poll(
    feed: Feed,
    outcome: Fetched | SourceError,
    policy: FetchPolicy,
    now: datetime,
    jitter: random.Random,
) -> datetime:
    """Say when to poll next.

    After a success: the feed's interval, or the publisher's max-age if that is longer.  After a
    failure: the interval, or if longer `every_s` doubled for each failure in a row
    (`feed.failures` without this one), or Retry-After.  Up to a tenth more, so that feeds do not
    stay in step.
    """
    if isinstance(outcome, SourceError):
        wait = max(feed.pace_s, feed.every_s * 2.0 ** min(feed.failures, 16))
        wish = outcome.retry_after
    else:
        wait, wish = feed.pace_s, outcome.max_age
    bounded = min(max(wait, wish or 0), max(feed.every_s, policy.longest_wait_s))
    return now + timedelta(seconds=bounded * (1 + jitter.uniform(0, 0.1)))
