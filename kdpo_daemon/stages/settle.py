"""What servers serve -> the status of facts: live what the wanted version answers for, no other.

One server that answers with it is enough: were all waited for, a single one that is away would
keep what the others serve from counting as taught.
"""

from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.deploy import new_facts
from kdpo_daemon.store import adapters, audit, batches, deployments, facts
from kdpo_daemon.store.db import Database, Session


def run(db: Database, wanted: Deployment, clock: Clock) -> None:
    """Set the facts' status, if this is what is wanted still and a server has it."""
    with db.begin() as tx:
        if deployments.standing(tx) == wanted and deployments.is_live(tx, wanted):
            _settle(tx, wanted, clock)


def _settle(tx: Session, wanted: Deployment, clock: Clock) -> None:
    now = clock()
    name = wanted.adapter.name
    inside = {fact.id: fact for fact in adapters.facts_in(tx, wanted.adapter.id)}
    taught = [
        fact.id
        for fact in inside.values()
        if fact.status in (FactStatus.PLANNED, FactStatus.ROLLED_BACK)
    ]
    facts.set_fact_status(tx, taught, FactStatus.LIVE, f"served by {name}", now)
    gone = _gone(tx, frozenset(inside))
    reason = f"{name} is wanted again: {wanted.reason}"
    facts.set_fact_status(tx, gone, FactStatus.ROLLED_BACK, reason, now)
    for status, ids in ((FactStatus.LIVE, taught), (FactStatus.ROLLED_BACK, gone)):
        for fact_id in ids:
            detail: dict[str, object] = {"adapter": name}
            audit.record(tx, wanted.actor, f"fact.{status.value}", f"fact:{fact_id}", detail, now)


def _gone(tx: Session, inside: frozenset[int]) -> list[int]:
    """Give the facts that were taught, but not by the wanted version.

    Those that are still planned, and in no batch under way, are of a version that was taken back
    before any server had it.
    """
    under_way = batches.open_batch(tx)
    begun = {fact.id for fact in new_facts(tx, under_way)} if under_way else set[int]()
    return [
        fact.id
        for status in (FactStatus.LIVE, FactStatus.PLANNED)
        for fact in facts.facts_with(tx, status)
        if fact.id not in inside and fact.id not in begun
    ]
