"""Polls a list of feeds whenever it is told to, as this program or as the package `reader`.

    python -m kdpo_daemon.bench.one_client kdpo|reader DATABASE

The first line of stdin is the URLs as JSON, each further one asks for a round; each round gives a
line of JSON on stdout.  A process of its own, so that its memory is its own.  Both poll one feed
after the other: all of them are of one host.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from kdpo_daemon.bench.one_document import peak_mb

#: Gives new, changed and, where it is known, unchanged entries, and how many feeds failed.
Round = Callable[[int], Counter[str]]


def kdpo(urls: Sequence[str], path: str) -> Round:
    """Poll as the daemon does: the real ingest stage on SQLite."""
    from kdpo_daemon import packs
    from kdpo_daemon.facts.relations import read_pack
    from kdpo_daemon.feeds.fetch import FetchPolicy
    from kdpo_daemon.records.intake import Trust
    from kdpo_daemon.stages.ingest import Ingest
    from kdpo_daemon.store import feeds
    from kdpo_daemon.store.db import Database

    start = datetime(2026, 1, 1, tzinfo=UTC)
    db = Database(f"sqlite:///{path}")
    db.upgrade()
    with db.begin() as tx:
        for url in urls:
            feeds.add_feed(tx, url, url, Trust.AUTO, 3600, True, start)
    pack = read_pack([packs.text("relations.toml")])

    def poll(number: int) -> Counter[str]:
        now = start + timedelta(days=40 * number)  # beyond the longest wait after a failure
        policy, rng = FetchPolicy(), Random(1)  # noqa: S311 - jitter
        return Counter(Ingest(db, policy, pack, lambda: now, rng, lambda *_: None).run().counts)

    return poll


def reader(urls: Sequence[str], path: str) -> Round:
    """Poll as a program does that uses `reader` as it comes."""
    from reader import make_reader

    made = make_reader(path)
    for url in urls:
        made.add_feed(url)

    def poll(_: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        for result in made.update_feeds_iter(scheduled=False):
            if result.error:
                counts["failed"] += 1
            elif result.updated_feed:
                done = result.updated_feed
                counts["new"] += done.new
                counts["changed"] += done.modified
                counts["same"] += done.unmodified
        return counts

    return poll


def main(which: str, path: str) -> None:
    """Serve rounds until stdin ends."""
    poll = {"kdpo": kdpo, "reader": reader}[which](json.loads(sys.stdin.readline()), path)
    for number, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        counts = poll(number)
        seconds = round(time.perf_counter() - began, 2)
        told = dict(counts) | {"seconds": seconds, "peak_mb": peak_mb()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
