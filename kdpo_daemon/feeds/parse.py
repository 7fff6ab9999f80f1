"""A fetched document -> entries, in a child process with a limit of time and memory.

Why a child: feedparser cannot be interrupted, and some of its expressions take time that grows
with the square of the input: 16 s for 700 kB of `<!--` in a summary, minutes for 1.4 MB of `a.`
in an author's name.  A hostile document must cost a feed its poll, not the daemon its cycle.
Starting the child takes about a quarter of a second.  What is read how is in `entries`.
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.records.intake import Entry, Fetched, RawFact

#: Longest time to read one document, in seconds.
_LIMIT_S = 30
#: Largest address space of the child, in bytes; a document of 15 MiB takes a fifth of it.
_LIMIT_BYTES = 2 * 1024**3


def parse(feed_name: str, fetched: Fetched, max_entries: int) -> list[Entry]:
    """Give the entries of a document, in its order, at most `max_entries`, each with its own key.

    A document that is not well-formed gives what could be read of it, if that is any entry.

    Raises:
        SourceError: not a feed, one that declares entities, or one that takes too long.

    """
    about = [feed_name, fetched.url, fetched.content_type, max_entries]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            input=json.dumps(about).encode() + b"\n" + (fetched.body or b""),
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(feed_name, f"takes longer than {_LIMIT_S} s to read") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise _refused(feed_name, f"cannot be read: {last or f'status {done.returncode}'}")
    answer = json.loads(done.stdout)
    if "refused" in answer:
        message, hint = answer["refused"]
        raise SourceError(message, subject=f"feed {feed_name}", hint=hint)
    return [_entry(row) for row in answer["entries"]]


def _refused(feed_name: str, why: str) -> SourceError:
    hint = "ask its publisher for a simpler document, or remove the feed"
    return SourceError(why, subject=f"feed {feed_name}", hint=hint)


def _entry(row: dict[str, Any]) -> Entry:
    at = row["published_at"]
    row["published_at"] = datetime.fromisoformat(at) if at else None
    row["fact"] = _fact(row["fact"]) if row["fact"] else None
    return Entry(**row)


def _fact(row: dict[str, Any]) -> RawFact:
    for key in ("aliases", "old_aliases"):
        row[key] = tuple(row[key])  # JSON has lists only
    return RawFact(**row)


def _child() -> None:
    """Read a document from stdin, write its entries to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
    feed_name, url, content_type, max_entries = json.loads(sys.stdin.buffer.readline())
    fetched = Fetched(url=url, body=sys.stdin.buffer.read(), content_type=content_type)
    answer: dict[str, object]
    try:
        answer = {"entries": [asdict(e) for e in entries_of(feed_name, fetched, max_entries)]}
    except SourceError as error:
        answer = {"refused": [error.message, error.hint]}
    sys.stdout.write(json.dumps(answer, default=datetime.isoformat))


if __name__ == "__main__":
    _child()
