"""Versions that nothing needs -> deleted directories, each with an audit line.

What a server lists, what a pointer names, what is wanted or may be wanted again in a moment is in
use.  A server that cannot be asked counts as using everything.  A version's row says `deleted_at`
before its directory goes, so that nobody can want it in between; a daemon killed in the middle
deletes the rest at its next cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from kdpo_daemon.checkpoints import delete, still_there
from kdpo_daemon.edits.retention import RetentionPolicy, expired
from kdpo_daemon.errors import AdapterError, ReplicaError
from kdpo_daemon.records.adapters import Adapter, KeptVersion
from kdpo_daemon.serving import Replica, aliases
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import adapters, audit, batches, deployments
from kdpo_daemon.store.db import Database, Session


@dataclass(frozen=True)
class Prune:
    """The stage with what it works on."""

    db: Database
    replicas: tuple[Replica, ...]
    adapters_dir: Path
    policy: RetentionPolicy
    clock: Clock

    def run(self) -> Report:
        """Put down what is unused since when; delete what has been for long enough."""
        try:
            paths = self._paths_in_use()
        except (ReplicaError, AdapterError):
            return Report("prune")  # whoever cannot be asked may use everything; sync complains
        with self.db.begin() as tx:
            # The lock: from here to the end nobody can want a version that is being given up.
            deployments.standing(tx)
            kept = self._seen(tx, paths)
            gone = expired(kept, self.policy, self.clock())
            since = {one.adapter.id: one.unused_since for one in kept}
            self._give_up(tx, gone, since)
            deleted = adapters.deleted(tx)
        problems = [problem for one in deleted if (problem := self._delete(one))]
        return Report("prune", {"deleted": len(gone)}, tuple(problems))

    def _paths_in_use(self) -> frozenset[str]:
        listed = {card.root for replica in self.replicas for card in replica.models()}
        return frozenset(listed | aliases.pointed(self.adapters_dir))

    def _seen(self, tx: Session, paths: frozenset[str]) -> list[KeptVersion]:
        """Put down what is in use now, and since when the others are not."""
        needed = _needed(tx)
        now = self.clock()
        seen = []
        for one in adapters.kept(tx):
            used = one.adapter.id in needed or one.adapter.path in paths
            since = None if used else one.unused_since or now
            if since != one.unused_since:
                adapters.set_unused(tx, one.adapter.id, since)
            # answers may go on after the alias has moved, seen or not by an earlier round
            ended = deployments.served_until(tx, one.adapter.id) if since else None
            if since and ended and ended > since:
                since = ended
            seen.append(replace(one, unused_since=since))
        return seen

    def _give_up(
        self, tx: Session, gone: Sequence[Adapter], since: Mapping[int, datetime | None]
    ) -> None:
        now = self.clock()
        for one in gone:
            adapters.mark_deleted(tx, one.id, now)
        for one in gone:
            unused = since[one.id]
            detail: dict[str, object] = {
                "path": one.path,
                "manifest_sha256": one.manifest_sha256,
                "unused_since": unused.isoformat() if unused else None,
            }
            audit.record(tx, "daemon", "adapter.deleted", f"adapter:{one.name}", detail, now)

    def _delete(self, one: Adapter) -> str:
        """Delete the directory if it is still there.  Gives what is in the way."""
        path = Path(one.path)
        if not still_there(path):
            return ""
        if path.parent != self.adapters_dir:
            return f"{path}: deleted by the record, but not in {self.adapters_dir}; remove it"
        try:
            delete(path)
        except OSError as error:
            return f"{path}: cannot be deleted ({error.strerror}); check the directory's owner"
        return ""


def _needed(tx: Session) -> frozenset[int]:
    """Give the versions that are wanted, may be wanted again in a moment, or are worked on."""
    wanted = deployments.wanted(tx)
    batch = batches.open_batch(tx)
    under_way = adapters.adapter_of_batch(tx, batch.id) if batch else None
    known = [one.adapter for one in adapters.kept(tx)]
    ids = {one.id for one in known if one.batch_id is None}  # version 0, the last resort
    ids |= deployments.serving(tx)
    if wanted:
        back = (deployments.former(tx, wanted), deployments.earlier(tx, wanted))
        ids |= {wanted.adapter.id, *(one.id for one in back if one)}
    if batch and batch.parent_adapter_id is not None:
        ids.add(batch.parent_adapter_id)
    if under_way:
        ids.add(under_way.id)
    return frozenset(ids)
