"""Three real servers: a roll-out in which one dies, a rollback, one that does not fit.

The tests of this file tell one story, in order, on one fleet.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.app import App, clock, read_settings
from kdpo_daemon.bench.versions import make_version
from kdpo_daemon.local_vllm import LocalServer, LocalVllm, free_port, launch, wait
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.server_settings import ServerSettings
from kdpo_daemon.servers import connect
from kdpo_daemon.serving import Replica
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.stages import rollback
from kdpo_daemon.store import adapters, deployments
from tests.servers import model_dir, settings_for

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(2400)]

NAMES = ("one", "two", "three")
ALIAS = "prod"
#: Far more than a roll-out or rollback takes, also on a busy machine.
A_FEW_SECONDS = 30.0


@dataclass
class Servers:
    """The servers and the daemon's home; a daemon's connections are made anew by `app`."""

    home: Path
    settings: dict[str, LocalVllm]
    running: dict[str, LocalServer]
    versions: list[Adapter]

    def app(self) -> App:
        return App(read_settings(self.home / "kdpo.toml"))

    def want(self, number: int) -> None:
        app = self.app()
        with app.db.begin() as tx:
            made = adapters.adapter_by_name(tx, self.versions[number].name)
            deployments.deploy(tx, made.id, "gate", "a test", 0, clock())
        app.close()

    def sync(self, dies: str = "", before: str = "") -> tuple[str, ...]:
        """One reconcile; `dies` names a server that is killed just `before` a call to it."""
        app = self.app()

        def connected(server: ServerSettings) -> Any:
            replica = connect(app.settings, server, {})
            return Doomed(replica, before, self.kill) if server.name == dies else replica

        app.fleet = Fleet(lambda: app.settings.servers, connected)
        with app.writing():
            problems = app.sync().problems
        app.close()
        return problems

    def sync_until_it_is_done(self, deadline_s: float = 600.0) -> None:
        """As the daemon does, every few seconds."""
        end = time.monotonic() + deadline_s
        while problems := self.sync():
            assert time.monotonic() < end, problems
            time.sleep(1.0)

    def kill(self, name: str) -> None:
        self.running[name].stop(grace_s=0.0)

    def start(self, name: str, **changes: Any) -> None:
        self.running[name] = launch(replace(self.settings[name], **changes))

    def served(self) -> dict[str, str | None]:
        """What a client is answered by."""
        app = self.app()
        found = {one.name: one.served_by(ALIAS) for one in app.replicas}
        app.close()
        return found

    def states(self) -> Mapping[str, tuple[ReplicaStatus, str]]:
        app = self.app()
        with app.db.begin() as tx:
            found = {one.name: (one.state, one.error) for one in deployments.replicas(tx)}
        app.close()
        return found


class Doomed:
    """A connection to a server that is killed just before a call that changes it."""

    def __init__(self, inner: Replica, before: str, kill: Callable[[str], None]) -> None:
        self._inner, self._before, self._kill = inner, before, kill

    def __getattr__(self, name: str) -> Any:
        if name == "promote" and self._before == "unload":
            # the pointer is written in `promote`, so the call inside it is what matters
            self._inner.unload = self._doomed(self._inner.unload)  # type: ignore[method-assign]
        found = getattr(self._inner, name)
        return self._doomed(found) if name == self._before else found

    def _doomed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def doomed(*args: Any) -> Any:
            self._kill(self._inner.name)
            return call(*args)

        return doomed


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("fleet")
    one = settings_for(home)
    settings = {
        name: replace(one, port=free_port(), log_path=home / f"{name}.log", max_loras=4)
        for name in NAMES
    }
    running = {name: launch(settings[name]) for name in NAMES}
    listed = "".join(
        f'[[servers]]\nname = "{name}"\nurl = "{settings[name].url}"\n' for name in NAMES
    )
    (home / "kdpo.toml").write_text(
        f'[model]\npath = "{model_dir()}"\nname = "base"\n[client]\nattempts = 1\n{listed}',
        "utf-8",
    )
    try:
        fleet = Servers(home, settings, running, [make_one(home, number) for number in range(3)])
        record(fleet)
        for name in NAMES:
            wait(settings[name], running[name])
        yield fleet
    finally:
        for server in running.values():
            server.stop()


def make_one(home: Path, number: int) -> Adapter:
    return make_version(home / "adapters", model_dir(), number, rank=8)


def record(fleet: Servers) -> None:
    app = fleet.app()
    app.db.upgrade()
    with app.db.begin() as tx:
        for one in fleet.versions:
            manifest = (Path(one.path) / "manifest.json").read_text("utf-8")
            adapters.save_adapter(
                tx, one.name, one.path, manifest, one.manifest_sha256, None, None, [], clock()
            )
    app.close()


def everywhere(version: Adapter) -> dict[str, str | None]:
    return dict.fromkeys(NAMES, version.name)


def test_all_come_to_the_wanted_version(servers: Servers) -> None:
    servers.want(0)

    assert servers.sync() == ()

    assert servers.served() == everywhere(servers.versions[0])


def test_a_server_that_dies_while_it_loads_gets_there_with_the_others(servers: Servers) -> None:
    servers.want(1)

    [problem] = servers.sync(dies="three", before="load")

    assert problem.startswith("three: ")
    assert {name for name, (state, _) in servers.states().items() if state == "live"} == {
        "one",
        "two",
    }
    servers.start("three")
    servers.sync_until_it_is_done()
    assert servers.served() == everywhere(servers.versions[1])
    assert all(state is ReplicaStatus.LIVE for state, _ in servers.states().values())


def test_a_rollback_of_all_takes_seconds(servers: Servers) -> None:
    app = servers.app()
    began = time.monotonic()
    rollback.run(app.db, None, "operator:test", "a drill", clock)
    app.close()

    assert servers.sync() == ()

    took = time.monotonic() - began
    assert servers.served() == everywhere(servers.versions[0])
    print(f"\nthree servers were rolled back in {took:.1f} s")  # noqa: T201 - for docs/serving.md
    assert took < A_FEW_SECONDS


def test_a_server_that_dies_between_pointer_and_move_starts_with_the_new_version(
    servers: Servers,
) -> None:
    servers.want(1)

    [problem] = servers.sync(dies="two", before="unload")

    assert problem.startswith("two: ")
    servers.start("two")
    wait(servers.settings["two"], servers.running["two"])
    assert servers.served() == everywhere(servers.versions[1])  # before any reconcile
    servers.sync_until_it_is_done()


def test_a_server_of_another_base_model_is_left_out(servers: Servers) -> None:
    servers.kill("one")
    servers.start("one", served_name="another")
    wait(servers.settings["one"], servers.running["one"])
    servers.want(2)

    [problem] = servers.sync()

    assert "it serves another, not base" in problem
    assert servers.states()["one"] == (ReplicaStatus.FAILED, problem)
    served = servers.served()
    assert {served["two"], served["three"]} == {servers.versions[2].name}
