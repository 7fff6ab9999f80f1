"""An operator's word -> facts that no later version teaches.  The next cycle makes that version.

As long as the wanted version teaches what is revoked, `plan` makes a batch without it; or wants
version 0, if nothing else is left to teach.
"""

from collections.abc import Sequence

from kdpo_daemon.records.facts import Fact
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.rollback import Word, give_up_open_batch, want
from kdpo_daemon.store import adapters, audit, batches, deployments, revocations
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


def bare(db: Database, clock: Clock) -> bool:
    """Want version 0 if all that the wanted version teaches was revoked; not against a pin.

    Tells whether it is wanted now: there is nothing to train then.
    """
    with db.begin() as tx:
        standing = deployments.standing(tx)
        due = revocations.due(tx)
        if standing is None or standing.pinned or not due:
            return False
        if batches.open_batch(tx) or adapters.taught_again(tx, standing.adapter.id):
            return False
        told = ", ".join(f"fact:{fact.id} was {fact.reason}" for fact in due)
        word = Word("deployment.wanted", "daemon", f"no fact is left: {told}")
        want(tx, adapters.version_0(tx, standing.adapter.id), word, clock)
    return True
