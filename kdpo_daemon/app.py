"""Builds the real things from the settings; the only reader of clock, environment and chance."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from random import SystemRandom

from kdpo_daemon import material, servers
from kdpo_daemon.checkpoints import checked
from kdpo_daemon.errors import ReplicaError, SettingsError
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.model_dir import end_token_id, model_sha256
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.server_settings import ServerSettings
from kdpo_daemon.serving import AliasMode, Replica
from kdpo_daemon.serving.extractor import Extractor
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.serving.gateway import Gateway
from kdpo_daemon.settings import Settings, api_key, webhook_key
from kdpo_daemon.signatures import vouch
from kdpo_daemon.stages import Progress, Report, baseline, questions
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.deploy import Deploy
from kdpo_daemon.stages.extract import ExtractStage
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.stages.judge import Judge
from kdpo_daemon.stages.plan import Plan
from kdpo_daemon.stages.prune import Prune
from kdpo_daemon.stages.ranks import Ranks
from kdpo_daemon.stages.receive import Receive
from kdpo_daemon.stages.sync import Sync
from kdpo_daemon.stages.train import BaseModel, Train
from kdpo_daemon.store import deployments
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuner import Tuner
from kdpo_daemon.writer import Writer


def clock() -> datetime:
    """Give the time, in UTC."""
    return datetime.now(UTC)


def read_settings(file: Path) -> Settings:
    """Read kdpo.toml and the environment."""
    return Settings.read(file, frozenset(os.environ))


def notify_socket() -> str:
    """Give systemd's socket for `sd_notify`, or "" where there is none."""
    return os.environ.get("NOTIFY_SOCKET", "")


def silent(_what: str, _done: int, _of: int) -> None:
    """Tell nobody about progress."""


@dataclass
class App:
    """The parts of a running daemon, built when first used: `kdpo status` needs no server."""

    settings: Settings
    progress: Progress = silent

    @cached_property
    def db(self) -> Database:
        """The database; whether its schema is right is asked by `ready_db`."""
        return Database(self.settings.database.url)

    def ready_db(self) -> Database:
        """Give the database.  StoreError unless its schema is the one this version wants."""
        self.db.check()
        return self.db

    @cached_property
    def pack(self) -> Pack:
        """The shipped relations and the operator's own."""
        return material.pack(self.settings)

    @cached_property
    def curriculum(self) -> questions.Curriculum:
        """What may be asked and taught besides the facts."""
        return material.curriculum(self.settings.intake, self.pack)

    @cached_property
    def fleet(self) -> Fleet[ServerSettings]:
        """The vLLM servers, from the list or looked up."""
        return servers.fleet(self.settings, os.environ)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The vLLM servers as they were found last, the canary of roll-outs first."""
        return self.fleet.replicas

    @cached_property
    def extractor(self) -> Extractor | None:
        """The model that reads entries, if one is configured."""
        settings = self.settings.extraction
        key = api_key(settings.api_key_file, "extraction.api_key_file")
        return Extractor(settings.url, settings.model, key, settings) if settings.url else None

    @cached_property
    def base(self) -> BaseModel:
        """The base model's directory and hash; reading the weights takes a second or more."""
        path = self.settings.model.path
        return BaseModel(path, model_sha256(path))

    @cached_property
    def tuner(self) -> Tuner:
        """What trains."""
        return Tuner(self.settings.training)

    def close(self) -> None:
        """Close the connections that were opened; a part that was never used has none."""
        built = self.__dict__
        for part in filter(None, [built.get("fleet"), built.get("extractor")]):
            part.close()
        if "db" in built:
            self.db.dispose()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the writer's lease, renewed in the background.

        Raises:
            StoreError: another daemon holds it.

        """
        with self._writer.holding(self.ready_db()):
            yield

    @property
    def lease_lost(self) -> bool:
        """Whether another daemon has taken over."""
        return self._writer.lost

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.settings.daemon.lease_s, clock)

    def stop(self) -> None:
        """Ask a training child to end; its batch is trained again at the next start."""
        self.tuner.stop()

    def stages(self) -> list[tuple[str, Callable[[], Report]]]:
        """Give the stages of one cycle, in order, ready to be called.  Needs the lease."""
        return [
            ("ingest", self.ingest),
            ("extract", self.extract),
            ("accept", self.accept),
            ("baseline", self._baseline),
            ("sync", self.sync),
            ("plan", self._plan),
            ("train", self._train),
            ("judge", self._judge),
            ("deploy", self._deploy),
            ("sync", self.sync),
            ("prune", self._prune),
        ]

    def ingest(self, only: str | None = None) -> Report:
        """Poll the feeds that are due, or the one that is named."""
        return Ingest(
            db=self.db,
            policy=self.settings.fetch,
            pack=self.pack,
            clock=clock,
            rng=SystemRandom(),
            progress=self.progress,
        ).run(only)

    def receive(self) -> Receive:
        """Give what takes posts to webhooks."""
        keys = self.settings.webhook
        return Receive(
            db=self.db,
            pack=self.pack,
            max_entries=self.settings.fetch.max_entries,
            secret_of=lambda feed: webhook_key(keys, feed).get_secret_value().encode(),
            clock=clock,
        )

    def extract(self) -> Report:
        """Let the configured model read the entries that wait for it."""
        try:
            extractor = self.extractor
        except SettingsError as error:  # feeds that state their facts go on
            return Report("extract", problems=(str(error),))
        if extractor is None:
            return Report("extract")
        return ExtractStage(self.db, extractor, self.pack, clock, self.progress).run()

    def accept(self) -> Report:
        """Decide on claims."""
        return Accept(self.db, self.pack, self.settings.acceptance, clock).run()

    def sync(self) -> Report:
        """Look the servers up again, and bring them to what is wanted."""
        problems = []
        try:
            self.fleet.refresh()
        except ReplicaError as error:  # those that are known are looked after all the same
            problems.append(str(error))
        serving = self.settings.serving
        report = Sync(
            db=self.db,
            replicas=self.replicas,
            alias=serving.alias,
            mode=serving.mode,
            adapters_dir=serving.adapters,
            check=self._check,
            gateway=Gateway(self.settings.gateway, dict(os.environ)),
            max_tokens=self.settings.plan.max_tokens,
            at_once=serving.at_once,
            fencing=self._fencing,
            clock=clock,
        ).run()
        return replace(report, problems=(*problems, *report.problems))

    def canary(self) -> Replica:
        """Give the first server that serves what is wanted, or the first if none does."""
        with self.db.begin() as tx:
            states = deployments.replicas(tx)
        live = {one.name for one in states if one.state is ReplicaStatus.LIVE}
        known = self.replicas
        return next((one for one in known if one.name in live), known[0])

    def served_name(self) -> str:
        """Give the model name under which a server answers with the wanted version."""
        serving = self.settings.serving
        if serving.mode is not AliasMode.VERSIONED:
            return serving.alias
        with self.db.begin() as tx:
            wanted = deployments.wanted(tx)
        return wanted.adapter.name if wanted else serving.alias

    def _check(self, adapter: Adapter) -> None:
        checked(adapter, self.base.sha256)
        vouch(adapter, self.settings.signing)

    def _baseline(self) -> Report:
        folder, fencing = self.settings.serving.adapters, self._fencing()
        return baseline.run(self.db, self.tuner, lambda: self.base, folder, fencing, clock)

    def _plan(self) -> Report:
        settings = self.settings
        model, most = settings.model.path, settings.serving.max_rank
        return Plan(
            db=self.db,
            replica=self.canary(),
            alias=self.served_name(),
            end_token=end_token_id(model),
            curriculum=self.curriculum,
            policy=settings.plan,
            ranks=Ranks(most, settings.recipe, model),
            clock=clock,
            progress=self.progress,
        ).run()

    def _train(self) -> Report:
        return Train(
            db=self.db,
            tuner=self.tuner,
            base=lambda: self.base,
            recipe=self.settings.recipe,
            work=self.settings.daemon.state / "orders",
            adapters_dir=self.settings.serving.adapters,
            clock=clock,
            progress=self.progress,
        ).run()

    def _judge(self) -> Report:
        return Judge(
            db=self.db,
            replica=self.canary(),
            base_name=self.settings.model.name,
            check=self._check,
            gate=self.settings.gate,
            text=material.perplexity_text(self.settings.intake),
            max_tokens=self.settings.plan.max_tokens,
            clock=clock,
            progress=self.progress,
        ).run()

    def _deploy(self) -> Report:
        gate, retry = self.settings.gate, self.settings.retry
        return Deploy(self.db, gate, retry, self._fencing(), clock).run()

    def _prune(self) -> Report:
        self._fencing()  # only who holds the lease may delete
        folder = self.settings.serving.adapters
        return Prune(self.db, self.replicas, folder, self.settings.retention, clock).run()

    def _fencing(self) -> int:
        return self._writer.fencing()
