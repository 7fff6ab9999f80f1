"""Real feed documents: is each read with the entries that are in it, in how much time and memory?

`measure(data)` reads every document below `data/feeds`, and compares with the number of entries
that feedparser itself finds in the raw bytes (for a JSON Feed: the length of its list).  Each
document is read in a process of its own, whose peak memory is taken.
`polls(data)` puts the polls of each feed in `data/feeds_polls` into a database.
"""

import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feedparser

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.jsonfeed import is_json
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Entry, Fetched, IngestCounts, Trust
from kdpo_daemon.store import feeds
from kdpo_daemon.store.db import Database

#: Entries read from one document here; far more than any of them has.
_MOST = 10_000
#: Says where the documents are from.
_MANIFEST = "MANIFEST.jsonl"
# `tasmania_fire_2018-09-24`: the feed, and when it was polled
_DAY = re.compile(r"[_@-]?\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class DocumentRow:
    """How one document was read."""

    file: str
    expected: int  #: entries that feedparser finds in the raw bytes
    entries: int | None  #: entries that we read; None: refused
    refused: str  #: why
    seconds: float  #: of the whole poll's reading, the start of its process included
    peak_mb: float

    @property
    def good(self) -> bool:
        """Whether nothing is lost: every entry is read, or there is none and we say why."""
        return self.entries == self.expected or (self.expected == 0 and bool(self.refused))


def measure(data: Path) -> list[DocumentRow]:
    """Read every document of the collection."""
    return [_row(data, name) for name in names(data)]


def names(data: Path) -> list[str]:
    """Give the documents of `data/feeds`, named from `data`: all files but the manifest."""
    found = (file for file in (data / "feeds").rglob("*") if _is_document(file))
    return sorted(str(file.relative_to(data)) for file in found)


def _is_document(file: Path) -> bool:
    return file.is_file() and file.name != _MANIFEST and not file.name.startswith(".")


def polls(data: Path) -> dict[str, list[IngestCounts]]:
    """Poll each feed at its dates, in order: what was new, changed and the same each time."""
    by_feed: dict[str, list[Path]] = {}
    for file in sorted(filter(_is_document, (data / "feeds_polls").iterdir())):
        by_feed.setdefault(_DAY.split(file.stem)[0], []).append(file)
    return {name: _polled(files) for name, files in by_feed.items()}


def _polled(files: Sequence[Path]) -> list[IngestCounts]:
    found = []
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as home:
        db = Database(f"sqlite:///{home}/kdpo.db")
        db.upgrade()
        for file in files:
            fetched = Fetched("http://127.0.0.1/", file.read_bytes())
            said = [(entry, ()) for entry in _entries(file.name, fetched)]
            with db.begin() as tx:
                feed = feeds.add_feed(tx, "polled", fetched.url, Trust.AUTO, 3600, True, now)
                later = now + timedelta(hours=1)
                found.append(feeds.record_poll(tx, feed.id, fetched, said, now, later))
        db.dispose()
    return found


def _entries(name: str, fetched: Fetched) -> list[Entry]:
    try:
        return parse(name, fetched, _MOST)
    except SourceError:  # a poll that fails brings nothing, and takes nothing back
        return []


def _row(data: Path, name: str) -> DocumentRow:
    path = data / name
    began = time.perf_counter()
    _entries(path.name, Fetched("http://127.0.0.1/", path.read_bytes()))  # one_document says why
    seconds = time.perf_counter() - began
    command = [sys.executable, "-m", "kdpo_daemon.bench.one_document", str(path)]
    child = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603
    entries, refused, peak_mb = json.loads(child.stdout)
    return DocumentRow(name, _expected(path.read_bytes()), entries, refused, seconds, peak_mb)


def _expected(body: bytes) -> int:
    if is_json(body):
        try:
            items = json.loads(body)["items"]
        except (ValueError, LookupError, TypeError):
            return 0
        return len(items) if isinstance(items, list) else 0
    return len(feedparser.parse(io.BytesIO(body)).entries)
