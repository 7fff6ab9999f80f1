"""The newest deployment row -> what every server serves under the alias.

Works like a controller: it asks each server what it has and does what is missing, so a restarted
server, a half-finished roll-out and a rollback are one and the same case.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kdpo_daemon.edits.rollout import Load, Promote, Reported, Unload, steps
from kdpo_daemon.errors import AdapterError, ReplicaError, UnfitError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment, ReplicaState, ReplicaStatus
from kdpo_daemon.serving import AliasMode, Replica, aliases, fitness
from kdpo_daemon.serving.gateway import Gateway
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.stages.promotion import Promotion
from kdpo_daemon.store import adapters, audit, batches, deployments, facts
from kdpo_daemon.store.db import Database, Session


@dataclass(frozen=True)
class _Ended:
    """How it went with one server."""

    replica: Replica
    moved: bool = False
    problem: str = ""
    refused: bool = False  #: it answers and would serve others, but not what is wanted


@dataclass(frozen=True)
class Sync:
    """The stage with what it works on."""

    db: Database
    replicas: tuple[Replica, ...]
    alias: str
    mode: AliasMode
    adapters_dir: Path
    check: Callable[[Adapter], None]  #: of a version's files, before each load
    gateway: Gateway  #: told in mode `versioned` alone
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
        self._let_go(states)
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
        problems = [one.problem for one in ended if one.problem]
        if self.mode is AliasMode.VERSIONED:
            problems += self._tell_gateway(wanted, ended)
        if not problems:
            self._keep_pointer(wanted)
            with self.db.begin() as tx:
                _settle(tx, wanted, self.clock)
        return Report("sync", {"moved": sum(one.moved for one in ended)}, tuple(problems))

    def _let_go(self, states: Sequence[ReplicaState]) -> None:
        """Put down which servers are no longer among those that there are."""
        there = {replica.name for replica in self.replicas}
        if self.mode is AliasMode.VERSIONED:
            there.add(self._gateway_name)
        known = [one.name for one in states if one.state is not ReplicaStatus.ABSENT]
        for name in known:
            if name not in there:
                now = self.clock()
                with self.db.begin() as tx:
                    deployments.mark_gone(tx, name, now)
                    audit.record(tx, "daemon", "replica.gone", f"replica:{name}", {}, now)

    def _keep_pointer(self, wanted: Deployment) -> None:
        """Write the pointer again if it is damaged: a server reads it only when it starts anew."""
        standing = (self.adapters_dir, self.alias, wanted.adapter)
        if self.mode is AliasMode.PLUGIN and not aliases.stands_for(*standing):
            aliases.point(*standing)

    def _tried(self, replica: Replica, wanted: Deployment) -> "_Ended":
        """Bring one server there; what keeps it from that is put down and told."""
        answered = False
        try:
            cards = tuple(replica.models())
            fitness.check_base(replica, cards)
            reported = Reported(cards, self._served_by(replica, wanted))
            answered = True
            return _Ended(replica, moved=self._bring(replica, wanted, reported))
        except (ReplicaError, AdapterError) as error:
            self._note(replica, ReplicaStatus.FAILED, str(error))
            refused = answered and not isinstance(error, UnfitError)
            return _Ended(replica, problem=str(error), refused=refused)

    def _served_by(self, replica: Replica, wanted: Deployment) -> str | None:
        try:
            return replica.served_by(self._promotion.name(wanted))
        except ReplicaError as error:
            if error.status != 400:
                raise
            return None  # its pointer's version cannot be loaded; the load to come says why

    def _bring(self, replica: Replica, wanted: Deployment, reported: Reported) -> bool:
        """Move the alias on one server if it serves something else.  Tells whether it moved."""
        moves = False
        for step in steps(wanted.adapter, reported, self._kept(wanted)):
            match step:
                case Load(adapter):
                    self._note(replica, ReplicaStatus.LOADING, "")
                    fitness.check_slots(replica.engine().slots, replica.name, self.mode)
                    self.check(adapter)
                    replica.load(adapter.name, adapter.path)
                case Promote(adapter):
                    moves = True
                    self.check(adapter)  # each of the alias's loads reads the files again
                    self._promotion.promote(replica, wanted)
                case Unload(name):
                    replica.unload(name)
        if self.mode is not AliasMode.VERSIONED:
            self._live(replica.name, wanted)
        elif moves:
            self._note(replica, ReplicaStatus.CANARY, "")  # until clients are sent there
        return moves

    def _kept(self, wanted: Deployment) -> frozenset[str]:
        """Name the versions that stay loaded besides the wanted one.

        The candidate that waits for its verdict; and where clients are sent by version, what
        they are sent to now, and were sent to before: their requests may be on the way.
        """
        with self.db.begin() as tx:
            under_way = batches.open_batch(tx)
            names = {under_way.adapter_name} if under_way else set()
            if self.mode is AliasMode.VERSIONED:
                sent_to = deployments.serving_at(tx, self._gateway_name)
                kept = (sent_to, deployments.former(tx, wanted))
                names |= {one.name for one in kept if one}
        return frozenset(names)

    def _tell_gateway(self, wanted: Deployment, ended: Sequence[_Ended]) -> list[str]:
        """Send clients to the wanted version, once every server that could have it has it."""
        ready = [one.replica for one in ended if not one.problem]
        if not ready or any(one.refused for one in ended):
            return []  # the servers' own problems say why
        with self.db.begin() as tx:
            told = deployments.serving_at(tx, self._gateway_name)
        stands = told == wanted.adapter and self.gateway.stands_for(self.alias, wanted.adapter)
        try:
            if not stands:
                self.gateway.point(self.alias, wanted.adapter)
                aliases.forget(self.adapters_dir, self.alias)  # of another mode before
                for replica in ready:
                    replica.unload(self.alias)
        except (ReplicaError, AdapterError) as error:
            return [str(error)]
        self._live(self._gateway_name, wanted)
        for replica in ready:
            self._live(replica.name, wanted)
        return []

    @property
    def _gateway_name(self) -> str:
        return f"gateway:{self.alias}"

    @property
    def _promotion(self) -> Promotion:
        return Promotion(
            db=self.db,
            alias=self.alias,
            mode=self.mode,
            adapters_dir=self.adapters_dir,
            max_tokens=self.max_tokens,
            fencing=self.fencing,
            clock=self.clock,
        )

    def _live(self, replica: str, wanted: Deployment) -> None:
        now = self.clock()
        with self.db.begin() as tx:
            if deployments.mark_live(tx, replica, wanted, now):  # not merely seen again
                detail: dict[str, object] = {"adapter": wanted.adapter.name, "why": wanted.reason}
                audit.record(tx, wanted.actor, "replica.live", f"replica:{replica}", detail, now)

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
