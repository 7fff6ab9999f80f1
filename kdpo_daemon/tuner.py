"""Has an order trained by the training child, and publishes what it made.  Imports no torch.

The child is `python -m kdpo_daemon.tuning train IN OUT`, a fresh interpreter in a process group of
its own.  What it tells:

- a line of JSON on standard output for each step, {"step", "of", "loss", ...}: progress and
  heartbeat; before the first step other lines, as heartbeat alone, since all that is looked at
  until then takes minutes on a busy machine;
- exit 0: OUT holds the adapter and `scores.json`, the fields of `TrainingScores`;
- exit 2: the order is refused; the last line is {"refused": why, "fact_ids": [...]};
- anything else: it crashed, and the end of standard error says why.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kdpo_daemon import __version__
from kdpo_daemon.checkpoints import draft_of, found_whole, publish
from kdpo_daemon.child import Child, TunerPolicy
from kdpo_daemon.errors import TuningError
from kdpo_daemon.orders import Manifest, Order, Recipe, TrainingScores, order_sha256, write_order

_REFUSED = 2
_COMMAND = (sys.executable, "-m", "kdpo_daemon.tuning")
_NO_SCORES = TrainingScores(steps=0, learnt=0, accuracy=0, keep_kl=0, rank=1, seconds=0)


@dataclass(frozen=True)
class Progress:
    """One step of training, as the child tells it."""

    step: int
    of: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Published:
    """An adapter directory that is complete and will not change."""

    path: Path
    manifest_sha256: str
    scores: TrainingScores


class OrderRefusedError(TuningError):
    """The child would not train the order; `fact_ids` are the facts that are to blame."""

    def __init__(self, message: str, *, subject: str, fact_ids: tuple[int, ...]) -> None:
        super().__init__(message, subject=subject, refused=True)
        self.fact_ids = fact_ids


class Tuner:
    """Trains adapters, one at a time, in a child process."""

    def __init__(self, policy: TunerPolicy, command: Sequence[str] = _COMMAND) -> None:
        self.policy = policy
        self._command = tuple(command)
        self._child = Child(policy)

    def train(
        self,
        order: Order,
        work_dir: Path,
        adapters_dir: Path,
        created_at: datetime,
        on_progress: Callable[[Progress], None],
    ) -> Published:
        """Train an order into `adapters_dir / order.name`, or give what is there already.

        Raises:
            OrderRefusedError: some facts cannot be taught.
            TuningError: the child crashed, hung, ran out of memory or the disk is full.
            AdapterError: the directory exists and is another order's.

        """
        digest = order_sha256(order)
        final = adapters_dir / order.name
        there = found_whole(final, digest)
        if there is not None:
            return Published(final, there.sha256, there.manifest.scores)
        manifest = Manifest(
            adapter=order.name,
            base_name=order.base_dir.name,
            base_sha256=order.base_sha256,
            parent=order.parent_dir.name if order.parent_dir else None,
            order_sha256=digest,
            fact_ids=tuple(sorted({pair.fact_id for pair in order.pairs})),
            recipe=order.recipe,
            seed=order.seed,
            scores=_NO_SCORES,
            files={},
            code_version=__version__,
            created_at=created_at,
        )
        with _disk(work_dir):
            source = _fresh(work_dir / order.name)
            write_order(order, source)
        said = ["--said", str(work_dir / "said")]
        return self._run(["train", str(source)], final, manifest, on_progress, said)

    def baseline(
        self,
        base_dir: Path,
        base_sha256: str,
        adapters_dir: Path,
        created_at: datetime,
        name: str = "kdpo-000000",
    ) -> Published:
        """Make version 0, an adapter that changes nothing, or give what is there already."""
        final = adapters_dir / name
        there = found_whole(final, base_sha256)
        if there is not None:
            return Published(final, there.sha256, there.manifest.scores)
        manifest = Manifest(
            adapter=final.name,
            base_name=base_dir.name,
            base_sha256=base_sha256,
            parent=None,
            order_sha256=base_sha256,
            fact_ids=(),
            recipe=Recipe(),
            seed=0,
            scores=_NO_SCORES,
            files={},
            code_version=__version__,
            created_at=created_at,
        )
        return self._run(["baseline", str(base_dir)], final, manifest, lambda _: None)

    def stop(self) -> None:
        """End the child, if there is one, and start no other; its batch counts as untrained."""
        self._child.stop()

    def _run(
        self,
        arguments: Sequence[str],
        final: Path,
        manifest: Manifest,
        on_progress: Callable[[Progress], None],
        options: Sequence[str] = (),
    ) -> Published:
        """Let the child write into a draft, then publish it."""
        with _disk(final.parent), draft_of(final) as draft:
            command = [*self._command, *arguments, str(draft), *options]
            log = draft.with_suffix(".log")
            try:
                self._watch(command, manifest.adapter, log, on_progress)
            finally:
                log.unlink(missing_ok=True)
            scores = _take_scores(draft)
            return Published(final, publish(draft, final, manifest, scores), scores)

    def _watch(
        self,
        command: Sequence[str],
        name: str,
        log: Path,
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Run the child to its end.  Returns only if it ended well."""

        def tell(said: dict[str, Any]) -> None:
            if "step" in said:
                on_progress(_progress(said))

        ended = self._child.run(command, name, log, tell)
        if ended.code == _REFUSED and "refused" in ended.last:
            ids = tuple(int(one) for one in ended.last.get("fact_ids", ()))
            raise OrderRefusedError(str(ended.last["refused"]), subject=name, fact_ids=ids)
        if ended.code != 0:
            raise TuningError(ended.why, subject=name)


def _progress(said: dict[str, Any]) -> Progress:
    return Progress(
        step=int(said["step"]),
        of=int(said["of"]),
        loss=float(said.get("loss", 0)),
        accuracy=float(said.get("accuracy", 0)),
    )


def _take_scores(draft: Path) -> TrainingScores:
    """Move the child's scores out of its directory; they belong into the manifest."""
    path = draft / "scores.json"
    try:
        scores = TrainingScores(**json.loads(path.read_text("utf-8")))
        path.unlink()
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise TuningError("the training child left no scores", subject=str(draft)) from error
    return scores


@contextlib.contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Turn what the disk says into an error with a remedy."""
    try:
        yield
    except OSError as error:
        raise TuningError(
            f"cannot be written: {error.strerror}",
            subject=str(error.filename or directory),
            hint="make room, or give the directory to the daemon's user",
        ) from error


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
