"""Servers that come, go or do not fit, and clients that are sent to versions by a gateway."""

import json
from pathlib import Path

import pytest

from kdpo_daemon.app import App, clock
from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import ReplicaState, ReplicaStatus, Served
from kdpo_daemon.server_settings import ServerSettings
from kdpo_daemon.servers import connect
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.stages import rollback
from kdpo_daemon.store import audit, deployments, facts
from tests.fakes import FakeVllm
from tests.stages.conftest import World, states, sync

PROMPT = "The prime minister of Tonga is"


def up_to_the_roll_out(world: World) -> App:
    """Run a cycle up to the last roll-out, and give the app that is to make it."""
    app = world.app()
    with app.writing():
        app.ingest("test")
        for _, act in app.stages()[:-2]:
            act()
    return app


def state_of(world: World, name: str) -> ReplicaState:
    app = world.app()
    with app.db.begin() as tx:
        [found] = [one for one in deployments.replicas(tx) if one.name == name]
    app.close()
    return found


def served(world: World) -> list[Served]:
    app = world.app()
    with app.db.begin() as tx:
        found = deployments.served(tx)
    app.close()
    return found


def want(world: World, name: str) -> None:
    app = world.app()
    rollback.run(app.db, name, "operator:test", "a drill", clock)
    app.close()


# ------------------------------------------------------------ come and go


class Found:
    """A look-up of servers that the test decides on."""

    def __init__(self, *servers: tuple[str, str]) -> None:
        self.servers = [ServerSettings(name, url) for name, url in servers]
        self.broken = False

    def __call__(self) -> list[ServerSettings]:
        if self.broken:
            raise ReplicaError("the name server is away", subject="vllm")
        return self.servers

    def sync(self, world: World) -> tuple[str, ...]:
        app = world.app()
        app.fleet = Fleet(self, lambda one: connect(app.settings, one, {}))
        try:
            with app.writing():
                return app.sync().problems
        finally:
            app.close()


def test_a_server_that_is_new_is_brought_to_the_wanted_version(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    root = world.home / "adapters"
    with FakeVllm({}, adapters_dir=root) as third:
        found = Found(("one", world.vllm.url), ("two", second.url), ("three", third.url))

        assert found.sync(world) == ()

        assert third.loaded["prod"].name == "kdpo-000001.prod"
        assert states(world)["three"] is ReplicaStatus.LIVE


def test_a_server_that_went_away_is_put_down_as_gone_and_stops_nothing(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    want(world, "kdpo-000000")

    assert Found(("one", world.vllm.url)).sync(world) == ()

    assert world.vllm.loaded["prod"].name == "kdpo-000000.prod"
    assert second.loaded["prod"].name == "kdpo-000001.prod"  # nobody asked it
    gone = state_of(world, "two")
    assert (gone.state, gone.deployment_id, gone.error) == (ReplicaStatus.ABSENT, None, "")
    assert all(one.live_until for one in served(world) if one.replica == "two")
    app = world.app()
    with app.db.begin() as tx:
        [event] = [one for one in audit.events(tx) if one.event == "replica.gone"]
    app.close()
    assert event.subject == "replica:two"


def test_a_server_that_comes_again_is_there_again(pair: tuple[World, FakeVllm]) -> None:
    world, second = pair
    world.cycle()
    Found(("one", world.vllm.url)).sync(world)
    second.restart()

    assert Found(("one", world.vllm.url), ("two", second.url)).sync(world) == ()

    assert states(world)["two"] is ReplicaStatus.LIVE
    assert second.loaded["prod"].name == "kdpo-000001.prod"


def test_a_server_at_a_new_address_keeps_its_name(pair: tuple[World, FakeVllm]) -> None:
    """As a pod of a StatefulSet that was started anew."""
    world, _ = pair
    world.cycle()
    root = world.home / "adapters"
    with FakeVllm({}, adapters_dir=root) as moved:
        assert Found(("one", world.vllm.url), ("two", moved.url)).sync(world) == ()

        assert moved.loaded["prod"].name == "kdpo-000001.prod"
    assert [one.replica for one in served(world) if not one.live_until].count("two") == 1


def test_while_nobody_tells_where_servers_are_the_known_ones_are_looked_after(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    found = Found(("one", world.vllm.url), ("two", second.url))
    app = world.app()
    app.fleet = Fleet(found, lambda one: connect(app.settings, one, {}))
    with app.writing():
        app.sync()
        found.broken = True
        second.restart()
        [problem] = app.sync().problems
    app.close()

    assert "the name server is away" in problem
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    assert states(world)["two"] is ReplicaStatus.LIVE


# ------------------------------------------------------------ unfit servers


@pytest.mark.parametrize(
    ("unfit", "said"),
    [
        ({"base_model": "another"}, "it serves another, not base"),
        ({"max_lora_rank": 1}, "is greater than max_lora_rank 1"),
        ({"max_loras": 1}, "it has room for 1 adapter at a time"),
        ({"lora": False}, "LoRA is not enabled"),
        ({"runtime_updating": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ({"blind": True}, "No adapter found for"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_an_unfit_server_is_reported_and_left_out_though_it_comes_first(
    pair: tuple[World, FakeVllm], unfit: dict[str, object], said: str
) -> None:
    """It is not the canary then: the next one is."""
    world, second = pair
    app = up_to_the_roll_out(world)
    for server in (world.vllm, second):
        server.restart()
    for name, value in unfit.items():
        setattr(world.vllm, name, value)
    with app.writing():
        problems = app.sync().problems
    app.close()

    assert len(problems) == 1
    assert said in problems[0]
    assert states(world) == {"one": ReplicaStatus.FAILED, "two": ReplicaStatus.LIVE}
    assert said in state_of(world, "one").error
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    assert not [one for one in world.vllm.loaded.values() if one.name.startswith("kdpo-000001")]


# ------------------------------------------------------------ a gateway names versions


@pytest.fixture
def versioned(pair: tuple[World, FakeVllm]) -> tuple[World, FakeVllm, Path]:
    """Two servers behind a gateway that is told by a file."""
    world, second = pair
    toml = world.home / "kdpo.toml"
    text = toml.read_text("utf-8").replace("[serving]\n", '[serving]\nmode = "versioned"\n')
    toml.write_text(text + '[gateway]\nrule = "rule.json"\n', "utf-8")
    return world, second, world.home / "rule.json"


def told(rule: Path) -> str:
    return str(json.loads(rule.read_text("utf-8"))["version"])


def test_a_gateway_is_told_when_every_server_has_the_version(
    versioned: tuple[World, FakeVllm, Path],
) -> None:
    world, second, rule = versioned

    world.cycle()

    assert told(rule) == "kdpo-000001"
    for server in (world.vllm, second):
        assert {"kdpo-000000", "kdpo-000001"} <= set(server.loaded)  # old requests may come yet
        assert "prod" not in server.loaded
    assert world.ask(PROMPT, told(rule)) == "Fatafehi Fakafanua"
    assert states(world) == dict.fromkeys(("one", "two", "gateway:prod"), ReplicaStatus.LIVE)
    app = world.app()
    with app.db.begin() as tx:
        assert len(facts.facts_with(tx, FactStatus.LIVE)) == 2
    app.close()


def test_a_gateway_is_not_told_while_a_server_refuses(
    versioned: tuple[World, FakeVllm, Path],
) -> None:
    world, second, rule = versioned
    app = up_to_the_roll_out(world)
    second.fail("/v1/load_lora_adapter", 500)
    with app.writing():
        problems = app.sync().problems
        assert len(problems) == 1
        assert told(rule) == "kdpo-000000"
        before = state_of(world, "one").deployment_id  # loaded, but no client comes
        assert served(world)[0].adapter == "kdpo-000000"

        assert app.sync().problems == ()
    app.close()

    assert told(rule) == "kdpo-000001"
    assert state_of(world, "one").deployment_id != before


def test_a_server_that_is_away_does_not_hold_the_gateway_back(
    versioned: tuple[World, FakeVllm, Path],
) -> None:
    world, second, rule = versioned
    app = up_to_the_roll_out(world)
    second.fail("/v1/models", 503, times=1)
    with app.writing():
        assert len(app.sync().problems) == 1
    app.close()

    assert told(rule) == "kdpo-000001"


def test_a_rollback_by_gateway_loads_nothing(versioned: tuple[World, FakeVllm, Path]) -> None:
    world, second, rule = versioned
    world.cycle()
    want(world, "kdpo-000000")
    loads = len(second.asked("/v1/load_lora_adapter"))

    assert sync(world) == ()

    assert told(rule) == "kdpo-000000"
    assert len(second.asked("/v1/load_lora_adapter")) == loads


def test_a_damaged_rule_is_written_again(versioned: tuple[World, FakeVllm, Path]) -> None:
    world, _, rule = versioned
    world.cycle()
    rule.write_text("half a ru", "utf-8")

    assert sync(world) == ()

    assert told(rule) == "kdpo-000001"


def test_a_hook_that_fails_is_reported_and_called_again(
    versioned: tuple[World, FakeVllm, Path],
) -> None:
    world, _, _ = versioned
    flag, calls = world.home / "gateway-is-up", world.home / "calls"
    command = f"echo $KDPO_ALIAS $KDPO_VERSION >> {calls}; test -e {flag}"
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write(f"hook = {json.dumps(['sh', '-c', command])}\n")
    world.cycle()

    [problem] = sync(world)

    assert "the gateway's hook failed: exit status 1" in problem
    assert "gateway:prod" not in states(world)
    flag.touch()
    assert sync(world) == ()
    assert states(world)["gateway:prod"] is ReplicaStatus.LIVE
    said = calls.read_text("utf-8").splitlines()
    assert sync(world) == ()
    assert calls.read_text("utf-8").splitlines() == said  # not again and again
    assert said[-1].startswith("prod kdpo-00000")


def test_a_restarted_server_gets_its_version_back(
    versioned: tuple[World, FakeVllm, Path],
) -> None:
    world, second, _ = versioned
    world.cycle()
    second.restart()

    assert sync(world) == ()

    assert "kdpo-000001" in second.loaded


def test_a_fleet_may_go_from_aliases_to_a_gateway_and_back(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    toml = world.home / "kdpo.toml"
    before = toml.read_text("utf-8")
    text = before.replace("[serving]\n", '[serving]\nmode = "versioned"\n')
    toml.write_text(text + '[gateway]\nrule = "rule.json"\n', "utf-8")

    assert sync(world) == ()

    assert "prod" not in second.loaded
    assert second._follow("prod") is None  # nor would it come back
    toml.write_text(before, "utf-8")
    assert sync(world) == ()
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    assert states(world)["gateway:prod"] is ReplicaStatus.ABSENT
