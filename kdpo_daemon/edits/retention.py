"""Which versions' files may be deleted.  Pure; `stages.prune` asks the servers and deletes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kdpo_daemon.records.adapters import Adapter, KeptVersion


@dataclass(frozen=True)
class RetentionPolicy:
    """How long the files of versions are kept that nothing needs."""

    versions: int = (
        10  #: the newest so many that were ever deployed stay; a rollback may name them
    )
    hours: float = 168.0  #: since a version was made
    drain_s: float = 3600.0  #: since nothing used it; longer than any request takes


def expired(kept: Sequence[KeptVersion], policy: RetentionPolicy, now: datetime) -> list[Adapter]:
    """Give the versions to delete, oldest first; `unused_since` None says that it is in use."""
    deployed = sorted(one.adapter.id for one in kept if one.deployed)
    newest = set(deployed[-policy.versions :]) if policy.versions > 0 else set()
    return [
        one.adapter
        for one in sorted(kept, key=lambda one: one.adapter.id)
        if one.unused_since is not None
        and one.adapter.id not in newest
        and now - one.unused_since > timedelta(seconds=policy.drain_s)
        and now - one.created_at > timedelta(hours=policy.hours)
    ]
