"""Open claims -> facts, or a reason why not.  One transaction per claim."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from kdpo_daemon.facts.acceptance import AcceptancePolicy, Load, decide, is_change
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.facts import Slot
from kdpo_daemon.records.intake import OpenClaim, Ruling
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import audit, claims, facts
from kdpo_daemon.store.db import Database, Session

#: Claims looked at in one run; what is left waits for the next.
_PER_RUN = 10_000


@dataclass(frozen=True)
class Accept:
    """The stage with what it works on."""

    db: Database
    pack: Pack
    policy: AcceptancePolicy
    clock: Clock

    def run(self) -> Report:
        """Decide on every open or held claim, oldest first."""
        with self.db.begin() as tx:
            waiting = claims.open_claims(tx, _PER_RUN)
        if not waiting:
            return Report("accept")
        load = self._load(waiting)
        counts = Counter(self._decide(claim, load).value for claim in waiting)
        counts.pop(Ruling.HELD.value, None)  # a claim that stays held is no news
        return Report("accept", dict(counts))

    def _load(self, waiting: Sequence[OpenClaim]) -> Load:
        """Count first: that a claim is one of a thousand shows only with all in sight."""
        with self.db.begin() as tx:
            accepted = claims.accepted_since(tx, self.clock() - timedelta(days=1))
        load = Load(accepted=accepted)
        for claim in waiting:
            with self.db.begin() as tx:
                slot = _slot(tx, claim)
            if is_change(claim, slot, self.pack, self.policy):
                day = claim.observed_at.date()
                load.waiting[claim.source, claim.claim.relation, day] += 1
        return load

    def _decide(self, waiting: OpenClaim, load: Load) -> Ruling:
        now = self.clock()
        with self.db.begin() as tx:
            decision = decide(waiting, _slot(tx, waiting), load, self.pack, self.policy, now)
            fact_id = facts.decide(tx, waiting.id, decision, now)
            if decision.ruling is not Ruling.HELD:
                detail: dict[str, object] = {"reason": decision.reason, "fact": fact_id}
                if decision.supersedes is not None:
                    detail["supersedes"] = decision.supersedes
                event = f"claim.{decision.ruling.value}"
                audit.record(tx, "rules", event, f"claim:{waiting.id}", detail, now)
        return decision.ruling


def _slot(tx: Session, waiting: OpenClaim) -> Slot:
    return claims.slot_of(tx, waiting.claim.subject, waiting.claim.relation)
