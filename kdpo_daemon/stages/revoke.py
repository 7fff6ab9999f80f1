"""An operator's word -> facts that no later version teaches.  The next cycle makes that version.

What is revoked is what the wanted version teaches and should not: `plan` makes a batch without it,
as long as that is so, or `deploy` goes back to version 0 if nothing else is left.
"""

from collections.abc import Sequence

from kdpo_daemon.records.facts import Fact
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.rollback import give_up_open_batch
from kdpo_daemon.store import audit, batches, deployments, revocations
from kdpo_daemon.store.db import Database


def run(
    db: Database, fact_ids: Sequence[int], actor: str, reason: str, clock: Clock
) -> list[Fact]:
    """Revoke all of the facts or none; a batch under way that teaches one of them is given up.

    Raises:
        StoreError: no version teaches one of them, or it has ended already.

    """
    why = f"revoked by {actor}: {reason}" if reason else f"revoked by {actor}"
    now = clock()
    with db.begin() as tx:
        deployments.standing(tx)  # the lock: a batch that teaches them must not be promoted now
        revoked = [revocations.revoke(tx, fact_id, why, now) for fact_id in fact_ids]
        batch = batches.open_batch(tx)
        if batch and batches.teaches(tx, batch.id, fact_ids):
            give_up_open_batch(tx, f"fact:{fact_ids[0]} was {why}", clock)
        served = revocations.taught_by(tx)
        for fact_id in fact_ids:
            detail: dict[str, object] = {"reason": reason, "taught_by": served.get(fact_id, [])}
            audit.record(tx, actor, "fact.revoked", f"fact:{fact_id}", detail, now)
    return revoked
