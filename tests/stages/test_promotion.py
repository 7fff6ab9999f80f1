"""After the alias has moved: the version must answer as it was judged, or it is taken back."""

import json
from collections.abc import Callable

import pytest

from kdpo_daemon.app import clock
from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.stages import pin, rollback
from kdpo_daemon.store import batches, deployments, facts
from kdpo_daemon.store.db import Database
from tests.fakes import FakeVllm, Loaded, refusal
from tests.stages.conftest import RWANDA, TONGA, World, states, sync

PROMPT = "The prime minister of Tonga is"


def up_to_the_roll_out(world: World) -> None:
    """Run a cycle up to the last roll-out: version 1 is wanted and served by nobody."""
    app = world.app()
    with app.writing():
        app.ingest("test")
        for _, act in app.stages()[:-2]:
            act()
    app.close()


def ill_with(*versions: str) -> Callable[[FakeVllm], None]:
    """Let a server answer as the base model where it says that these versions answer."""

    def make_ill(server: FakeVllm) -> None:
        def forget(_: str) -> None:
            one = server.loaded.get("prod")
            if one and one.name in {f"{version}.prod" for version in versions}:
                server.loaded["prod"] = Loaded(one.name, one.path, {})

        server.before = forget

    return make_ill


def on(world: World, act: Callable[[Database], Deployment]) -> Deployment:
    app = world.app()
    try:
        return act(app.db)
    finally:
        app.close()


def want(world: World, name: str) -> None:
    on(world, lambda db: rollback.run(db, name, "operator:test", "a drill", clock))


def wanted(world: World) -> list[str]:
    """Give the versions that were wanted, newest first."""
    app = world.app()
    with app.db.begin() as tx:
        found = [one.adapter.name for one in deployments.list_deployments(tx)]
    app.close()
    return found


def pointed_at(world: World) -> str:
    file = world.home / "adapters" / "aliases" / "prod.json"
    return str(json.loads(file.read_text("utf-8"))["adapter"])


def test_what_is_taken_back_is_served_no_longer_when_the_roll_out_returns(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    up_to_the_roll_out(world)
    ill_with("kdpo-000001")(world.vllm)

    [problem] = sync(world)

    assert "does not answer as kdpo-000001 did" in problem
    assert wanted(world)[0] == "kdpo-000000"
    for server in (world.vllm, second):
        assert server.loaded["prod"].name == "kdpo-000000.prod"
    assert pointed_at(world) == "kdpo-000000"


def test_a_pin_outlives_what_is_taken_back(pair: tuple[World, FakeVllm]) -> None:
    world, _ = pair
    up_to_the_roll_out(world)
    on(world, lambda db: pin.freeze(db, "operator:test", "a drill", clock))
    ill_with("kdpo-000001")(world.vllm)

    sync(world)

    app = world.app()
    with app.db.begin() as tx:
        found = deployments.wanted(tx)
    app.close()
    assert found is not None
    assert (found.adapter.name, found.pinned) == ("kdpo-000000", True)


def test_a_freeze_in_the_middle_does_not_save_a_version_that_answers_otherwise(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    up_to_the_roll_out(world)
    make_ill = ill_with("kdpo-000001")
    make_ill(world.vllm)
    ill = world.vllm.before
    frozen: list[Deployment] = []

    def freeze(route: str) -> None:
        ill(route)
        if world.vllm.loaded["prod"].name == "kdpo-000001.prod" and not frozen:
            act = pin.freeze
            frozen.append(on(world, lambda db: act(db, "operator:test", "a drill", clock)))

    world.vllm.before = freeze
    sync(world)

    assert frozen
    assert wanted(world)[0] == "kdpo-000000"
    assert world.vllm.loaded["prod"].name == "kdpo-000000.prod"


@pytest.mark.parametrize("where", ["first", "second"])
def test_a_move_that_was_cut_off_before_the_proof_is_proven_later(
    pair: tuple[World, FakeVllm], where: str
) -> None:
    """The server broke off while the alias was asked; it does answer otherwise."""
    world, second = pair
    up_to_the_roll_out(world)
    server = world.vllm if where == "first" else second
    ill_with("kdpo-000001")(server)
    ill = server.before

    def busy(route: str) -> None:
        ill(route)
        body = server.requests[-1][1]
        if body.get("model") == "prod" and body.get("max_tokens", 0) > 1:
            raise refusal(503, "busy")

    server.before = busy
    assert any("busy" in problem for problem in sync(world))
    assert server.loaded["prod"].name == "kdpo-000001.prod"
    assert wanted(world)[0] == "kdpo-000001"
    server.before = ill

    [problem] = sync(world)

    assert "does not answer as kdpo-000001 did" in problem
    assert wanted(world)[0] == "kdpo-000000"
    for one in (world.vllm, second):
        assert one.loaded["prod"].name == "kdpo-000000.prod"


def test_a_server_that_comes_back_by_its_pointer_is_proven_too(
    pair: tuple[World, FakeVllm],
) -> None:
    """It died before its turn, and the plugin brought it to the new version by itself."""
    world, second = pair
    up_to_the_roll_out(world)
    second.fail("/v1/models", 503, times=1)
    sync(world)
    assert world.vllm.loaded["prod"].name == "kdpo-000001.prod"
    second.restart()
    ill_with("kdpo-000001")(second)

    [problem] = sync(world)

    assert "does not answer as kdpo-000001 did" in problem
    assert wanted(world)[0] == "kdpo-000000"


def test_a_version_that_was_proven_is_not_asked_again(pair: tuple[World, FakeVllm]) -> None:
    world, second = pair
    world.cycle()
    before = [len(server.asked("/v1/completions")) for server in (world.vllm, second)]

    assert sync(world) == ()

    after = [len(server.asked("/v1/completions")) for server in (world.vllm, second)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


def test_a_server_on_which_two_versions_fail_is_unfit_and_the_others_go_back(
    pair: tuple[World, FakeVllm],
) -> None:
    """The two versions must not take turns, for ever."""
    world, second = pair
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    up_to_the_roll_out(world)
    assert wanted(world)[0] == "kdpo-000002"
    ill_with("kdpo-000001", "kdpo-000002")(world.vllm)

    for _ in range(3):
        sync(world)
    problems = sync(world)

    assert wanted(world) == [f"kdpo-{number:06d}" for number in (1, 2, 1, 0)]
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    assert states(world) == {"one": "failed", "two": "live"}
    assert len(problems) == 1
    assert "start it anew" in problems[0]


def test_a_rollback_reaches_the_others_though_the_first_server_answers_otherwise(
    pair: tuple[World, FakeVllm],
) -> None:
    """Nor does it lead back to what a person left."""
    world, second = pair
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    world.cycle()
    want(world, "kdpo-000001")
    ill_with("kdpo-000001")(world.vllm)

    [problem] = sync(world)

    assert "start it anew" in problem
    assert wanted(world)[:2] == ["kdpo-000001", "kdpo-000002"]
    assert second.loaded["prod"].name == "kdpo-000001.prod"


def test_a_server_that_comes_back_ill_costs_the_others_nothing(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    second.fail("/v1/models", 503, times=1)
    sync(world)
    second.restart()
    ill_with("kdpo-000001")(second)

    [problem] = sync(world)

    assert "start it anew" in problem
    assert wanted(world)[0] == "kdpo-000001"
    assert states(world) == {"one": "live", "two": "failed"}


def test_the_facts_of_a_version_that_was_taken_back_wait_for_a_person(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    up_to_the_roll_out(world)
    ill_with("kdpo-000001")(world.vllm)

    sync(world)
    sync(world)

    app = world.app()
    with app.db.begin() as tx:
        counts = facts.count_by_status(tx)
    app.close()
    assert counts == {FactStatus.ROLLED_BACK: 2}


def test_what_is_taken_back_takes_the_batch_that_builds_on_it_along(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.feed.entries = [TONGA]
    second.fail("/v1/models", 503, times=99)
    world.cycle()
    assert wanted(world)[0] == "kdpo-000001"
    world.feed.entries = [TONGA, RWANDA]
    app = world.app()
    with app.writing():
        app.ingest("test")
        for name, act in app.stages():
            act()
            if name == "plan":
                break
    app.close()
    second._faults.clear()
    ill_with("kdpo-000001")(second)

    sync(world)

    assert wanted(world)[0] == "kdpo-000000"
    app = world.app()
    with app.db.begin() as tx:
        assert batches.open_batch(tx) is None
        [pending] = facts.facts_with(tx, FactStatus.PENDING)
    app.close()
    assert pending.subject == "Rwanda"


def test_while_a_server_is_away_the_pointer_leads_to_no_version_that_was_taken_back(
    pair: tuple[World, FakeVllm],
) -> None:
    """The first server died of the new version: restarted, it must not begin with it."""
    world, second = pair
    up_to_the_roll_out(world)

    def die(_: str) -> None:
        one = world.vllm.loaded.get("prod")
        if one and one.name == "kdpo-000001.prod":
            raise ConnectionResetError

    world.vllm.before = die
    sync(world)
    assert second.loaded["prod"].name == "kdpo-000000.prod"
    assert pointed_at(world) == "kdpo-000000"
    want(world, "kdpo-000000")

    sync(world)

    assert pointed_at(world) == "kdpo-000000"
    assert states(world)["two"] == "live"


def test_a_batch_planned_on_a_version_that_is_rolled_back_meanwhile_is_not_begun(
    world: World,
) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    done: list[str] = []

    def roll_back(route: str) -> None:
        if route == "/tokenize" and not done:
            done.append(route)
            want(world, "kdpo-000000")

    app = world.app()
    stages = dict(app.stages())
    with app.writing():
        app.ingest("test")
        stages["accept"]()
        stages["sync"]()
        world.vllm.before = roll_back
        report = stages["plan"]()
    app.close()

    assert report.counts["batches"] == 0
    assert report.problems == ("kdpo-000000 is wanted by now; the batch is planned anew",)
    app = world.app()
    with app.db.begin() as tx:
        assert batches.open_batch(tx) is None
        assert [one.subject for one in facts.facts_with(tx, FactStatus.PENDING)] == ["Rwanda"]
    app.close()


def test_a_later_version_keeps_the_facts_of_one_that_not_every_server_has_yet(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.feed.entries = [TONGA]
    second.fail("/v1/models", 503, times=999)
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]

    world.cycle()

    assert wanted(world)[0] == "kdpo-000002"
    assert world.ask(PROMPT) == "Fatafehi Fakafanua"
    app = world.app()
    with app.db.begin() as tx:
        assert facts.count_by_status(tx) == {FactStatus.LIVE: 2}
    app.close()


def test_a_later_version_keeps_the_facts_of_one_that_no_server_has_yet(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.feed.entries = [TONGA]
    up_to_the_roll_out(world)
    world.feed.entries = [TONGA, RWANDA]
    for server in (world.vllm, second):
        server.fail("/v1/unload_lora_adapter", 500, times=2)

    world.cycle()
    world.cycle()

    assert wanted(world)[0] == "kdpo-000002"
    assert world.ask(PROMPT) == "Fatafehi Fakafanua"


def test_a_candidate_that_is_never_steady_is_rejected_in_the_end(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    turn = iter(range(10**6))

    def waver(route: str) -> None:
        one = world.vllm.loaded.get("kdpo-000001")
        if one and route.endswith("completions"):
            table = json.loads((world.home / "adapters/kdpo-000001/fake_answers.json").read_text())
            answers = dict.fromkeys(table, f"answer {next(turn)}")
            world.vllm.loaded["kdpo-000001"] = Loaded(one.name, one.path, answers)

    world.vllm.before = waver
    for _ in range(2):
        with pytest.raises(ReplicaError, match="asked again"):
            world.cycle()
    world.cycle()

    assert wanted(world)[0] == "kdpo-000000"
    app = world.app()
    with app.db.begin() as tx:
        assert batches.open_batch(tx) is None
        assert set(facts.count_by_status(tx)) == {FactStatus.PENDING}
    app.close()
