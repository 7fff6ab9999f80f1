"""Open claims -> facts, or a reason why not.  One transaction per claim."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from kdpo_daemon.facts.acceptance import AcceptancePolicy, Load, decide, is_change
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.facts import Decision, Slot
from kdpo_daemon.records.intake import OpenClaim, Ruling
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import audit, claims, facts
from kdpo_daemon.store.db import Database, Session

#: Claims looked at in one run; what is left waits for the next.
_PER_RUN = 10_000
#: Claims whose slots are read at once.
_AT_ONCE = 200


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
        counts: Counter[str] = Counter()
        for lot in _lots(waiting):
            counts += self._decide_lot(lot, load)
        return Report("accept", dict(counts))

    def _load(self, waiting: Sequence[OpenClaim]) -> Load:
        """Count first: that a claim is one of a thousand shows only with all in sight."""
        with self.db.begin() as tx:
            accepted = claims.accepted_since(tx, self.clock() - timedelta(days=1))
        load = Load(accepted=accepted)
        for lot in _lots(waiting):
            slots = self._slots(lot)
            for claim in lot:
                if is_change(claim, slots[_key(claim)], self.pack, self.policy):
                    day = claim.observed_at.date()
                    load.waiting[claim.source, claim.claim.relation, day] += 1
        return load

    def _decide_lot(self, lot: Sequence[OpenClaim], load: Load) -> Counter[str]:
        """Decide on some claims, but leave alone what is held and stays so.

        A slot is read anew where a decision in this lot may have changed it.
        """
        counts: Counter[str] = Counter()
        slots = self._slots(lot)
        for claim in lot:
            slot = slots.get(_key(claim))
            if slot and self._stays_held(claim, slot, load):
                continue
            ruling = self._decide(claim, load)
            if ruling is not Ruling.HELD:  # a claim that stays held is no news
                counts[ruling.value] += 1
                slots.pop(_key(claim), None)
        return counts

    def _slots(self, lot: Sequence[OpenClaim]) -> dict[claims.SlotKey, Slot]:
        with self.db.begin() as tx:
            return claims.slots_of(tx, {_key(claim) for claim in lot})

    def _stays_held(self, waiting: OpenClaim, slot: Slot, load: Load) -> bool:
        again = decide(waiting, slot, load, self.pack, self.policy, self.clock())
        return again == Decision(Ruling.HELD, waiting.held)

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


def _key(waiting: OpenClaim) -> claims.SlotKey:
    return claims.slot_key(waiting.claim.subject, waiting.claim.relation)


def _lots(waiting: Sequence[OpenClaim]) -> Iterator[Sequence[OpenClaim]]:
    for start in range(0, len(waiting), _AT_ONCE):
        yield waiting[start : start + _AT_ONCE]
