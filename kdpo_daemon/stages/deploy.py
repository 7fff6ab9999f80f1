"""Verdict -> a deployment row, or facts for another try.  Moves nothing itself: that is `sync`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kdpo_daemon.edits.gate import GatePolicy
from kdpo_daemon.edits.retry import RetryPolicy, after_failure, next_try
from kdpo_daemon.edits.scores import learned
from kdpo_daemon.edits.split import Said, Split, own_scores, split
from kdpo_daemon.records.adapters import Adapter, Score, Verdict, VerdictRuling
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import AnswerPurpose, Batch, BatchStatus
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.stages.judge import judged_probes
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


@dataclass(frozen=True)
class Deploy:
    """The stage with what it works on."""

    db: Database
    gate: GatePolicy
    retry: RetryPolicy
    fencing: int
    clock: Clock

    def run(self) -> Report:
        """Carry out the verdict on the open batch, if there is one, in one transaction."""
        now = self.clock()
        with self.db.begin() as tx:
            standing = deployments.standing(tx)
            batch = batches.open_batch(tx)
            adapter = adapters.adapter_of_batch(tx, batch.id) if batch else None
            verdict = adapters.verdict_of(tx, adapter.id) if adapter else None
            if batch is None or adapter is None or verdict is None:
                return Report("deploy")
            if verdict.ruling is VerdictRuling.REJECT:
                return self._reject(tx, batch, adapter, verdict, now)
            if standing and standing.pinned:
                return Report("deploy")  # it waits, whole, for `kdpo thaw`
            return self._promote(tx, batch, adapter, verdict, now)

    def _promote(
        self, tx: Session, batch: Batch, adapter: Adapter, verdict: Verdict, now: datetime
    ) -> Report:
        batches.set_batch_status(tx, batch.id, BatchStatus.PROMOTED, now)
        reason = f"the gate promoted it: {'; '.join(verdict.reasons)}"
        deployments.deploy(tx, adapter.id, "gate", reason, self.fencing, now)
        detail: dict[str, object] = {"adapter": adapter.name}
        audit.record(tx, "gate", "deployment.wanted", f"adapter:{adapter.name}", detail, now)
        new = new_facts(tx, batch)
        facts.ungroup(tx, [fact.id for fact in new])
        missed = _not_learned(tx, adapter, new)
        for fact in missed:
            self._try_again(tx, fact, f"{adapter.name} did not learn it", now)
        return Report("deploy", {"promoted": 1, "not learned": len(missed)})

    def _reject(
        self, tx: Session, batch: Batch, adapter: Adapter, verdict: Verdict, now: datetime
    ) -> Report:
        """Have the batch's facts tried again in smaller groups, or alone and less often."""
        reasons = "; ".join(verdict.reasons)
        batches.set_batch_status(tx, batch.id, BatchStatus.REJECTED, now, error=reasons)
        why = f"{adapter.name} was rejected: {reasons}"
        new = new_facts(tx, batch)
        if new:
            self._part(tx, batch, adapter, new, why, now)
        due = revocations.due(tx)
        later = {fact.id: next_try(fact.attempts, self.retry, now) for fact in due}
        revocations.postpone(tx, later)
        return Report("deploy", {"rejected": 1}, (f"{adapter.name} rejected: {reasons}",))

    def _part(
        self,
        tx: Session,
        batch: Batch,
        adapter: Adapter,
        new: Sequence[Fact],
        why: str,
        now: datetime,
    ) -> None:
        own = _own_scores(tx, adapter, new)
        parts = split(own, adapters.scores_of(tx, adapter.id), self.gate)
        # one that was replaced meanwhile is tried no more
        still = [fact for fact in new if fact.status is FactStatus.PLANNED]
        for ids in parts.groups:
            facts.group(tx, [fact.id for fact in still if fact.id in ids])
        if parts.failed:
            for fact in still:
                self._try_again(tx, fact, "; ".join([why, *_told(own[fact.id])]), now)
        else:
            _split_up(tx, batch, parts, still, why, now)

    def _try_again(self, tx: Session, fact: Fact, why: str, now: datetime) -> None:
        status, not_before = after_failure(fact.attempts, self.retry, now)
        facts.set_fact_status(
            tx, [fact.id], status, why, now, not_before=not_before, failed_attempt=True
        )
        event = "fact.quarantined" if status is FactStatus.QUARANTINED else "fact.retried"
        audit.record(tx, "gate", event, f"fact:{fact.id}", {"reason": why}, now)


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


def _own_scores(tx: Session, adapter: Adapter, new: Sequence[Fact]) -> dict[int, list[Score]]:
    """Score a candidate by what was asked about each of these facts, by the fact's id."""
    mine = {fact.id for fact in new}
    judged = judged_probes(tx, adapters.facts_in(tx, adapter.id))
    asked = [probe for probe in judged if probe.fact_id in mine]
    ids = [probe.id for probe in asked]
    said = Said(
        asked,
        probes.all_answers(tx, ids, None, AnswerPurpose.BASE),
        probes.answers(tx, ids, adapter.id, AnswerPurpose.CANARY),
    )
    return {fact.id: own_scores(fact, said) for fact in new}


def _told(own: Sequence[Score]) -> list[str]:
    figures = ", ".join(f"{one.name} {one.value:.3f} of {one.n}" for one in own)
    return [f"its own scores: {figures}"] if figures else []


def _split_up(
    tx: Session, batch: Batch, parts: Split, new: Sequence[Fact], why: str, now: datetime
) -> None:
    """Let facts wait for the batch of their group, at once and without a failed attempt."""
    for fact in new:
        reason = f"{why}; {parts.why(fact.id)}"
        facts.set_fact_status(tx, [fact.id], FactStatus.PENDING, reason, now)
        audit.record(tx, "gate", "fact.grouped", f"fact:{fact.id}", {"reason": reason}, now)
    detail: dict[str, object] = {
        "groups": parts.groups,
        "suspects": parts.suspects,
        "reason": why,
    }
    audit.record(tx, "gate", "batch.split", f"batch:{batch.adapter_name}", detail, now)
