"""Due feeds -> entries and their claims.  One feed's failure is that feed's alone."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.claims import claims_of, entry_of_line
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch, next_poll
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records import Entry, Feed, Fetched, Trust
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database


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
        fetched = fetch(feed, self.policy, now=self.clock())
        entries = (
            parse(feed.name, fetched, self.policy.max_entries) if fetched.body is not None else []
        )
        claims = [(entry, claims_of(entry, self.pack)) for entry in entries]
        now = self.clock()
        at = next_poll(feed, fetched, self.policy, now, self.rng)
        with self.db.begin() as tx:
            counts = feeds.record_poll(tx, feed.id, fetched, claims, now, at)
            if counts.new or counts.changed:
                detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
                audit.record(tx, "daemon", "feed.polled", f"feed:{feed.name}", detail, now)
        return Counter(new=counts.new, changed=counts.changed)

    def _failed(self, feed: Feed, error: SourceError) -> None:
        now = self.clock()
        at = next_poll(feed, error, self.policy, now, self.rng)
        with self.db.begin() as tx:
            feeds.record_failure(tx, feed.id, str(error), now, at, disable=error.gone)
            if error.gone:
                detail: dict[str, object] = {"why": error.message}
                audit.record(tx, "daemon", "feed.disabled", f"feed:{feed.name}", detail, now)


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
