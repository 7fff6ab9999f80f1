"""Very many sources in one pass: time and peak memory of the real ingest stage.

`measure` starts a server in a process of its own, where each feed has a loopback address of its
own, so that the limit per host does not make them wait for each other, and polls all of them
twice: first every document is new, then the server answers 304. The peak is that of this process
since its start; parsing children come and go beside it.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from kdpo_daemon import packs
from kdpo_daemon.bench.one_document import peak_mb
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import feeds
from kdpo_daemon.store.db import Database

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ENTRY = (
    "<item><guid>{n}</guid><title>News {n}</title><description>Words about it.</description>"
    "<k:subject>Country {source} {n}</k:subject><k:relation>head_of_state</k:relation>"
    "<k:new>President Ada BYRON (since 1 January 2026)</k:new></item>"
)


@dataclass(frozen=True)
class Pass:
    """One pass over all sources."""

    sources: int
    entries: int  #: in each
    new: int  #: entries that were not known before
    failed: int
    seconds: float
    peak_mb: float  #: of this process, since its start


def measure(sources: int, entries: int) -> tuple[Pass, Pass]:
    """Poll every source twice: with new documents, then with 304 answers."""
    with tempfile.TemporaryDirectory() as home, _serving(entries) as port:
        db = Database(f"sqlite:///{home}/kdpo.db")
        db.upgrade()
        with db.begin() as tx:
            for n in range(sources):
                url = f"http://127.1.{n // 250}.{1 + n % 250}:{port}/{n}"
                feeds.add_feed(tx, f"source {n}", url, Trust.AUTO, 3600, True, _NOW)
        first = _timed(db, sources, entries, _NOW)
        second = _timed(db, sources, entries, _NOW + timedelta(days=2))
        db.dispose()
    return first, second


def _timed(db: Database, sources: int, entries: int, now: datetime) -> Pass:
    stage = Ingest(
        db=db,
        policy=FetchPolicy(),
        pack=read_pack([packs.text("relations.toml")]),
        clock=lambda: now,
        rng=Random(1),  # noqa: S311 - jitter
        progress=lambda *_: None,
    )
    began = time.perf_counter()
    counts = stage.run().counts
    seconds = round(time.perf_counter() - began, 2)
    failed = counts.get("failed", 0)
    return Pass(sources, entries, counts.get("new", 0), failed, seconds, peak_mb())


# ---------------------------------------------------------------- the server, in its own process


@contextmanager
def _serving(entries: int) -> Iterator[int]:
    """Run the server; gives its port."""
    command = [sys.executable, "-m", __spec__.name, str(entries)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            assert server.stdout is not None  # noqa: S101 - for the type checker
            yield int(server.stdout.readline())
        finally:
            server.terminate()


class _Publisher(BaseHTTPRequestHandler):
    entries = 0

    def do_GET(self) -> None:
        """Answer with this path's document, or that it has not changed."""
        if self.headers.get("If-None-Match"):
            self.send_response(304)
            self.end_headers()
            return
        source = self.path.strip("/")
        items = "".join(_ENTRY.format(n=n, source=source) for n in range(self.entries))
        body = (
            '<rss version="2.0" xmlns:k="urn:kdpo:facts:1"><channel><title>News</title>'
            f"{items}</channel></rss>"
        ).encode()
        self.send_response(200)
        self.send_header("ETag", f'"{source}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
        """Say nothing."""


def _serve(entries: int) -> None:
    _Publisher.entries = entries
    server = ThreadingHTTPServer(("0.0.0.0", 0), _Publisher)  # noqa: S104 - all of 127.0.0.0/8
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
