"""The planned batch -> an adapter, through the training child; or a batch that failed, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from kdpo_daemon.errors import TuningError
from kdpo_daemon.orders import MANIFEST, Method, Order, Recipe
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.teaching import Batch, BatchStatus
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import adapters, audit, batches, facts, revocations
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuner import OrderRefusedError, Published, Tuner
from kdpo_daemon.tuner import Progress as Step

#: A batch that was begun this often without an end (a daemon that was killed each time) fails.
_MAX_BEGUN = 3
#: Wait before facts of a batch whose training broke are planned again.
_WAIT = timedelta(minutes=10)


@dataclass(frozen=True)
class BaseModel:
    """The model before any edit."""

    directory: Path
    sha256: str


@dataclass(frozen=True)
class Train:
    """The stage with what it works on."""

    db: Database
    tuner: Tuner
    base: Callable[[], BaseModel]  #: reading the weights' hash takes a while
    recipe: Recipe
    work: Path  #: orders are written here, a directory each
    adapters_dir: Path
    clock: Clock
    progress: Progress

    def run(self) -> Report:
        """Train the open batch, if it waits for that."""
        with self.db.begin() as tx:
            batch = batches.open_batch(tx)
            if batch is None or batch.status is not BatchStatus.PLANNED:
                return Report("train")
            if batch.attempts < _MAX_BEGUN:
                batches.set_batch_status(
                    tx, batch.id, BatchStatus.PLANNED, self.clock(), failed_attempt=True
                )
        if batch.attempts >= _MAX_BEGUN:
            return self._failed(batch, f"begun {batch.attempts} times and never finished", ())
        try:
            published = self._train(batch)
        except OrderRefusedError as error:
            return self._failed(batch, str(error), error.fact_ids)
        except TuningError as error:
            return self._failed(batch, str(error), ())
        self._record(batch, published)
        return Report("train", {"adapters": 1})

    def _train(self, batch: Batch) -> Published:
        with self.db.begin() as tx:
            pairs = batches.pairs_of(tx, batch.id)
            keep = batches.keep_of(tx, batch.id)
            known = {one.id: one for one in adapters.list_adapters(tx)}
            revoked = revocations.due(tx)
        base = self.base()
        parent = known.get(batch.parent_adapter_id or 0)
        if revoked and self.recipe.method is Method.ROWS:
            parent = None  # rows answer for whole subjects: what is left is taught anew
        order = Order(
            name=batch.adapter_name,
            base_dir=base.directory,
            base_sha256=base.sha256,
            parent_dir=Path(parent.path) if parent else None,
            recipe=self.recipe,
            seed=batch.seed + batch.id,
            threads=self.tuner.policy.threads,
            pairs=tuple(pairs),
            keep=tuple(keep),
        )

        def tell(step: Step) -> None:
            self.progress(f"training {batch.adapter_name}", step.step, step.of)

        return self.tuner.train(order, self.work, self.adapters_dir, self.clock(), tell)

    def _record(self, batch: Batch, published: Published) -> None:
        now = self.clock()
        manifest = (published.path / MANIFEST).read_text("utf-8")
        with self.db.begin() as tx:
            if batches.get_batch(tx, batch.id).status is not BatchStatus.PLANNED:
                return  # given up while it trained: by a rollback, a revocation
            taught = sorted({pair.fact_id for pair in batches.pairs_of(tx, batch.id)})
            adapters.save_adapter(
                tx,
                batch.adapter_name,
                str(published.path),
                manifest,
                published.manifest_sha256,
                batch.id,
                batch.parent_adapter_id,
                taught,
                now,
            )
            detail: dict[str, object] = {
                "path": str(published.path),
                "manifest_sha256": published.manifest_sha256,
            }
            subject = f"adapter:{batch.adapter_name}"
            audit.record(tx, "daemon", "adapter.trained", subject, detail, now)

    def _failed(self, batch: Batch, why: str, refused: Sequence[int]) -> Report:
        """Give the batch up: facts the child refused are quarantined, the others tried again."""
        now = self.clock()
        with self.db.begin() as tx:
            if batches.get_batch(tx, batch.id).status is not BatchStatus.PLANNED:
                return Report("train")  # given up while it trained: by a rollback, a revocation
            batches.set_batch_status(tx, batch.id, BatchStatus.FAILED, now, error=why)
            new = {pair.fact_id for pair in batches.pairs_of(tx, batch.id) if not pair.replay}
            bad = sorted(new & set(refused))
            rest = sorted(new - set(refused))
            facts.set_fact_status(tx, bad, FactStatus.QUARANTINED, why, now)
            later = None if bad else now + _WAIT
            facts.set_fact_status(tx, rest, FactStatus.PENDING, why, now, not_before=later)
            if later:
                revocations.postpone(tx, {one.id: later for one in revocations.due(tx)})
            detail: dict[str, object] = {"reason": why, "quarantined": bad}
            audit.record(tx, "daemon", "batch.failed", f"batch:{batch.adapter_name}", detail, now)
        return Report("train", {"failed": 1}, (f"{batch.adapter_name}: {why}",))
