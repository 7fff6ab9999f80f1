"""The move of one server to the wanted version, with the proof that it answers as it was judged.

Should it answer otherwise, the version before is wanted again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdpo_daemon.edits.scores import normalise
from kdpo_daemon.errors import ReplicaError, UnfitError
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.records.teaching import Answer, AnswerPurpose, ProbeKind
from kdpo_daemon.serving import AliasMode, Replica
from kdpo_daemon.stages import Clock
from kdpo_daemon.stages.rollback import give_up_open_batch
from kdpo_daemon.store import adapters, audit, deployments, probes
from kdpo_daemon.store.db import Database

#: Edit probes asked through the alias after it moved.
_ASKED = 24
#: Share of them that must be answered as the canary answered; below, the move is taken back.
_AGREE = 0.9


@dataclass(frozen=True)
class Promotion:
    """What a move needs besides the server and what is wanted."""

    db: Database
    alias: str
    mode: AliasMode
    adapters_dir: Path
    max_tokens: int
    fencing: Callable[[], int]  #: raises where another daemon has taken over
    clock: Clock

    def name(self, wanted: Deployment) -> str:
        """What a server is asked for: the alias, or the version where no server knows an alias."""
        return wanted.adapter.name if self.mode is AliasMode.VERSIONED else self.alias

    def promote(self, replica: Replica, wanted: Deployment) -> None:
        """Let the alias stand for the wanted version on this server.

        Raises:
            ReplicaError: it did not go, or the answers are not what they were.

        """
        replica.promote(self.alias, wanted.adapter, self.mode, self.adapters_dir)
        self.prove(replica, wanted)

    def prove(self, replica: Replica, wanted: Deployment) -> None:
        """Make sure that this server answers as the wanted version was judged.

        Raises:
            ReplicaError: it does not; the version before is wanted again.
            UnfitError: it does not, and the version has been served before: it is the server.

        """
        if self._answers_as_judged(replica, wanted):
            return
        said = f"{self.alias} does not answer as {wanted.adapter.name} did when it was judged"
        if self._taken_back(replica, wanted):
            hint = "the version before is wanted again; see `kdpo audit show`"
            raise ReplicaError(said, subject=replica.name, hint=hint)
        hint = "that version was right before: see this server's log, and start it anew"
        raise UnfitError(said, subject=replica.name, hint=hint)

    def _answers_as_judged(self, replica: Replica, wanted: Deployment) -> bool:
        """Ask some edit probes through the alias and compare with the canary's answers."""
        with self.db.begin() as tx:
            taught = adapters.facts_in(tx, wanted.adapter.id)
            asked = [
                probe
                for probe in probes.probes_of(tx, [fact.id for fact in taught])
                if probe.kind is ProbeKind.EDIT
            ]
            canary = probes.answers(
                tx, [p.id for p in asked], wanted.adapter.id, AnswerPurpose.CANARY
            )
        asked = [probe for probe in asked if probe.id in canary]
        asked = asked[:: max(1, len(asked) // _ASKED)][:_ASKED]
        if not asked:
            return True  # version 0 teaches nothing
        texts = replica.answer(self.name(wanted), [p.prompt for p in asked], self.max_tokens)
        rows = [Answer(probe.id, text) for probe, text in zip(asked, texts, strict=True)]
        with self.db.begin() as tx:
            probes.save_answers(
                tx, rows, wanted.adapter.id, replica.name, AnswerPurpose.SERVED, self.clock()
            )
        agree = sum(normalise(row.text) == normalise(canary[row.probe_id]) for row in rows)
        return agree >= _AGREE * len(rows)

    def _taken_back(self, replica: Replica, failed: Deployment) -> bool:
        """Want the version again that was wanted before the failed one.

        Tells whether the failed one is wanted no more.  It still is where this server has answered
        right as it before, and where it was itself wanted again, by a person or by us: the newer
        one that was left then must not come back.
        """
        now, fencing = self.clock(), self.fencing()
        with self.db.begin() as tx:
            newest = deployments.standing(tx)
            if newest is None or newest.adapter.id != failed.adapter.id:
                return True
            before = deployments.former(tx, newest)
            if before is None or before.id > newest.adapter.id:
                return False
            live = {one.name: one.deployment_id for one in deployments.replicas(tx)}
            if live.get(replica.name) == newest.id:
                return False
            reason = f"{replica.name} did not answer as {failed.adapter.name} was judged"
            deployments.deploy(tx, before.id, "sync", reason, fencing, now)
            give_up_open_batch(tx, reason, self.clock)
            detail: dict[str, object] = {"failed": failed.adapter.name, "reason": reason}
            subject = f"adapter:{before.name}"
            audit.record(tx, "sync", "deployment.reverted", subject, detail, now)
        return True
