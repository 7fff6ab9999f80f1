"""Starts one vLLM server on this machine, for the demo and the tests, and stops it again.

Its flags are chosen for a quick start on a few CPU cores, not for load; a production server is
started by its own operator (docs/serving.md).
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.orders import MLP
from kdpo_daemon.processor import prefers_float32

_POLL_S = 0.25
_LOG_LINES = 15  #: of the log's end, shown when the server does not come up

# Runs in the new process before it becomes vLLM: ask the kernel for SIGTERM (15) on the death of
# the process that started it (PR_SET_PDEATHSIG, 1), and leave at once if that has happened.
_DIE_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class LocalVllm:
    """What to serve, where, and how large."""

    python: Path  #: the interpreter of the environment that has vllm and our plugin
    model_dir: Path
    served_name: str
    port: int  #: on 127.0.0.1
    adapters_dir: Path
    log_path: Path
    max_loras: int = 4  #: adapters in one batch: old, new, candidate, one spare
    max_cpu_loras: int = 8  #: adapters kept in memory
    max_lora_rank: int = 64  #: one of `serving.remedies.MAX_RANKS`
    lora_modules: tuple[str, ...] = MLP  #: where adapters may act; fewer is faster
    max_model_len: int = 1024  #: tokens of prompt and answer
    max_num_seqs: int = 160  #: requests in one batch; 160 answer 15 to 22 % faster than 64
    kv_cache_gib: int = 1
    dtype: str = "auto"  #: computed in; "auto": the model's own, or what is fast here
    plugin: bool = True  #: False: vLLM as it comes; aliases are then moved by reload
    start_s: float = 600.0  #: until it must be well

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self.port}"


class LocalServer:
    """A running server that this process started.  It dies with us; stop it when done."""

    def __init__(
        self, settings: LocalVllm, process: "subprocess.Popen[bytes]", held: socket.socket
    ) -> None:
        self.url = settings.url
        self.log_path = settings.log_path
        self._process = process
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the API server, which leads its own process group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def stop(self, grace_s: float = 20.0) -> None:
        """End the server and all its processes; by force after the grace time."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._signal(signal.SIGKILL)  # also what it may have left in its group
        self._process.wait()
        self._held.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start(settings: LocalVllm) -> LocalServer:
    """Start vLLM and wait until it is well.

    ReplicaError with the end of the log if it does not come up.
    """
    server = launch(settings)
    try:
        wait(settings, server)
    except BaseException:
        server.stop()
        raise
    return server


def launch(settings: LocalVllm) -> LocalServer:
    """Start vLLM and wait for nothing.  ReplicaError if somebody listens on its port.

    Call it from a thread that lives as long as the server should: the kernel ends the server
    with the thread that started it.
    """
    held = _hold(settings.port)
    settings.adapters_dir.mkdir(parents=True, exist_ok=True)
    settings.log_path.parent.mkdir(parents=True, exist_ok=True)
    with settings.log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), *_command(settings)],
            env=_environment(settings, dict(os.environ)),  # noqa: TID251 - the child's, not ours
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return LocalServer(settings, process, held)


def _hold(port: int) -> socket.socket:
    """Keep a port for the server that is starting: nobody else gets it by chance meanwhile.

    Who listens there first would be taken for our server, which shares the port without a word
    (vLLM 0.32 sets SO_REUSEPORT).  A socket that is bound and does not listen gets no connections.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except OSError as error:
        held.close()
        raise ReplicaError(
            f"port {port} is taken ({error.strerror})",
            subject=f"127.0.0.1:{port}",
            hint="End the server that listens there, or choose another port",
        ) from error
    return held


def _command(settings: LocalVllm) -> list[str]:
    # The `vllm` script of the CPU package does not start (it looks for a distribution "vllm").
    flags = {
        "--model": str(settings.model_dir.absolute()),
        "--served-model-name": settings.served_name,
        "--host": "127.0.0.1",
        "--port": str(settings.port),
        "--max-model-len": str(settings.max_model_len),
        "--max-num-seqs": str(settings.max_num_seqs),
        "--max-loras": str(settings.max_loras),
        "--max-cpu-loras": str(settings.max_cpu_loras),
        "--max-lora-rank": str(settings.max_lora_rank),
        "--dtype": "float32" if settings.dtype == "auto" and prefers_float32() else settings.dtype,
    }
    module = [str(settings.python), "-m", "vllm.entrypoints.openai.api_server"]
    switches = ["--enable-lora", "--enforce-eager", "--lora-target-modules"]
    if settings.plugin:
        # on a CPU blocks hold 128 tokens by default, more than any question: none would ever be
        # found in the prefix cache, which all chat prompts begin alike for; 32 is the smallest
        flags["--block-size"] = "32"
    given = [word for flag in flags.items() for word in flag]
    return [*module, *given, *switches, *settings.lora_modules]


def _environment(settings: LocalVllm, ours: dict[str, str]) -> dict[str, str]:
    plugins = {} if settings.plugin else {"VLLM_PLUGINS": ""}
    return (
        threads(_cores())
        | ours
        | plugins
        | {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "KDPO_ADAPTERS": str(settings.adapters_dir.absolute()),
            "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        }
    )


def threads(cores: Collection[int]) -> dict[str, str]:
    """Let vLLM compute on both of two cores; by itself it leaves one to its scheduler.

    153 against 95 tokens/s at 64 requests, 82 against 56 at 16 (the demo model, float32).
    """
    if len(cores) != 2:  # one core less of many is no great loss
        return {}
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(cores)))}


def _cores() -> Collection[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else ()


def wait(settings: LocalVllm, server: LocalServer) -> None:
    """Wait until a server is well.  ReplicaError with the end of its log if it does not get so."""
    started = time.monotonic()
    while not _is_well(settings.url):
        waited = time.monotonic() - started
        code = server.exit_code()
        if code is not None:
            raise _not_up(settings, f"vLLM ended with code {code} while starting")
        if waited > settings.start_s:
            raise _not_up(settings, f"vLLM was not ready after {settings.start_s:.0f} s")
        time.sleep(_POLL_S)


def _is_well(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _not_up(settings: LocalVllm, what: str) -> ReplicaError:
    lines = settings.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(line[:300] for line in lines[-_LOG_LINES:])
    return ReplicaError(
        f"{what}; its log ends with\n{tail}\n",
        subject=settings.url,
        hint=f"The whole log is in {settings.log_path}; docs/serving.md tells how to install vLLM",
    )
