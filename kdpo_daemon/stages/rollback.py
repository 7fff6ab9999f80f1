"""An operator's word -> a deployment row that names an earlier version.  `sync` does the rest."""

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.records.teaching import BatchStatus
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.deploy import new_facts
from kdpo_daemon.store import adapters, audit, batches, deployments, facts
from kdpo_daemon.store.db import Database, Session


def run(db: Database, name: str | None, actor: str, reason: str, clock: Clock) -> Deployment:
    """Want the named version, or the one before the version that is wanted now.

    A batch under way builds on what is being taken back, so it is given up; its facts wait
    for a later batch.

    Raises:
        StoreError: there is no such version, it was rejected, or there is none before.

    """
    now = clock()
    with db.begin() as tx:
        wanted = deployments.wanted(tx)
        target = adapters.adapter_by_name(tx, name) if name else _before(tx, wanted)
        _refuse_unjudged(tx, target)
        if wanted and wanted.adapter.id == target.id:
            return wanted
        _give_up_open_batch(tx, reason, clock)
        made = deployments.deploy(tx, target.id, actor, reason, 0, now)
        detail: dict[str, object] = {
            "from": wanted.adapter.name if wanted else None,
            "reason": reason,
        }
        audit.record(tx, actor, "deployment.rollback", f"adapter:{target.name}", detail, now)
    return made


def _before(tx: Session, wanted: Deployment | None) -> Adapter:
    if wanted is not None:
        for one in sorted(deployments.list_deployments(tx), key=lambda d: d.id, reverse=True):
            if one.adapter.id < wanted.adapter.id:
                return one.adapter
    raise StoreError(
        "there is no earlier version",
        subject="rollback",
        hint="name one: `kdpo adapters list` shows them",
    )


def _refuse_unjudged(tx: Session, target: Adapter) -> None:
    served = {one.adapter.id for one in deployments.list_deployments(tx)}
    if target.id not in served:
        raise StoreError(
            "this version was never deployed",
            subject=target.name,
            hint="only versions that passed the gate can be wanted; see `kdpo adapters list`",
        )


def _give_up_open_batch(tx: Session, reason: str, clock: Clock) -> None:
    now = clock()
    batch = batches.open_batch(tx)
    if batch is None:
        return
    why = f"given up, a rollback took its ground away: {reason}"
    batches.set_batch_status(tx, batch.id, BatchStatus.FAILED, now, error=why)
    ids = [fact.id for fact in new_facts(tx, batch)]
    facts.set_fact_status(tx, ids, FactStatus.PENDING, why, now)
    audit.record(tx, "daemon", "batch.failed", f"batch:{batch.adapter_name}", {"reason": why}, now)
