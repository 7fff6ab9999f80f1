"""Due feeds -> entries and their claims, several feeds at once.

One feed's failure is that feed's alone, except that a server which asks for fewer requests is
left alone with all its feeds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random

from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.facts.claims import claims_of, entry_of_line
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch, host_of, next_poll
from kdpo_daemon.feeds.kinds import Kind
from kdpo_daemon.feeds.registry import kind_named
from kdpo_daemon.feeds.rounds import Round
from kdpo_daemon.records.intake import Claim, Entry, Feed, Fetched, Page, Trust
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database

#: A feed of many URLs is left until its next poll after this many of them failed.
_GIVE_UP = 3


@dataclass(frozen=True)
class PageRead:
    """One document of a feed, what it asserts, and what to remember of its page."""

    fetched: Fetched
    said: tuple[tuple[Entry, list[Claim]], ...]
    page: Page
    last: bool  #: of the feed's documents; the next poll is counted from it


@dataclass(frozen=True)
class Polled:
    """What a feed gave: its documents, and the first error if there was one."""

    feed: Feed
    pages: tuple[PageRead, ...] = ()
    error: SourceError | None = None


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
        counts: Counter[str] = Counter()
        problems: list[str] = []
        round_: Round[Polled] = Round(due)
        for polled in round_.results(self._task, self.policy.at_once):
            self.progress(f"polled {polled.feed.name}", round_.done, len(due))
            for page in polled.pages:
                counts += self._record(polled.feed, page)
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
        read: list[PageRead] = []
        failed: list[SourceError] = []
        for place, url in enumerate(urls, 1):
            page = known.get(url) or Page(url, feed.etag, feed.last_modified)
            try:
                read += self._read(feed, kind, page, last=place == len(urls))
            except SourceError as error:
                failed.append(error)
                if error.busy or len(failed) == _GIVE_UP:
                    break
        if not failed:
            return Polled(feed, tuple(read))
        first = failed[0] if len(urls) == 1 else _one_of_many(failed[0], urls)
        return Polled(feed, tuple(read), first)

    def _read(self, feed: Feed, kind: Kind, page: Page, *, last: bool) -> list[PageRead]:
        fetched = self._fetch(feed, page)
        if fetched.body is None and not last:
            return []  # nothing to put down; the last URL sets the time of the next poll
        entries: list[Entry] = []
        values = page.values
        if fetched.body is not None:
            limit = self.policy.max_entries
            reading = kind.read(feed, fetched, page, limit, lambda url: self._ask(feed, url))
            entries, values = reading.entries, reading.values
        said = tuple((entry, claims_of(entry, self.pack)) for entry in entries)
        after = Page(page.url, fetched.etag, fetched.last_modified, _kept(values, said, page))
        return [PageRead(fetched, said, after, last)]

    def _fetch(self, feed: Feed, page: Page) -> Fetched:
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

    def _failed(self, feed: Feed, error: SourceError, round_: Round[Polled]) -> int:
        """Put down a failure; give how many more feeds of the host are put off because of it."""
        now = self.clock()
        at = next_poll(feed, error, self.policy, now, self.rng)
        with self.db.begin() as tx:
            feeds.record_failure(tx, feed.id, str(error), now, at, disable=error.gone)
            others = round_.drop(host_of(feed)) if error.busy else []
            # before this one's own next turn, which may be refused again
            wish = min(error.retry_after or feed.every_s, self.policy.longest_wait_s)
            feeds.pause(tx, [other.id for other in others], now + timedelta(seconds=wish))
            if error.gone:
                detail: dict[str, object] = {"why": error.message}
                audit.record(tx, "daemon", "feed.disabled", f"feed:{feed.name}", detail, now)
        return len(others)


def _kind(feed: Feed) -> tuple[Kind, list[str]]:
    """Give a feed's kind and URLs; options that it cannot use are that feed's failure."""
    try:
        kind = kind_named(feed.kind)
        return kind, kind.urls(feed)
    except SettingsError as error:
        raise SourceError(str(error), subject=f"feed {feed.name}", hint="add it again") from error


def _one_of_many(error: SourceError, urls: list[str]) -> SourceError:
    """Give the error of one URL as that of its feed, which the others keep going."""
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
    """Take facts from JSONL lines; the same path as a feed's entries.  Gives the new ones.

    Raises:
        SourceError: naming the first line that cannot be read; then nothing was taken.

    """
    lines = body.decode("utf-8", errors="replace").splitlines()
    entries: list[Entry] = [
        entry_of_line(line, number) for number, line in enumerate(lines, 1) if line.strip()
    ]
    now = clock()
    with db.begin() as tx:
        feed = feeds.import_feed(tx, name, Trust.AUTO, now)
        fetched = Fetched(url=feed.url, body=body, content_type="application/jsonl")
        claims = [(entry, claims_of(entry, pack)) for entry in entries]
        counts = feeds.record_poll(tx, feed.id, fetched, claims, now, now)
        detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
        audit.record(tx, actor, "facts.imported", f"feed:{name}", detail, now)
    return counts.new + counts.changed
