"""Starting a server as a child process: a small HTTP server plays vLLM, through the same flags."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.local_vllm import LocalVllm, free_port, launch, start, threads

PLAYS_VLLM = """#!{python} -I
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Well(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
print("loading the model", flush=True)
{before}
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Well).serve_forever()
"""

STARTS_AND_WAITS = """
import sys, time
from pathlib import Path
from tests.edges.test_local_vllm import settings
from kdpo_daemon.local_vllm import start
server = start(settings(Path(sys.argv[1]), "", port=int(sys.argv[2])))
print(server.pid, flush=True)
time.sleep(60)
"""


def settings(directory: Path, before: str, port: int | None = None) -> LocalVllm:
    """An "interpreter" that runs `before` and then says that it is well."""
    python = directory / "python"
    python.write_text(PLAYS_VLLM.format(python=sys.executable, before=before))
    python.chmod(0o755)
    return LocalVllm(
        python=python,
        model_dir=directory / "model",
        served_name="base",
        port=port or free_port(),
        adapters_dir=directory / "adapters",
        log_path=directory / "logs" / "vllm.log",
        start_s=20,
    )


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def test_a_server_is_up_when_start_returns_and_gone_after_stop(tmp_path: Path) -> None:
    with start(settings(tmp_path, "time.sleep(0.5)")) as server:
        assert httpx.get(f"{server.url}/health").is_success
        assert server.exit_code() is None
        assert "loading the model" in server.log_path.read_text()

    assert not is_running(server.pid)


def test_a_port_is_kept_from_the_launch_on_and_free_after_the_stop(tmp_path: Path) -> None:
    slow = settings(tmp_path, "time.sleep(60)")
    server = launch(slow)
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", slow.port))
    finally:
        server.stop()

    with socket.socket() as other:
        other.bind(("127.0.0.1", slow.port))


def test_a_server_is_not_started_where_another_one_answers(tmp_path: Path) -> None:
    ours = settings(tmp_path, "")

    with start(ours), pytest.raises(ReplicaError, match=f"port {ours.port} is taken") as caught:
        start(ours)

    assert "another port" in caught.value.hint


def test_a_server_that_dies_while_starting_is_reported_with_its_last_words(
    tmp_path: Path,
) -> None:
    broken = settings(tmp_path, "sys.exit('no such model')")

    with pytest.raises(ReplicaError, match="ended with code 1") as caught:
        start(broken)

    assert "no such model" in caught.value.message
    assert str(broken.log_path) in caught.value.hint


def test_of_two_cores_both_compute_and_of_more_vllm_decides() -> None:
    assert threads({3, 1}) == {"VLLM_CPU_OMP_THREADS_BIND": "1,3"}
    assert threads({0}) == threads(range(8)) == {}


def test_an_environment_without_vllm_says_so(tmp_path: Path) -> None:
    ours = LocalVllm(
        python=Path(sys.executable),
        model_dir=tmp_path,
        served_name="base",
        port=free_port(),
        adapters_dir=tmp_path,
        log_path=tmp_path / "log",
    )

    with pytest.raises(ReplicaError, match="No module named 'vllm'"):
        start(ours)


def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    slow = settings(
        tmp_path, f"import os; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )

    with pytest.raises(ReplicaError, match="not ready after 2 s"):
        start(LocalVllm(**(vars(slow) | {"start_s": 2.0})))

    assert not is_running(int(told.read_text()))


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = [sys.executable, "-c", STARTS_AND_WAITS, str(tmp_path), str(free_port())]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid)

        parent.send_signal(signal.SIGKILL)

    assert gone_within(pid, 5)
