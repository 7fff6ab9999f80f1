"""Due feeds -> entries and their claims, several feeds at once.

One feed's failure is that feed's alone, except that a server which asks for fewer requests is
left alone with all its feeds.  A line or file that is refused does not even stop its own feed.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random

from kdpo_daemon.errors import RefusedError, SettingsError, SourceError
from kdpo_daemon.facts.by_pattern import claims_by_pattern
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.lines import read_file
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch, host_of, next_poll
from kdpo_daemon.feeds.folder import fetch_file, path_of
from kdpo_daemon.feeds.kinds import Kind, Reading
from kdpo_daemon.feeds.registry import kind_named
from kdpo_daemon.feeds.rounds import Round
from kdpo_daemon.records.intake import (
    Claim,
    Entry,
    Extract,
    Feed,
    FeedKind,
    Fetched,
    Page,
    Trust,
)
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database, Session

#: A feed of many URLs is left until its next poll after this many of them failed.
_GIVE_UP = 3
#: Refusals of one poll that are told one by one.
_TOLD = 20


@dataclass(frozen=True)
class PageRead:
    """One document of a feed, what it asserts, and what to remember of its page."""

    fetched: Fetched
    said: tuple[tuple[Entry, list[Claim]], ...]
    page: Page
    last: bool  #: of the feed's documents; the next poll is counted from it
    refused: Sequence[RefusedError] = ()


@dataclass(frozen=True)
class Polled:
    """What a feed gave: its documents, what was refused, and the first error if there was one."""

    feed: Feed
    pages: tuple[PageRead, ...] = ()
    error: SourceError | None = None
    refused: tuple[RefusedError, ...] = ()
    gone: tuple[str, ...] = ()  #: URLs of files that are not there any more


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
            for page in polled.pages:
                counts += self._record(polled.feed, page)
            if polled.refused or polled.gone:
                problems += self._refused(polled)
                counts["refused"] += len(polled.refused)
            if polled.error:
                counts["failed"] += 1
                counts["paused"] += self._failed(polled.feed, polled.error, round_)
                problems.append(str(polled.error))
        return Report("ingest", dict(counts), tuple(problems))

    def _task(self, feed: Feed) -> Callable[[], Polled]:
        with self.db.begin() as tx:
            known = feeds.pages_of(tx, feed.id)
        return partial(self._poll, feed, known)

    def _poll(self, feed: Feed, known: Mapping[str, Page]) -> Polled:
        """Fetch and read; runs beside others, so it touches neither database nor chance."""
        try:
            kind, urls = _kind(feed)
        except SourceError as error:
            return Polled(feed, error=error)
        if feed.kind != FeedKind.FILE:
            return self._poll_urls(feed, kind, urls, known)
        # what is new comes first, the folder itself last
        urls.sort(key=lambda url: (url == feed.url, url in known))
        polled = self._poll_urls(feed, kind, urls, known, self.policy.max_bytes)
        return replace(polled, gone=tuple(known.keys() - urls))

    def _poll_urls(
        self,
        feed: Feed,
        kind: Kind,
        urls: list[str],
        known: Mapping[str, Page],
        room: float = math.inf,
    ) -> Polled:
        """Read one URL after another; beyond `room` bytes the feed stays due, and is read on."""
        read: list[PageRead] = []
        failed: list[SourceError] = []
        refused: list[RefusedError] = []
        for place, url in enumerate(urls, 1):
            page = known.get(url) or Page(url, feed.etag, feed.last_modified)
            try:
                new = self._read(feed, kind, page, last=place == len(urls))
                read += new
                room -= sum(len(one.fetched.body or b"") for one in new)
            except RefusedError as error:
                refused.append(error)
            except SourceError as error:
                failed.append(error)
                if error.busy or len(failed) == _GIVE_UP:
                    break
            if room < 0:
                break
        refused += [one for page in read for one in page.refused]
        return Polled(feed, tuple(read), _first(failed, urls), tuple(refused))

    def _read(self, feed: Feed, kind: Kind, page: Page, *, last: bool) -> list[PageRead]:
        fetched = self._fetch(feed, page)
        if fetched.body is None and not last:
            return []  # nothing to put down; the last URL sets the time of the next poll
        reading = Reading([], page.values)
        if fetched.body is not None:
            limit = self.policy.max_entries
            reading = kind.read(feed, fetched, page, limit, lambda url: self._ask(feed, url))
        said = tuple((entry, self._claims(feed, entry)) for entry in reading.entries)
        after = Page(page.url, values=_kept(reading.values, said, page))
        if not reading.refused:  # else it is asked for anew, and told of again
            after = replace(after, etag=fetched.etag, last_modified=fetched.last_modified)
        return [PageRead(fetched, said, after, last, reading.refused)]

    def _claims(self, feed: Feed, entry: Entry) -> list[Claim]:
        """Give what an entry states, else what the patterns find if the feed wants them."""
        if not entry.fact and feed.extract is Extract.PATTERNS:
            return claims_by_pattern(entry, self.pack)
        return claims_of(entry, self.pack)

    def _fetch(self, feed: Feed, page: Page) -> Fetched:
        if feed.kind == FeedKind.FILE:
            if page.url == feed.url:
                return Fetched(page.url, None)
            return fetch_file(path_of(feed.url), page, self.policy.max_bytes)
        asked = replace(feed, url=page.url, etag=page.etag, last_modified=page.last_modified)
        return fetch(asked, self.policy, now=self.clock())

    def _ask(self, feed: Feed, url: str) -> bytes:
        return self._fetch(feed, Page(url)).body or b""

    def _record(self, feed: Feed, read: PageRead) -> Counter[str]:
        now = self.clock()
        fetched, at = read.fetched, feed.next_poll_at
        if read.last:
            at = next_poll(feed, fetched, self.policy, now, self.rng)
        # the feed's own row knows the validators of its one document
        page = None if read.page.url == feed.url and not read.page.values else read.page
        with self.db.begin() as tx:
            counts = feeds.record_poll(tx, feed.id, fetched, read.said, now, at, page)
            if counts.new or counts.changed:
                detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
                audit.record(tx, "daemon", "feed.polled", f"feed:{feed.name}", detail, now)
        return Counter(new=counts.new, changed=counts.changed)

    def _refused(self, polled: Polled) -> list[str]:
        """Put down what was refused; give it in words, of very much only the beginning."""
        told = [f"feed {polled.feed.name}: {one}" for one in polled.refused[:_TOLD]]
        more = len(polled.refused) - len(told)
        if more:
            told.append(f"feed {polled.feed.name}: {more} more are refused")
        with self.db.begin() as tx:
            feeds.forget_pages(tx, polled.feed.id, polled.gone)
            if told:
                feeds.complain(
                    tx, polled.feed.id, f"{polled.refused[0]} (1 of {len(polled.refused)})"
                )
        return told

    def _failed(self, feed: Feed, error: SourceError, round_: Round[Polled]) -> int:
        """Put down a failure; give how many more feeds of the host are put off because of it."""
        now = self.clock()
        at = next_poll(feed, error, self.policy, now, self.rng)
        with self.db.begin() as tx:
            feeds.record_failure(tx, feed.id, str(error), now, at, disable=error.gone)
            paused = self._pause(tx, feed, error, round_) if error.busy else 0
            if error.gone:
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


def _kind(feed: Feed) -> tuple[Kind, list[str]]:
    """Give a feed's kind and URLs; options that it cannot use are that feed's failure."""
    try:
        kind = kind_named(feed.kind)
        return kind, kind.urls(feed)
    except SettingsError as error:
        raise SourceError(str(error), subject=f"feed {feed.name}", hint="add it again") from error


def _first(failed: Sequence[SourceError], urls: Sequence[str]) -> SourceError | None:
    """Give the error of a feed: of many URLs, which keep going, that of the first that failed."""
    if not failed or len(urls) == 1:
        return failed[0] if failed else None
    error = failed[0]
    return SourceError(
        f"one of its {len(urls)} URLs failed: {error.message}",
        subject=error.subject,
        hint=error.hint,
        retry_after=error.retry_after,
        busy=error.busy,
    )


def _kept(
    values: Mapping[str, str], claims: Sequence[tuple[Entry, Sequence[Claim]]], page: Page
) -> dict[str, str]:
    """Give the values to compare with next time: of each key the last that named something.

    "vacant", or words that cannot be read, must not make the next holder look new when it is the
    one from before.
    """
    unread = {
        entry.key
        for entry, said in claims
        if entry.key in page.values and not any(claim.object for claim in said)
    }
    return {key: page.values[key] if key in unread else new for key, new in values.items()}


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
