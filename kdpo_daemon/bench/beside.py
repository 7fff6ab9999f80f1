"""Real feeds polled side by side by this program and by the package `reader`, from one server.

Four rounds: all documents for the first time; again, where the server answers 304; again in full,
as by a server without validators; and the second poll of the one feed of which there are two.
The two programs take turns in each round, each in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kdpo_daemon.bench.documents import names
from kdpo_daemon.bench.server import Site
from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Fetched

CLIENTS = ("kdpo", "reader")
_POLLED = "polled"  # the feed of which there are two documents


@dataclass(frozen=True)
class RoundRow:
    """What one program made of one round."""

    round: str
    client: str
    new: int
    changed: int
    same: int  #: entries that were read and had not changed
    failed: int  #: feeds
    seconds: float
    peak_mb: float  #: of the process, since its start


def measure(data: Path) -> list[RoundRow]:
    """Poll `data/feeds` and `data/feeds_polls` with both programs."""
    documents = {name: (data / name).read_bytes() for name in names(data)}
    earlier, later = (file.read_bytes() for file in sorted((data / "feeds_polls").iterdir())[:2])
    documents[_POLLED] = earlier
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        home = stack.enter_context(tempfile.TemporaryDirectory())
        urls = [site.url(name) for name in documents]
        clients = {
            which: stack.enter_context(_client(which, urls, f"{home}/{which}.db"))
            for which in CLIENTS
        }
        rows = []
        for name, sent in (
            ("first time", documents),
            ("not modified", {}),
            ("sent again", documents),
            ("second poll", {_POLLED: later}),
        ):
            _publish(site, sent, name)
            entries = sum(_entries(key, body) for key, body in sent.items())
            rows += [_row(name, which, clients[which], entries) for which in CLIENTS]
    return rows


def _publish(site: Site, documents: dict[str, bytes], name: str) -> None:
    for path, body in documents.items():
        site.publish(path, body, version=name)


def _entries(name: str, body: bytes) -> int:
    try:
        return len(parse(name, Fetched("http://127.0.0.1/", body), 10_000))
    except SourceError:
        return 0


def _row(name: str, which: str, client: "_Client", entries: int) -> RoundRow:
    told = client.round()
    new, changed = int(told.get("new", 0)), int(told.get("changed", 0))
    return RoundRow(
        round=name,
        client=which,
        new=new,
        changed=changed,
        # our stage does not count what it has seen before
        same=int(told.get("same", 0)) if which == "reader" else entries - new - changed,
        failed=int(told.get("failed", 0)),
        seconds=told["seconds"],
        peak_mb=told["peak_mb"],
    )


@dataclass(frozen=True)
class _Client:
    stdin: IO[str]
    stdout: IO[str]

    def round(self) -> dict[str, float]:
        self._say("go")
        told: dict[str, float] = json.loads(self.stdout.readline())
        return told

    def _say(self, line: str) -> None:
        self.stdin.write(line + "\n")
        self.stdin.flush()


@contextmanager
def _client(which: str, urls: list[str], database: str) -> Iterator[_Client]:
    command = [sys.executable, "-m", "kdpo_daemon.bench.one_client", which, database]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        client = _Client(process.stdin, process.stdout)
        client._say(json.dumps(urls))
        yield client
