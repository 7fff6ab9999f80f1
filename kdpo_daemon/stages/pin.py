"""An operator's word -> a deployment row that is pinned, or no more.  `sync` does the rest.

While the wanted version is pinned, the cycle goes on up to the verdict: facts are accepted, one
batch is trained and judged.  A promotion waits.
"""

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.rollback import Word, want
from kdpo_daemon.store import adapters, deployments
from kdpo_daemon.store.db import Database, Session


def pin(db: Database, name: str, actor: str, reason: str, clock: Clock) -> Deployment:
    """Want the named version, and stay with it.

    Raises:
        StoreError: there is no such version, it was never deployed, or its files are deleted.

    """
    with db.begin() as tx:
        deployments.standing(tx)  # the lock, before anything is read
        target = adapters.adapter_by_name(tx, name)
        return want(tx, target, Word("deployment.pinned", actor, reason), clock, pinned=True)


def freeze(db: Database, actor: str, reason: str, clock: Clock) -> Deployment:
    """Stay with the version that is wanted now.  StoreError when none is."""
    with db.begin() as tx:
        word = Word("deployment.frozen", actor, reason)
        return want(tx, _wanted(tx).adapter, word, clock, pinned=True)


def thaw(db: Database, actor: str, reason: str, clock: Clock) -> Deployment:
    """Let the gate promote again; moves nothing itself.  StoreError when nothing is wanted."""
    with db.begin() as tx:
        word = Word("deployment.thawed", actor, reason)
        return want(tx, _wanted(tx).adapter, word, clock, pinned=False)


def _wanted(tx: Session) -> Deployment:
    wanted = deployments.standing(tx)
    if wanted is None:
        raise StoreError(
            "no version is wanted yet", subject="deployment", hint="run `kdpo once` first"
        )
    return wanted
