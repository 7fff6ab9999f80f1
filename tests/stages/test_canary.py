"""What may go wrong while a candidate is asked on the canary, before any client sees it."""

import pytest

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.store import adapters, deployments
from tests.fakes import FakeVllm, Loaded
from tests.stages.conftest import World, states

CANDIDATE = "kdpo-000001"


def judge(world: World) -> None:
    """Run a first cycle up to the verdict."""
    app = world.app()
    try:
        with app.writing():
            app.ingest("test")
            for name, act in app.stages():
                act()
                if name == "judge":
                    return
    finally:
        app.close()


def wanted(world: World) -> str:
    app = world.app()
    with app.db.begin() as tx:
        found = deployments.wanted(tx)
    app.close()
    assert found is not None
    return found.adapter.name


@pytest.mark.parametrize("route", ["/v1/load_lora_adapter", "/v1/completions"])
def test_a_server_that_dies_with_a_candidate_costs_a_turn_and_nothing_else(
    pair: tuple[World, FakeVllm], route: str
) -> None:
    """Killed while it loads, and while it is asked."""
    world, second = pair

    def die(asked: str) -> None:
        name = world.vllm.requests[-1][1]
        if asked == route and CANDIDATE in (name.get("model"), name.get("lora_name")):
            raise ConnectionResetError

    world.vllm.before = die
    with pytest.raises(ReplicaError):
        judge(world)
    world.vllm.before = lambda _: None
    world.vllm.restart()
    assert wanted(world) == "kdpo-000000"
    assert second.loaded["prod"].name == "kdpo-000000.prod"

    world.cycle()

    assert wanted(world) == CANDIDATE
    for server in (world.vllm, second):
        assert server.loaded["prod"].name == f"{CANDIDATE}.prod"
    assert set(states(world).values()) == {"live"}


def test_a_candidate_that_answers_otherwise_when_asked_again_is_not_promoted(
    pair: tuple[World, FakeVllm],
) -> None:
    """As from a cache that mixes versions up."""
    world, _ = pair
    toml = world.home / "kdpo.toml"
    text = toml.read_text("utf-8")
    toml.write_text(text.replace("[client]\n", "[client]\nconcurrency = 1\n"), "utf-8")
    seen: set[str] = set()

    def forget(route: str) -> None:
        body = world.vllm.requests[-1][1]
        asked = str(body.get("prompt") or body.get("messages"))
        if body.get("model") == CANDIDATE:
            if asked in seen:
                path = world.vllm.loaded[CANDIDATE].path
                world.vllm.loaded[CANDIDATE] = Loaded(CANDIDATE, path, {})
            seen.add(asked)

    world.vllm.before = forget
    with pytest.raises(ReplicaError, match="asked again, kdpo-000001 answers"):
        judge(world)
    world.vllm.before = lambda _: None

    assert wanted(world) == "kdpo-000000"
    world.vllm.restart()
    world.cycle()
    assert wanted(world) == CANDIDATE


SKY = "The sky is"  #: the world's only general probe


def sky(world: World, base: list[str], candidate: str) -> None:
    """Have the base answer with these in turn, and the candidate with that."""
    said = iter(base)

    def say(_: str) -> None:
        body = world.vllm.requests[-1][1]
        if body.get("prompt") == SKY:
            of_base = body["model"] == "base"
            world.vllm.base_answers = {SKY: next(said) if of_base else candidate}

    world.vllm.before = say


def scores(world: World) -> dict[str, float]:
    app = world.app()
    with app.db.begin() as tx:
        one = adapters.adapter_by_name(tx, CANDIDATE)
        found = {score.name: score.value for score in adapters.scores_of(tx, one.id)}
    app.close()
    return found


def test_a_probe_to_which_the_base_itself_says_now_this_now_that_is_no_reason_to_reject(
    world: World,
) -> None:
    sky(world, base=["blue", "green"], candidate="red")

    world.cycle()

    assert wanted(world) == CANDIDATE
    assert scores(world)["steady"] < 1


def test_a_probe_that_the_base_answers_alike_twice_and_the_candidate_otherwise_is(
    world: World,
) -> None:
    sky(world, base=["blue", "blue"], candidate="red")

    world.cycle()

    assert wanted(world) == "kdpo-000000"
    assert scores(world)["steady"] == 1
    assert scores(world)["general_unchanged"] == 0


def test_the_base_is_not_asked_a_second_time_for_a_candidate_that_passes(world: World) -> None:
    sky(world, base=["blue"], candidate="blue")

    world.cycle()

    assert wanted(world) == CANDIDATE
    assert "steady" not in scores(world)


@pytest.mark.parametrize(
    ("base", "candidate", "unchanged"),
    [
        ("Blue. By day", "Blue. At night it is black", 1),
        ("J. K. Rowling wrote", "J. R. R. Tolkien wrote", 0),
        ("J. K. Rowling wrote", "J. K. Jerome wrote", 0),
    ],
)
def test_what_must_not_change_is_compared_up_to_the_first_sentence_end_and_not_before(
    world: World, base: str, candidate: str, unchanged: float
) -> None:
    """A server stops at what may end a sentence; initials do not."""
    sky(world, base=[base] * 4, candidate=candidate)

    world.cycle()

    assert scores(world)["general_unchanged"] == unchanged
