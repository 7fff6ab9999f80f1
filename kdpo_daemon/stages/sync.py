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
from kdpo_daemon.records.serving import Deployment, ReplicaState, ReplicaStatus
from kdpo_daemon.serving import AliasMode, Replica, aliases, fitness
from kdpo_daemon.serving.gateway import Gateway
from kdpo_daemon.stages import Clock, Report, settle
from kdpo_daemon.stages.promotion import Promotion
from kdpo_daemon.store import audit, batches, deployments
from kdpo_daemon.store.db import Database

#: Times that servers are brought to what is wanted, should that change meanwhile.
_ROUNDS = 3
#: Of a server that has the version and answered as it was judged, until clients are sent there.
_ASKED = ReplicaStatus.CANARY


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
    fencing: Callable[[], int]  #: raises where another daemon has taken over
    clock: Clock

    def run(self) -> Report:
        """Bring every server to the wanted adapter: one first, then some at once.

        A new deployment goes to one server alone, the first that answers; should that refuse it,
        the others are left as they are.  Is another version wanted in the end, for one was taken
        back or a person said so, then servers are brought to that one too.
        """
        with self.db.begin() as tx:
            wanted = deployments.wanted(tx)
            states = deployments.replicas(tx)
        self._let_go(states)
        moved, problems = 0, list[str]()
        for _ in range(_ROUNDS):
            if wanted is None:
                break
            ended, more = self._round(wanted)
            moved += sum(one.moved for one in ended)
            problems += more
            before = wanted
            with self.db.begin() as tx:
                wanted = deployments.wanted(tx)
            if wanted == before:
                break
        return Report("sync", {"moved": moved}, tuple(dict.fromkeys(problems)))

    def _round(self, wanted: Deployment) -> tuple[list["_Ended"], list[str]]:
        """Bring every server to one deployment.  Gives how it went, and what is in the way."""
        todo, ended = list(self.replicas), list[_Ended]()
        with self.db.begin() as tx:
            proven = deployments.is_live(tx, wanted)
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
        try:
            self._keep_pointer(wanted)
        except AdapterError as error:
            problems.append(str(error))
        settle.run(self.db, wanted, self.clock)
        return ended, problems

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
        """Let the pointer name what servers answer with: one reads it when it starts anew.

        It may be damaged, or name a version that no server has been brought to.
        """
        with self.db.begin() as tx:
            live = deployments.is_live(tx, wanted)
            adapter = wanted.adapter if live else deployments.answering(tx)
        if self.mode is not AliasMode.PLUGIN or adapter is None:
            return
        if not aliases.stands_for(self.adapters_dir, self.alias, adapter):
            aliases.point(self.adapters_dir, self.alias, adapter)

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
        """Name the version that answers, if it was read from where versions are."""
        try:
            found = replica.answering(self._promotion.name(wanted))
        except ReplicaError as error:
            if error.status != 400:
                raise
            return None  # its pointer's version cannot be loaded; the load to come says why
        elsewhere = found and found.id == wanted.adapter.name and found.root != wanted.adapter.path
        return found.id if found and not elsewhere else None

    def _unproven(self, replica: Replica, wanted: Deployment) -> bool:
        """Tell whether a server came to what it serves without having been asked about it.

        By its pointer, by a move that was cut off or failed, or while it was away.
        """
        with self.db.begin() as tx:
            served = deployments.serving_at(tx, replica.name)
            states = {one.name: one.state for one in deployments.replicas(tx)}
        state = states.get(replica.name)
        if self.mode is AliasMode.VERSIONED and state is _ASKED:
            return False
        return state is not ReplicaStatus.LIVE or served is None or served.id != wanted.adapter.id

    def _bring(self, replica: Replica, wanted: Deployment, reported: Reported) -> bool:
        """Move the alias on one server if it serves something else.  Tells whether it moved."""
        todo = steps(wanted.adapter, reported, self._kept(wanted))
        moves = any(isinstance(step, Promote) for step in todo)
        unproven = not moves and self._unproven(replica, wanted)
        if unproven:
            self._promotion.prove(replica, wanted)
        for step in todo:
            self.fencing()
            match step:
                case Load(adapter):
                    self._note(replica, ReplicaStatus.LOADING, "")
                    fitness.check_slots(replica.engine().slots, replica.name, self.mode)
                    self.check(adapter)
                    replica.load(adapter.name, adapter.path)
                case Promote(adapter):
                    self.check(adapter)  # each of the alias's loads reads the files again
                    self._promotion.promote(replica, wanted)
                case Unload(name):
                    replica.unload(name)
        if self.mode is not AliasMode.VERSIONED:
            self._live(replica, wanted)
        elif moves or unproven:
            self._note(replica, _ASKED, "")
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
        self._live(None, wanted)
        for replica in ready:
            self._live(replica, wanted)
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

    def _live(self, replica: Replica | None, wanted: Deployment) -> None:
        """Put down that a server, or else the gateway, answers with what is wanted."""
        name, url = (replica.name, replica.url) if replica else (self._gateway_name, "")
        now = self.clock()
        with self.db.begin() as tx:
            if deployments.mark_live(tx, name, wanted, now, url):  # not merely seen again
                detail: dict[str, object] = {"adapter": wanted.adapter.name, "why": wanted.reason}
                audit.record(tx, wanted.actor, "replica.live", f"replica:{name}", detail, now)

    def _note(self, replica: Replica, status: ReplicaStatus, error: str) -> None:
        with self.db.begin() as tx:
            deployments.set_replica(tx, replica.name, replica.url, status, error, self.clock())
