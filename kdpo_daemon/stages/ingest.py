"""Due feeds -> entries and their claims, several feeds at once.

One feed's failure is that feed's alone, except that a server which asks for fewer requests is
left alone with all its feeds.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.claims import claims_of, entry_of_line
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch, host_of, next_poll
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records import Claim, Entry, Feed, Fetched, Trust
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, feeds
from kdpo_daemon.store.db import Database


@dataclass(frozen=True)
class Polled:
    """What a feed gave: an answer and what it asserts, or an error."""

    feed: Feed
    outcome: Fetched | SourceError
    said: tuple[tuple[Entry, list[Claim]], ...] = ()


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
        round_ = Round(due)
        for polled in round_.results(self._poll, self.policy.at_once):
            self.progress(f"polled {polled.feed.name}", round_.done, len(due))
            if isinstance(polled.outcome, SourceError):
                counts["failed"] += 1
                counts["paused"] += self._failed(polled.feed, polled.outcome, round_)
                problems.append(str(polled.outcome))
            else:
                counts += self._record(polled, polled.outcome)
        return Report("ingest", dict(counts), tuple(problems))

    def _poll(self, feed: Feed) -> Polled:
        """Fetch and read; runs beside others, so it touches neither database nor chance."""
        try:
            fetched = fetch(feed, self.policy, now=self.clock())
            read = fetched.body is not None
            entries = parse(feed.name, fetched, self.policy.max_entries) if read else []
        except SourceError as error:
            return Polled(feed, error)
        said = tuple((entry, claims_of(entry, self.pack)) for entry in entries)
        return Polled(feed, fetched, said)

    def _record(self, polled: Polled, fetched: Fetched) -> Counter[str]:
        now = self.clock()
        feed = polled.feed
        at = next_poll(feed, fetched, self.policy, now, self.rng)
        with self.db.begin() as tx:
            counts = feeds.record_poll(tx, feed.id, fetched, polled.said, now, at)
            if counts.new or counts.changed:
                detail: dict[str, object] = {"new": counts.new, "changed": counts.changed}
                audit.record(tx, "daemon", "feed.polled", f"feed:{feed.name}", detail, now)
        return Counter(new=counts.new, changed=counts.changed)

    def _failed(self, feed: Feed, error: SourceError, round_: "Round") -> int:
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


class Round:
    """Feeds that are polled side by side, of one host one at a time.

    A result is handed out before more are asked for, so memory holds a few documents, however
    many feeds there are.
    """

    def __init__(self, due: Sequence[Feed]) -> None:
        self.done = 0
        self._waiting: dict[str, deque[Feed]] = {}
        for feed in due:
            self._waiting.setdefault(host_of(feed), deque()).append(feed)

    def drop(self, host: str) -> list[Feed]:
        """Give the feeds of a host that still wait; they wait no more."""
        return list(self._waiting.pop(host, ()))

    def results(self, poll: Callable[[Feed], Polled], at_once: int) -> Iterator[Polled]:
        """Give each feed's result as it comes."""
        running: dict[Future[Polled], str] = {}
        with ThreadPoolExecutor(at_once, thread_name_prefix="poll") as pool:
            while self._waiting or running:
                for feed in self._next(set(running.values()), at_once - len(running)):
                    running[pool.submit(poll, feed)] = host_of(feed)
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    del running[future]
                    self.done += 1
                    yield future.result()

    def _next(self, busy: set[str], room: int) -> list[Feed]:
        free = [host for host in self._waiting if host not in busy][:room]
        chosen = [self._waiting[host].popleft() for host in free]
        for host in free:
            if not self._waiting[host]:
                del self._waiting[host]
        return chosen


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
