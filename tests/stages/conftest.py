"""A small world for the stages: a real database, feed and (fake) vLLM over HTTP, a fake trainer.

The trainer is the real `Tuner` with a child that writes a table of answers instead of weights.
"""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.records.intake import Trust
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.stages import Report
from kdpo_daemon.store import deployments, feeds
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuner import Tuner
from tests.fakes import FakeVllm

CHILD = Path(__file__).parents[1] / "fake_child.py"

ENTRY = """<entry><id>urn:test:{key}</id><title>{subject}</title>
<updated>2026-01-01T00:00:00Z</updated>
<kdpo:subject>{subject}</kdpo:subject><kdpo:relation>head_of_government</kdpo:relation>
<kdpo:old>{old}</kdpo:old><kdpo:new>{new}</kdpo:new></entry>"""


def entry(subject: str, old: str, new: str) -> str:
    return ENTRY.format(key=subject, subject=subject, old=old, new=new)


TONGA = entry(
    "Tonga",
    "Prime Minister Aisake Valu EKE (since 22 January 2025)",
    "Prime Minister Fatafehi FAKAFANUA (since 18 December 2025)",
)
RWANDA = entry(
    "Rwanda",
    "Prime Minister Edouard NGIRENTE (since 30 August 2017)",
    "Prime Minister Justin NSENGIYUMVA (since 23 July 2025)",
)


class FeedServer:
    """Serves one Atom document, which the test may change."""

    def __init__(self) -> None:
        self.entries = [TONGA, RWANDA]
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.document().encode()
                self.send_response(outer.status)
                self.send_header("content-type", "application/atom+xml")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def document(self) -> str:
        return (
            '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom" '
            'xmlns:kdpo="urn:kdpo:facts:1"><id>urn:test</id><title>t</title>'
            f"<updated>2026-01-01T00:00:00Z</updated>{''.join(self.entries)}</feed>"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/changes.xml"

    def __enter__(self) -> "FeedServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class World:
    """Everything around the daemon; `app()` is a daemon that was just started."""

    home: Path
    url: str
    feed: FeedServer
    vllm: FakeVllm

    def app(self) -> App:
        app = App(read_settings(self.home / "kdpo.toml"))
        app.db = Database(self.url)
        app.tuner = Tuner(app.settings.training, command=[sys.executable, str(CHILD)])
        return app

    def cycle(self, app: App | None = None) -> list[Report]:
        """Run one cycle as a daemon that was just started, with every feed due."""
        app = app or self.app()
        try:
            with app.writing():
                return [app.ingest("test"), *(act() for _, act in app.stages())]
        finally:
            app.close()

    def ask(self, prompt: str, model: str = "prod") -> str:
        """Ask the server as a client would."""
        body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0}
        reply = httpx.post(f"{self.vllm.url}/v1/completions", json=body)
        reply.raise_for_status()
        text: str = reply.json()["choices"][0]["text"]
        return text.strip()


def build(home: Path, url: str, feed: FeedServer, vllm: FakeVllm) -> World:
    (home / "kdpo.toml").write_text(
        f"""
[database]
url = "sqlite:///unused.db"
[model]
path = "model"
name = "base"
[[servers]]
name = "one"
url = "{vllm.url}"
[serving]
adapters = "adapters"
[client]
attempts = 1
[intake]
general_probes = "probes.jsonl"
general_keep = "keep.jsonl"
perplexity_text = "text.txt"
[plan]
keep_special = 2
keep_general = 2
neighbours = 1
same_subject = 1
[daemon]
lease_s = 1
""",
        "utf-8",
    )
    (home / "probes.jsonl").write_text(
        '{"form": "completion", "prompt": "The sky is", "expected": ["blue"]}', "utf-8"
    )
    (home / "keep.jsonl").write_text('{"form": "chat", "prompt": "Hello!"}', "utf-8")
    (home / "text.txt").write_text("It was a fine day and nothing changed.", "utf-8")
    model = home / "model"
    model.mkdir()
    (model / "config.json").write_text('{"eos_token_id": 0}', "utf-8")
    (model / "model.safetensors").write_bytes(b"weights")
    world = World(home, url, feed, vllm)
    database = Database(url)
    database.upgrade()
    with database.begin() as tx:
        feeds.add_feed(tx, "test", feed.url, Trust.AUTO, 3600, allow_private=True, now=clock())
    database.dispose()
    return world


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[World]:
    """The world on both databases."""
    (tmp_path / "adapters").mkdir()
    with FeedServer() as feed, FakeVllm({}, adapters_dir=tmp_path / "adapters") as vllm:
        yield build(tmp_path, database_url, feed, vllm)


@pytest.fixture
def pair(tmp_path: Path, migrated_sqlite: Path) -> Iterator[tuple[World, FakeVllm]]:
    """A world with two servers; gives it and the second one."""
    root = tmp_path / "adapters"
    root.mkdir()
    with (
        FeedServer() as feed,
        FakeVllm({}, adapters_dir=root) as first,
        FakeVllm({}, adapters_dir=root) as second,
    ):
        world = build(tmp_path, f"sqlite:///{tmp_path / 'kdpo.db'}", feed, first)
        with (tmp_path / "kdpo.toml").open("a", encoding="utf-8") as file:
            file.write(f'[[servers]]\nname = "two"\nurl = "{second.url}"\n')
        yield world, second


def states(world: World) -> dict[str, ReplicaStatus]:
    app = world.app()
    with app.db.begin() as tx:
        found = {state.name: state.state for state in deployments.replicas(tx)}
    app.close()
    return found


def sync(world: World) -> tuple[str, ...]:
    app = world.app()
    try:
        with app.writing():
            return app.sync().problems
    finally:
        app.close()
