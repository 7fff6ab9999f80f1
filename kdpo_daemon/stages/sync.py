"""The newest deployment row -> what every server serves under the alias.

Works like a controller: it asks each server what it has and does what is missing, so a restarted
server, a half-finished roll-out and a rollback are one and the same case.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kdpo_daemon.checkpoints import checked
from kdpo_daemon.edits.rollout import Load, Promote, Reported, Unload, steps
from kdpo_daemon.edits.scores import normalise
from kdpo_daemon.errors import AdapterError, ReplicaError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment, ReplicaStatus
from kdpo_daemon.records.teaching import Answer, AnswerPurpose, ProbeKind
from kdpo_daemon.serving import AliasMode, Replica, aliases
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.store import adapters, audit, batches, deployments, facts, probes
from kdpo_daemon.store.db import Database, Session

#: Edit probes asked through the alias after it moved.
_ASKED = 24
#: Share of them that must be answered as the canary answered; below, the move is taken back.
_AGREE = 0.9


@dataclass(frozen=True)
class _Ended:
    """How it went with one server."""

    moved: bool = False
    problem: str = ""
    refused: bool = False  #: it answers, but would not have what is wanted


@dataclass(frozen=True)
class Sync:
    """The stage with what it works on."""

    db: Database
    replicas: tuple[Replica, ...]
    alias: str
    mode: AliasMode
    adapters_dir: Path
    max_tokens: int
    at_once: int  #: servers that are moved at the same time
    fencing: int
    clock: Clock

    def run(self) -> Report:
        """Bring every server to the wanted adapter: one first, then some at once.

        A new deployment goes to one server alone, the first that answers; should that refuse it,
        the others are left as they are.
        """
        with self.db.begin() as tx:
            wanted = deployments.wanted(tx)
            states = deployments.replicas(tx)
        if wanted is None:
            return Report("sync")
        proven = any(state.deployment_id == wanted.id for state in states)
        todo, ended = list(self.replicas), []
        while todo and not proven:
            ended.append(self._tried(todo.pop(0), wanted))
            if ended[-1].refused:
                todo = []
            proven = not ended[-1].problem
        with ThreadPoolExecutor(self.at_once) as pool:
            ended += pool.map(lambda replica: self._tried(replica, wanted), todo)
        problems = tuple(one.problem for one in ended if one.problem)
        if not problems:
            self._keep_pointer(wanted)
            with self.db.begin() as tx:
                _settle(tx, wanted, self.clock)
        return Report("sync", {"moved": sum(one.moved for one in ended)}, problems)

    def _keep_pointer(self, wanted: Deployment) -> None:
        """Write the pointer again if it is damaged: a server reads it only when it starts anew."""
        standing = (self.adapters_dir, self.alias, wanted.adapter)
        if self.mode is AliasMode.PLUGIN and not aliases.stands_for(*standing):
            aliases.point(*standing)

    def _tried(self, replica: Replica, wanted: Deployment) -> "_Ended":
        """Bring one server there; what keeps it from that is put down and told."""
        answered = False
        try:
            reported = Reported(tuple(replica.models()), replica.served_by(self.alias))
            answered = True
            return _Ended(moved=self._bring(replica, wanted, reported))
        except (ReplicaError, AdapterError) as error:
            self._note(replica, ReplicaStatus.FAILED, str(error))
            return _Ended(problem=str(error), refused=answered)

    def _bring(self, replica: Replica, wanted: Deployment, reported: Reported) -> bool:
        """Move the alias on one server if it serves something else.  Tells whether it moved."""
        moves = False
        for step in steps(wanted.adapter, reported, self._candidate()):
            match step:
                case Load(adapter):
                    self._note(replica, ReplicaStatus.LOADING, "")
                    checked(adapter)
                    replica.load(adapter.name, adapter.path)
                case Promote(adapter):
                    moves = True
                    checked(adapter)  # each of the alias's loads reads the files again
                    self._promote(replica, wanted)
                case Unload(name):
                    replica.unload(name)
        self._live(replica, wanted)
        return moves

    def _candidate(self) -> frozenset[str]:
        """Name the version that waits for its verdict, which must stay loaded."""
        with self.db.begin() as tx:
            under_way = batches.open_batch(tx)
        return frozenset({under_way.adapter_name} if under_way else ())

    def _promote(self, replica: Replica, wanted: Deployment) -> None:
        adapter = wanted.adapter
        replica.promote(self.alias, adapter, self.mode, self.adapters_dir)
        if not self._answers_as_judged(replica, wanted):
            self._take_back(replica, wanted)
            raise ReplicaError(
                f"{self.alias} does not answer as {adapter.name} did when it was judged",
                subject=replica.name,
                hint="the version before is wanted again; see `kdpo audit show`",
            )

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
        texts = replica.answer(self.alias, [p.prompt for p in asked], self.max_tokens)
        rows = [Answer(probe.id, text) for probe, text in zip(asked, texts, strict=True)]
        with self.db.begin() as tx:
            probes.save_answers(
                tx, rows, wanted.adapter.id, replica.name, AnswerPurpose.SERVED, self.clock()
            )
        agree = sum(normalise(row.text) == normalise(canary[row.probe_id]) for row in rows)
        return agree >= _AGREE * len(rows)

    def _take_back(self, replica: Replica, failed: Deployment) -> None:
        """Want the version again that was wanted before the failed one."""
        now = self.clock()
        with self.db.begin() as tx:
            newest = deployments.standing(tx)
            before = deployments.former(tx, failed)
            if newest is None or newest.id != failed.id or before is None:
                return
            reason = f"{replica.name} did not answer as {failed.adapter.name} was judged"
            deployments.deploy(tx, before.id, "sync", reason, self.fencing, now)
            detail: dict[str, object] = {"failed": failed.adapter.name, "reason": reason}
            subject = f"adapter:{before.name}"
            audit.record(tx, "sync", "deployment.reverted", subject, detail, now)

    def _live(self, replica: Replica, wanted: Deployment) -> None:
        now = self.clock()
        with self.db.begin() as tx:
            if deployments.mark_live(tx, replica.name, wanted, now):  # not merely seen again
                detail: dict[str, object] = {"adapter": wanted.adapter.name, "why": wanted.reason}
                subject = f"replica:{replica.name}"
                audit.record(tx, wanted.actor, "replica.live", subject, detail, now)

    def _note(self, replica: Replica, status: ReplicaStatus, error: str) -> None:
        with self.db.begin() as tx:
            deployments.set_replica(tx, replica.name, replica.url, status, error, self.clock())


def _settle(tx: Session, wanted: Deployment, clock: Clock) -> None:
    """Set the facts' status by what is served now."""
    now = clock()
    name = wanted.adapter.name
    inside = {fact.id: fact for fact in adapters.facts_in(tx, wanted.adapter.id)}
    taught = [
        fact.id
        for fact in inside.values()
        if fact.status in (FactStatus.PLANNED, FactStatus.ROLLED_BACK)
    ]
    facts.set_fact_status(tx, taught, FactStatus.LIVE, f"served by {name}", now)
    gone = [f.id for f in facts.facts_with(tx, FactStatus.LIVE) if f.id not in inside]
    reason = f"{name} is wanted again: {wanted.reason}"
    facts.set_fact_status(tx, gone, FactStatus.ROLLED_BACK, reason, now)
    for status, ids in ((FactStatus.LIVE, taught), (FactStatus.ROLLED_BACK, gone)):
        for fact_id in ids:
            detail: dict[str, object] = {"adapter": name}
            audit.record(tx, wanted.actor, f"fact.{status.value}", f"fact:{fact_id}", detail, now)
