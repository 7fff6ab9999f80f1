"""Due feeds -> entries and their claims.  One feed's failure is that feed's alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.facts.claims import claims_of, entry_of_line
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch, next_poll
from kdpo_daemon.feeds.kinds import Kind
from kdpo_daemon.feeds.registry import kind_named
from kdpo_daemon.records import Claim, Entry, Feed, Fetched, Page, Trust
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database

#: A feed of many URLs is left until its next poll after this many of them failed.
_GIVE_UP = 3


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
        for done, feed in enumerate(due):
            self.progress(f"polling {feed.name}", done, len(due))
            try:
                counts += self._poll(feed)
            except SourceError as error:
                self._failed(feed, error)
                counts["failed"] += 1
                problems.append(str(error))
        return Report("ingest", dict(counts), tuple(problems))

    def _poll(self, feed: Feed) -> Counter[str]:
        """Read every URL of a feed; SourceError, after the others were read, if one failed."""
        kind, urls = _kind(feed)
        with self.db.begin() as tx:
            known = feeds.pages_of(tx, feed.id)
        counts: Counter[str] = Counter()
        failed: list[SourceError] = []
        for place, url in enumerate(urls, 1):
            page = known.get(url) or Page(url, feed.etag, feed.last_modified)
            try:
                counts += self._read(feed, kind, page, last=place == len(urls))
            except SourceError as error:
                failed.append(error)
                if error.retry_after is not None or len(failed) == _GIVE_UP:
                    break
        if failed:
            raise failed[0] if len(urls) == 1 else _one_of_many(failed[0], urls)
        return counts

    def _read(self, feed: Feed, kind: Kind, page: Page, *, last: bool) -> Counter[str]:
        fetched = self._fetch(feed, page)
        if fetched.body is None and not last:
            return Counter()  # nothing to put down; the last URL sets the time of the next poll
        entries: list[Entry] = []
        values = page.values
        if fetched.body is not None:
            limit = self.policy.max_entries
            reading = kind.read(feed, fetched, page, limit, lambda url: self._ask(feed, url))
            entries, values = reading.entries, reading.values
        claims = [(entry, claims_of(entry, self.pack)) for entry in entries]
        now = self.clock()
        at = next_poll(feed, fetched, self.policy, now, self.rng) if last else feed.next_poll_at
        after = Page(page.url, fetched.etag, fetched.last_modified, _kept(values, claims, page))
        plain = page.url == feed.url and not after.values
        with self.db.begin() as tx:
            counts = feeds.record_poll(
                tx, feed.id, fetched, claims, now, at, None if plain else after
            )
            if counts.new or counts.changed:
                detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
                audit.record(tx, "daemon", "feed.polled", f"feed:{feed.name}", detail, now)
        return Counter(new=counts.new, changed=counts.changed)

    def _fetch(self, feed: Feed, page: Page) -> Fetched:
        asked = replace(feed, url=page.url, etag=page.etag, last_modified=page.last_modified)
        return fetch(asked, self.policy, now=self.clock())

    def _ask(self, feed: Feed, url: str) -> bytes:
        return self._fetch(feed, Page(url)).body or b""

    def _failed(self, feed: Feed, error: SourceError) -> None:
        now = self.clock()
        at = next_poll(feed, error, self.policy, now, self.rng)
        with self.db.begin() as tx:
            feeds.record_failure(tx, feed.id, str(error), now, at, disable=error.gone)
            if error.gone:
                detail: dict[str, object] = {"why": error.message}
                audit.record(tx, "daemon", "feed.disabled", f"feed:{feed.name}", detail, now)


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
