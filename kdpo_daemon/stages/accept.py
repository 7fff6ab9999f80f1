"""Open claims -> facts, or a reason why not.  One transaction per claim."""

from collections import Counter

from kdpo_daemon.facts.acceptance import AcceptancePolicy, decide
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records import OpenClaim, Ruling
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import audit, facts
from kdpo_daemon.store.db import Database

#: Claims looked at in one run; what is left waits for the next.
_PER_RUN = 10_000


def run(db: Database, pack: Pack, policy: AcceptancePolicy, clock: Clock) -> Report:
    """Decide on every open or held claim, oldest first."""
    with db.begin() as tx:
        waiting = facts.open_claims(tx, _PER_RUN)
    counts = Counter(_decide(db, claim, pack, policy, clock).value for claim in waiting)
    counts.pop(Ruling.HELD.value, None)  # a claim that stays held is no news
    return Report("accept", dict(counts))


def _decide(
    db: Database, waiting: OpenClaim, pack: Pack, policy: AcceptancePolicy, clock: Clock
) -> Ruling:
    now = clock()
    with db.begin() as tx:
        standing = facts.standing_fact(tx, waiting.claim.subject, waiting.claim.relation)
        decision = decide(waiting, standing, pack, policy)
        fact_id = facts.decide(tx, waiting.id, decision, now)
        if decision.ruling is not Ruling.HELD:
            detail: dict[str, object] = {"reason": decision.reason, "fact": fact_id}
            if decision.supersedes is not None:
                detail["supersedes"] = decision.supersedes
            event = f"claim.{decision.ruling.value}"
            audit.record(tx, "rules", event, f"claim:{waiting.id}", detail, now)
    return decision.ruling
