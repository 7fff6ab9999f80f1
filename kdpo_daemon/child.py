"""A child process that tells how it goes in lines of JSON: started, listened to, and ended.

Each line of JSON on its standard output is a sign of life.  It runs in a process group of its own
and dies with this process.  Knows nothing of training.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kdpo_daemon.errors import TuningError

# Runs in the new process before it becomes the child: give way to serving, be the first that the
# kernel kills when memory is short, and die with the daemon (PR_SET_PDEATHSIG is 1, SIGKILL 9).
_PRELUDE = """
import contextlib, ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.nice(int(sys.argv[2]))
os.environ["HF_HUB_OFFLINE"] = "1"
# Keep freed memory.  glibc returns every large tensor's pages, and the kernel clears them anew for
# the next: a softmax over 288 x 49,152 logits takes 65 ms so and 14 ms with what it had before.
os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
os.execv(sys.argv[3], sys.argv[3:])
"""
_ERROR_CHARS = 2000  #: of the end of the child's standard error, kept as the reason


@dataclass(frozen=True)
class TunerPolicy:
    """How long and with how much a child may train."""

    deadline_s: float = 3600.0  #: for one batch
    heartbeat_s: float = 300.0  #: without a sign the child counts as hung
    threads: int = 0  #: CPU threads; 0: all
    niceness: int = 5  #: so that serving on the same machine goes first


@dataclass(frozen=True)
class Ended:
    """How a child ended by itself."""

    code: int
    last: dict[str, Any]  #: its last line of JSON; empty if there was none
    why: str  #: what to tell when the code is not one that the caller expects


class Child:
    """Runs one child at a time; `stop` may come from another thread."""

    def __init__(self, policy: TunerPolicy) -> None:
        self._policy = policy
        self._child: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the child, if there is one, and start no other."""
        self._stopped.set()
        if self._child is not None:
            _end(self._child)

    def run(
        self,
        command: Sequence[str],
        name: str,
        log: Path,
        on_line: Callable[[dict[str, Any]], None],
    ) -> Ended:
        """Run a command to its end; `name` is what errors speak of, `log` takes standard error.

        Raises:
            TuningError: it gave no sign of life, took too long, or `stop` was called.

        """
        with log.open("w") as errors:
            child = self._start(command, errors)
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_pump, args=(child, lines), daemon=True).start()
            try:
                last = self._listen(lines, name, on_line)
                code = child.wait()
            finally:
                _end(child)
                self._child = None
        return Ended(code, last, _why(code, log))

    def _start(self, command: Sequence[str], errors: IO[str]) -> "subprocess.Popen[str]":
        if self._stopped.is_set():
            raise TuningError("the daemon is stopping", subject=command[-1])
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
            [
                sys.executable,
                "-c",
                _PRELUDE,
                str(os.getpid()),
                str(self._policy.niceness),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        self._child = child
        return child

    def _listen(
        self,
        lines: "queue.Queue[str | None]",
        name: str,
        on_line: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Follow the child's lines to the last one, and give it."""
        end = time.monotonic() + self._policy.deadline_s
        last: dict[str, Any] = {}
        while True:
            patience = min(self._policy.heartbeat_s, end - time.monotonic())
            try:
                line = lines.get(timeout=max(patience, 0))
            except queue.Empty:
                raise TuningError(self._late(end), subject=name) from None
            if line is None:
                return last
            with contextlib.suppress(ValueError):  # a library may print what it likes
                said = json.loads(line)
                if isinstance(said, dict):
                    last = said
                    on_line(said)

    def _late(self, end: float) -> str:
        if time.monotonic() >= end:
            return f"training was not done within {self._policy.deadline_s:g} s"
        return f"no sign of life for {self._policy.heartbeat_s:g} s"


def _pump(child: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    """Hand the child's lines over; None when it closed its output."""
    if child.stdout is not None:
        with child.stdout:
            for line in child.stdout:
                lines.put(line)
    lines.put(None)


def _end(child: "subprocess.Popen[str]") -> None:
    """Ask the child's group to end, then make it."""
    for number, wait_s in ((signal.SIGTERM, 5), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
            return


def _why(code: int, log: Path) -> str:
    if code == -signal.SIGKILL:
        return "the training child was killed, probably out of memory"
    said = log.read_text("utf-8", errors="replace")[-_ERROR_CHARS:].strip()
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    return f"the training child ended {how}: {said or 'it said nothing'}"
