"""Verdict -> a deployment row, or facts for another try.  Moves nothing itself: that is `sync`."""

from kdpo_daemon.edits.retry import RetryPolicy, after_failure, next_try
from kdpo_daemon.edits.scores import learned
from kdpo_daemon.records.adapters import Adapter, VerdictRuling
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import AnswerPurpose, Batch, BatchStatus
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import (
    adapters,
    audit,
    batches,
    deployments,
    facts,
    probes,
    revocations,
)
from kdpo_daemon.store.db import Database, Session


def run(db: Database, policy: RetryPolicy, fencing: int, clock: Clock) -> Report:
    """Carry out the verdict on the open batch, if there is one, in one transaction."""
    now = clock()
    with db.begin() as tx:
        standing = deployments.standing(tx)
        batch = batches.open_batch(tx)
        adapter = adapters.adapter_of_batch(tx, batch.id) if batch else None
        verdict = adapters.verdict_of(tx, adapter.id) if adapter else None
        if batch is None or adapter is None or verdict is None:
            return Report("deploy")
        if standing and standing.pinned and verdict.ruling is VerdictRuling.PROMOTE:
            return Report("deploy")  # it waits, whole, for `kdpo thaw`
        new = new_facts(tx, batch)
        if verdict.ruling is VerdictRuling.REJECT:
            why = "; ".join(verdict.reasons)
            batches.set_batch_status(tx, batch.id, BatchStatus.REJECTED, now, error=why)
            _try_again(tx, new, f"{adapter.name} was rejected: {why}", policy, clock)
            due = revocations.due(tx)
            later = {one.id: next_try(one.attempts, policy, now) for one in due}
            revocations.postpone(tx, later)
            return Report("deploy", {"rejected": 1}, (f"{adapter.name} rejected: {why}",))
        batches.set_batch_status(tx, batch.id, BatchStatus.PROMOTED, now)
        reason = f"the gate promoted it: {'; '.join(verdict.reasons)}"
        deployments.deploy(tx, adapter.id, "gate", reason, fencing, now)
        detail: dict[str, object] = {"adapter": adapter.name}
        audit.record(tx, "gate", "deployment.wanted", f"adapter:{adapter.name}", detail, now)
        missed = _not_learned(tx, adapter, new)
        _try_again(tx, missed, f"{adapter.name} did not learn it", policy, clock)
    return Report("deploy", {"promoted": 1, "not learned": len(missed)})


def waiting(tx: Session) -> Adapter | None:
    """Give the version that passed the gate and is not wanted yet."""
    batch = batches.open_batch(tx)
    adapter = adapters.adapter_of_batch(tx, batch.id) if batch else None
    verdict = adapters.verdict_of(tx, adapter.id) if adapter else None
    return adapter if verdict and verdict.ruling is VerdictRuling.PROMOTE else None


def new_facts(tx: Session, batch: Batch) -> list[Fact]:
    """Give the facts that a batch teaches for the first time."""
    ids = sorted({pair.fact_id for pair in batches.pairs_of(tx, batch.id) if not pair.replay})
    return [facts.get_fact(tx, fact_id) for fact_id in ids]


def _not_learned(tx: Session, adapter: Adapter, new: list[Fact]) -> list[Fact]:
    asked = probes.probes_of(tx, [fact.id for fact in new])
    said = probes.answers(tx, [p.id for p in asked], adapter.id, AnswerPurpose.CANARY)
    marks = learned([p for p in asked if p.id in said], said)
    return [fact for fact in new if not marks.get(fact.id, False)]


def _try_again(
    tx: Session, failed: list[Fact], why: str, policy: RetryPolicy, clock: Clock
) -> None:
    now = clock()
    for fact in failed:
        status, not_before = after_failure(fact.attempts, policy, now)
        facts.set_fact_status(
            tx, [fact.id], status, why, now, not_before=not_before, failed_attempt=True
        )
        event = "fact.quarantined" if status is FactStatus.QUARANTINED else "fact.retried"
        audit.record(tx, "gate", event, f"fact:{fact.id}", {"reason": why}, now)
