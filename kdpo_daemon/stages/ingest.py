"""Due feeds -> entries and their claims, several feeds at once.

One feed's failure is that feed's alone, except that a server which asks for fewer requests is
left alone with all its feeds.  A line or file that is refused does not even stop its own feed.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.lines import read_file
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, host_of
from kdpo_daemon.feeds.pace import next_interval, next_poll
from kdpo_daemon.feeds.poller import Failed, PageRead, Polled, Poller
from kdpo_daemon.feeds.rounds import Round
from kdpo_daemon.records.intake import Feed, FeedKind, Fetched, Page, Trust
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds, pages
from kdpo_daemon.store.db import Database, Session

#: Refusals of one poll that are told one by one.
_TOLD = 20
#: What was read of a followed page is kept for so long: a change that was seen on it then may
#: be named only later, and would else be compared with what it replaced.
_KEPT = timedelta(days=7)


@dataclass(frozen=True)
class Ingest:
    """The stage with what it works on."""

    db: Database
    policy: FetchPolicy
    pack: Pack
    clock: Clock
    rng: Random
    progress: Progress

    def run(self, only: str | None = None) -> Report:
        """Poll every feed that is due, or the one named `only` whether due or not."""
        with self.db.begin() as tx:
            due = [feeds.get_feed(tx, only)] if only else feeds.due_feeds(tx, self.clock())
        if only and due[0].kind == FeedKind.WEBHOOK:
            hint = "its publisher posts to it, see docs/feeds.md"
            raise SourceError("is not polled", subject=f"feed {only}", hint=hint)
        counts: Counter[str] = Counter()
        problems: list[str] = []
        round_: Round[Polled] = Round(due)
        for polled in round_.results(self._task, self.policy.at_once):
            self.progress(f"polled {polled.feed.name}", round_.done, len(due))
            brought: Counter[str] = Counter()
            for page in polled.pages:
                brought += self._record(polled.feed, page, bool(brought))
            counts += brought
            for failed in polled.failed:
                if failed.followed and not failed.error.busy:
                    self._put_back(polled.feed, failed)
            if polled.refused or polled.gone:
                problems += self._refused(polled)
                counts["refused"] += len(polled.refused)
            if polled.error:
                counts["failed"] += 1
                counts["paused"] += self._failed(polled, polled.error, round_)
                problems.append(str(polled.error))
        return Report("ingest", dict(counts), tuple(problems))

    def _task(self, feed: Feed) -> Callable[[], Polled]:
        with self.db.begin() as tx:
            known = pages.pages_of(tx, feed.id)
        return partial(Poller(self.policy, self.pack, self.clock).poll, feed, known)

    def _record(self, feed: Feed, read: PageRead, news: bool) -> Counter[str]:
        """Put down a document; `news`: those of the poll before it brought something."""
        now, fetched, at = self.clock(), read.fetched, feed.next_poll_at
        # the feed's own row knows the validators of its one document
        simple = read.page == Page(feed.url, fetched.etag, fetched.last_modified)
        page = None if simple else read.page
        with self.db.begin() as tx:
            counts = feeds.record_poll(tx, feed.id, fetched, read.said, now, at, page)
            if read.page.url == feed.url:
                self._moved(tx, feed, fetched.moved_to)
            pages.want(tx, feed.id, read.follow)
            if read.last:
                self._set_pace(tx, feed, fetched, news or bool(counts.new or counts.changed))
                pages.forget_idle(tx, feed.id, now - _KEPT)
            if counts.new or counts.changed:
                detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
                audit.record(tx, "daemon", "feed.polled", f"feed:{feed.name}", detail, now)
        return Counter(new=counts.new, changed=counts.changed)

    def _set_pace(self, tx: Session, feed: Feed, fetched: Fetched, news: bool) -> None:
        paced = replace(feed, interval_s=next_interval(feed, self.policy, news=news))
        at = next_poll(paced, fetched, self.policy, self.clock(), self.rng)
        feeds.set_pace(tx, feed.id, paced.pace_s, at)

    def _moved(self, tx: Session, feed: Feed, to: str | None) -> None:
        """Put down where a feed has moved for good; tell it if that is new."""
        if feeds.move(tx, feed.id, to):
            detail: dict[str, object] = {"from": feed.moved_to or feed.url, "to": to or feed.url}
            audit.record(tx, "daemon", "feed.moved", f"feed:{feed.name}", detail, self.clock())

    def _put_back(self, feed: Feed, failed: Failed) -> None:
        """Let a followed page come after the others, or forget it if it is not there any more."""
        with self.db.begin() as tx:
            pages.forget(tx, feed.id, [failed.page.url])
            if not failed.is_lost:
                pages.want(tx, feed.id, [failed.page])

    def _refused(self, polled: Polled) -> list[str]:
        """Put down what was refused; give it in words, of very much only the beginning."""
        told = [f"feed {polled.feed.name}: {one}" for one in polled.refused[:_TOLD]]
        more = len(polled.refused) - len(told)
        if more:
            told.append(f"feed {polled.feed.name}: {more} more are refused")
        with self.db.begin() as tx:
            pages.forget(tx, polled.feed.id, polled.gone)
            if told:
                feeds.complain(
                    tx, polled.feed.id, f"{polled.refused[0]} (1 of {len(polled.refused)})"
                )
        return told

    def _failed(self, polled: Polled, error: SourceError, round_: Round[Polled]) -> int:
        """Put down a failure; give how many more feeds of the host are put off because of it."""
        feed, now = polled.feed, self.clock()
        at = next_poll(feed, error, self.policy, now, self.rng)
        with self.db.begin() as tx:
            feeds.record_failure(tx, feed.id, str(error), now, at, disable=error.gone)
            paused = self._pause(tx, feed, error, round_) if error.busy else 0
            if error.gone:
                if error.moved_to and polled.failed[0].page.url == feed.url:
                    self._moved(tx, feed, error.moved_to)
                detail: dict[str, object] = {"why": error.message}
                audit.record(tx, "daemon", "feed.disabled", f"feed:{feed.name}", detail, now)
        return paused

    def _pause(self, tx: Session, feed: Feed, error: SourceError, round_: Round[Polled]) -> int:
        """Leave a whole host alone: what waits in this round, and what is not due yet."""
        host = host_of(feed)
        round_.drop(host)
        others = [one for one in feeds.list_feeds(tx) if one.enabled and host_of(one) == host]
        # before this one's own next turn, which may be refused again
        wish = min(error.retry_after or feed.every_s, self.policy.longest_wait_s)
        until = self.clock() + timedelta(seconds=wish)
        return feeds.pause(tx, [one.id for one in others if one.id != feed.id], until)


def take_lines(db: Database, name: str, body: bytes, pack: Pack, actor: str, clock: Clock) -> int:
    """Take facts from JSONL, or from CSV; the same path as a feed's entries.  Gives the new ones.

    Raises:
        RefusedError: naming the first line that cannot be read; then nothing was taken.

    """
    lines = read_file(name, body, most=body.count(b"\n") + 1)
    if lines.refused:
        raise lines.refused[0]
    now = clock()
    with db.begin() as tx:
        feed = feeds.import_feed(tx, name, Trust.AUTO, now)
        fetched = Fetched(url=feed.url, body=body, content_type="application/jsonl")
        claims = [(entry, claims_of(entry, pack)) for entry in lines.entries]
        counts = feeds.record_poll(tx, feed.id, fetched, claims, now, now)
        detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
        audit.record(tx, actor, "facts.imported", f"feed:{name}", detail, now)
    return counts.new + counts.changed
