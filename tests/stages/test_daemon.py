"""`kdpo run` as a process: health pages, systemd, signals, restarts."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kdpo_daemon.local_vllm import free_port
from tests.fakes import FakeVllm
from tests.stages.conftest import FeedServer, World, build

PROMPT = "The prime minister of Tonga is"


@pytest.fixture
def taught(tmp_path: Path, migrated_sqlite: Path) -> Iterator[World]:
    """A world in which one cycle has run."""
    (tmp_path / "adapters").mkdir()
    with FeedServer() as feed, FakeVllm({}, adapters_dir=tmp_path / "adapters") as vllm:
        world = build(tmp_path, f"sqlite:///{tmp_path / 'kdpo.db'}", feed, vllm)
        world.cycle()
        yield world


class Running:
    """A daemon process and where it listens."""

    def __init__(self, world: World, notify: Path) -> None:
        self.port = free_port()
        text = (world.home / "kdpo.toml").read_text("utf-8")
        config = world.home / f"kdpo-{self.port}.toml"
        text = text.replace("sqlite:///unused.db", world.url).replace(
            "lease_s = 1", f'lease_s = 5\nreconcile_s = 1\nlisten = "127.0.0.1:{self.port}"'
        )
        config.write_text(text, "utf-8")
        self.log = (world.home / f"daemon-{self.port}.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kdpo_daemon", "--config", str(config), "run"],
            stderr=self.log,
            env={**os.environ, "NOTIFY_SOCKET": str(notify)},
        )

    def get(self, page: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/{page}", timeout=5)

    def ready(self) -> bool:
        try:
            return self.get("readyz").status_code == 200
        except httpx.TransportError:
            return False


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def daemon(world: World, notify: Path | None = None) -> Iterator[Running]:
    running = Running(world, notify or world.home / "nobody")
    try:
        wait_until(running.ready)
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running.log.close()


def test_the_daemon_shows_its_health_and_state_and_stops_cleanly_on_sigterm(taught: World) -> None:
    with daemon(taught) as running:
        assert running.get("livez").text == "ok\n"
        wait_until(lambda: "kdpo_stage_duration_seconds" in running.get("metrics").text)
        metrics = running.get("metrics").text
        running.process.terminate()
        status = running.process.wait(20)

    assert status == 0
    assert 'kdpo_facts{status="live"} 2.0' in metrics
    assert 'kdpo_adapter_in_sync{replica="one"} 1.0' in metrics


def test_systemd_hears_ready_and_stopping(taught: World) -> None:
    address = taught.home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(address))
        heard.settimeout(20)
        with daemon(taught, address) as running:
            first = heard.recv(1000).decode()
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(20)
            said = [heard.recv(1000).decode()]
            while not said[-1].startswith("STOPPING=1"):
                said.append(heard.recv(1000).decode())

    assert first == "READY=1"


def test_a_restarted_server_serves_the_right_version_again_by_itself(taught: World) -> None:
    with daemon(taught):
        taught.vllm.restart()
        pointer = taught.home / "adapters" / "aliases" / "prod.json"
        pointer.unlink()  # so that not even the plugin could bring it back
        wait_until(pointer.exists)

        assert taught.ask(PROMPT) == "Fatafehi Fakafanua"


def test_a_daemon_that_was_killed_is_followed_by_the_next_one(taught: World) -> None:
    with daemon(taught) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()

    with daemon(taught) as second:  # it waits for the dead one's lease to end
        assert second.get("readyz").status_code == 200


def test_a_second_daemon_waits_while_the_first_one_lives(taught: World) -> None:
    with daemon(taught) as first:
        second = Running(taught, taught.home / "nobody")
        try:
            wait_until(lambda: b"daemon.waiting" in Path(second.log.name).read_bytes())
            assert first.ready()
            assert not second.ready()
            first.process.terminate()
            first.process.wait(20)

            wait_until(second.ready)
        finally:
            second.process.kill()
            second.process.wait()
            second.log.close()


def test_a_database_at_another_migration_stops_the_daemon_with_the_remedy(tmp_path: Path) -> None:
    config = tmp_path / "kdpo.toml"
    config.write_text(f'[daemon]\nlisten = "127.0.0.1:{free_port()}"\n', "utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "kdpo_daemon", "--config", str(config), "run"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 1
    assert "kdpo db upgrade" in ended.stderr
