"""An operator's word -> a deployment row that names an earlier version.  `sync` does the rest."""

from dataclasses import dataclass

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.records.teaching import BatchStatus
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.deploy import new_facts
from kdpo_daemon.store import adapters, audit, batches, deployments, facts
from kdpo_daemon.store.db import Database, Session


@dataclass(frozen=True)
class Word:
    """Who says what is to be served, and why; for the audit log."""

    event: str
    actor: str
    reason: str


def run(db: Database, name: str | None, actor: str, reason: str, clock: Clock) -> Deployment:
    """Want the named version, or the one before the version that is wanted now.

    A pin stays: after a rollback under a freeze nothing is promoted either.

    Raises:
        StoreError: there is no such version, it was rejected, or there is none before.

    """
    word = Word("deployment.rollback", actor, reason)
    with db.begin() as tx:
        wanted = deployments.standing(tx)
        target = adapters.adapter_by_name(tx, name) if name else _earlier(tx, wanted)
        return want(tx, target, word, clock)


def want(
    tx: Session, target: Adapter, word: Word, clock: Clock, *, pinned: bool | None = None
) -> Deployment:
    """Want a version on a person's word; an audit line says so, unless nothing changes.

    A batch under way builds on the version that is wanted now; where that is another, the batch
    is given up and its facts wait for a later one.
    """
    now = clock()
    before = deployments.standing(tx)
    _refuse(tx, target, before)
    made = deployments.deploy(tx, target.id, word.actor, word.reason, 0, now, pinned=pinned)
    if before and made.id == before.id:
        return made
    if before and before.adapter.id != target.id:
        give_up_open_batch(tx, word.reason, clock)
    detail: dict[str, object] = {
        "from": before.adapter.name if before else None,
        "pinned": made.pinned,
        "reason": word.reason,
    }
    audit.record(tx, word.actor, word.event, f"adapter:{target.name}", detail, now)
    return made


def _earlier(tx: Session, wanted: Deployment | None) -> Adapter:
    found = deployments.earlier(tx, wanted) if wanted else None
    if found is None:
        raise StoreError(
            "there is no earlier version",
            subject="rollback",
            hint="name one: `kdpo adapters list` shows them",
        )
    return found


def _refuse(tx: Session, target: Adapter, before: Deployment | None) -> None:
    served = {one.adapter.id for one in deployments.list_deployments(tx)}
    if target.id not in served:
        raise StoreError(
            "this version was never deployed",
            subject=target.name,
            hint="only versions that passed the gate can be wanted; see `kdpo adapters list`",
        )
    if target.deleted_at:
        raise StoreError(
            f"its files were deleted at {target.deleted_at:%Y-%m-%d %H:%M}",
            subject=target.name,
            hint="name a version that still has its files; see `kdpo adapters list`",
        )

    if before and adapters.base_of(tx, target.id) != adapters.base_of(tx, before.adapter.id):
        raise StoreError(
            f"was made for another model than {before.adapter.name}",
            subject=target.name,
            hint="[model] path decides which model is served: see docs/serving.md",
        )


def give_up_open_batch(tx: Session, reason: str, clock: Clock) -> None:
    """Give up the batch under way, for its ground is taken away; its facts wait for another."""
    now = clock()
    batch = batches.open_batch(tx)
    if batch is None:
        return
    why = f"given up, its ground was taken away: {reason}"
    batches.set_batch_status(tx, batch.id, BatchStatus.FAILED, now, error=why)
    ids = [fact.id for fact in new_facts(tx, batch)]
    facts.set_fact_status(tx, ids, FactStatus.PENDING, why, now)
    audit.record(tx, "daemon", "batch.failed", f"batch:{batch.adapter_name}", {"reason": why}, now)
