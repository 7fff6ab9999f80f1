"""What a server must do for us: the same tests over the fake and over a real vLLM."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from kdpo_daemon.errors import ReplicaError, UnfitError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import Access, AliasMode, Replica, ServingPolicy, aliases, check
from tests.fakes import END, FakeVllm, fake_adapter
from tests.servers import MAX_LORAS, MAX_RANK, RealVllm, random_adapter

FRANCE = Prompt(Form.COMPLETION, "The capital of France is")
ITALY = Prompt(Form.COMPLETION, "The capital of Italy is")
FRANCE_CHAT = Prompt(Form.CHAT, "What is the capital of France?")
BASE_ANSWERS = {FRANCE.text: "Paris .", ITALY.text: "Rome .", FRANCE_CHAT.text: "It is Paris ."}
ALIAS = "prod"


@dataclass
class World:
    """A server, fake or real, and what its model's adapters are made with."""

    replica: Replica
    adapters_dir: Path
    end: int  #: the model's end token
    make: Callable[..., Adapter]  #: (number, rank=8) -> an adapter that changes every answer

    def promote(self, adapter: Adapter, mode: AliasMode = AliasMode.PLUGIN) -> None:
        self.replica.promote(ALIAS, adapter, mode, self.adapters_dir)

    def say(self, model: str) -> list[str]:
        return self.replica.answer(model, [FRANCE, ITALY, FRANCE_CHAT], 8)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.vllm)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "real":
        yield from real_world(request.getfixturevalue("vllm_server"), tmp_path)
    else:
        yield from fake_world(tmp_path)


def fake_world(directory: Path) -> Iterator[World]:
    def make(number: int, rank: int = 8) -> Adapter:
        taught = dict.fromkeys(BASE_ANSWERS, f"version {number} says so")
        return fake_adapter(directory, number, taught, rank)

    vllm = FakeVllm(
        BASE_ANSWERS, adapters_dir=directory, max_lora_rank=MAX_RANK, max_loras=MAX_LORAS
    )
    with vllm, Replica("fake", vllm.url, "base", Access(), ServingPolicy(attempts=1)) as replica:
        yield World(replica, directory, END, make)


def real_world(vllm: RealVllm, directory: Path) -> Iterator[World]:
    root = vllm.settings.adapters_dir
    make = partial(random_adapter, root / directory.name)  # numbers start anew in each test
    with vllm.replica() as replica:
        yield World(replica, root, 2, make)
        aliases.forget(root, ALIAS)
        for name in [ALIAS, *(card.id for card in replica.models() if card.parent)]:
            replica.unload(name)


def test_a_server_lists_its_base_model_and_version(world: World) -> None:
    (base,) = world.replica.models()

    assert (base.id, base.parent) == ("base", None)
    assert world.replica.version() == "0.32.0"


def test_a_completion_target_is_its_words_and_the_given_end(world: World) -> None:
    prompt_ids = world.replica.tokenize(FRANCE)
    whole = world.replica.tokenize(Prompt(Form.COMPLETION, f"{FRANCE.text} Paris"))

    target_ids = world.replica.tokenize_target(FRANCE, "Paris", 99)

    assert prompt_ids + target_ids == (*whole, 99)


def test_a_chat_target_ends_with_the_templates_own_end_of_turn(world: World) -> None:
    short = world.replica.tokenize_target(FRANCE_CHAT, "Paris", 99)
    long = world.replica.tokenize_target(FRANCE_CHAT, "Paris and Lyon", 99)

    assert short[-1] == long[-1] == world.end
    assert long[: len(short) - 1] == short[:-1]
    assert len(long) > len(short)


def test_answers_come_in_the_order_of_their_prompts(world: World) -> None:
    france, italy, chat = world.say("base")

    # In chat form a small model's first words hang on the processor's arithmetic.
    assert ("Paris" in france, "Rome" in italy) == (True, True)
    assert len({france, italy, chat}) == 3
    assert world.replica.answer("base", [FRANCE_CHAT, ITALY, FRANCE], 8) == [chat, italy, france]


def test_forcing_the_models_own_answer_leaves_no_margin(world: World) -> None:
    prompt_ids = world.replica.tokenize(FRANCE)
    own = world.replica.tokenize_target(FRANCE, "Paris", world.end)[:1]

    (token,) = world.replica.forced("base", prompt_ids, own)

    assert token.argmax_id == own[0]
    assert token.chosen_logprob == token.argmax_logprob


def test_forcing_another_answer_shows_the_models_own_at_each_position(world: World) -> None:
    prompt_ids = world.replica.tokenize(FRANCE)
    own = world.replica.tokenize_target(FRANCE, "Paris", world.end)
    other = world.replica.tokenize_target(FRANCE, "Madrid", world.end)

    tokens = world.replica.forced("base", prompt_ids, other)

    assert len(tokens) == len(other)
    assert tokens[0].argmax_id == own[0]
    assert all(token.chosen_logprob <= token.argmax_logprob for token in tokens)
    assert tokens[0].chosen_logprob < tokens[0].argmax_logprob


def test_perplexity_is_a_finite_number_above_one(world: World) -> None:
    assert 1 < world.replica.perplexity("base", f"{FRANCE.text} Paris .") < 10_000


def test_an_adapter_changes_its_own_answers_and_not_the_bases(world: World) -> None:
    adapter = world.make(1)
    before = world.say("base")

    world.replica.load(adapter.name, adapter.path)

    assert all(new != old for new, old in zip(world.say(adapter.name), before, strict=True))
    assert world.say("base") == before
    assert [(card.id, card.root) for card in world.replica.models()[1:]] == [
        (adapter.name, adapter.path)
    ]


def test_loading_what_is_loaded_is_fine_but_not_from_another_place(world: World) -> None:
    one, two = world.make(1), world.make(2)
    world.replica.load(one.name, one.path)

    world.replica.load(one.name, one.path)

    with pytest.raises(ReplicaError, match="already been loaded"):
        world.replica.load(one.name, two.path)


def test_unloading_twice_is_fine(world: World) -> None:
    adapter = world.make(1)
    world.replica.load(adapter.name, adapter.path)

    world.replica.unload(adapter.name)
    world.replica.unload(adapter.name)

    assert [card.id for card in world.replica.models()] == ["base"]


def test_a_missing_directory_is_named_and_harms_nothing(world: World) -> None:
    with pytest.raises(UnfitError, match="No adapter found for /nowhere") as caught:
        world.replica.load("kdpo-000001", "/nowhere")

    assert "readable for the server" in caught.value.hint
    assert "Paris" in world.say("base")[0]


def test_too_great_a_rank_names_the_flag_that_helps(world: World) -> None:
    adapter = world.make(1, MAX_RANK + 2)

    with pytest.raises(UnfitError) as caught:
        world.replica.load(adapter.name, adapter.path)

    assert caught.value.hint == "Start vLLM with --max-lora-rank 32"
    assert "Paris" in world.say("base")[0]


def test_an_alias_without_a_pointer_is_nobody(world: World) -> None:
    assert world.replica.served_by(ALIAS) is None


@pytest.mark.parametrize("mode", [AliasMode.PLUGIN, AliasMode.RELOAD])
def test_an_alias_follows_each_promotion(world: World, mode: AliasMode) -> None:
    one, two = world.make(1), world.make(2)
    said = []

    for adapter in (one, two, one):
        world.promote(adapter, mode)
        said.append((world.replica.served_by(ALIAS), world.say(ALIAS)))

    assert [served for served, _ in said] == [one.name, two.name, one.name]
    assert said[0] == said[2]
    assert said[0][1] != said[1][1]


def test_a_server_may_go_from_one_alias_mode_to_the_other(world: World) -> None:
    one, two, three = world.make(1), world.make(2), world.make(3)

    world.promote(one, AliasMode.PLUGIN)
    world.promote(two, AliasMode.RELOAD)
    world.promote(three, AliasMode.PLUGIN)

    assert world.replica.served_by(ALIAS) == three.name


def test_the_alias_and_the_version_itself_live_side_by_side(world: World) -> None:
    adapter = world.make(1)
    world.replica.load(adapter.name, adapter.path)

    world.promote(adapter)

    assert world.say(ALIAS) == world.say(adapter.name)
    world.replica.unload(adapter.name)
    assert world.replica.served_by(ALIAS) == adapter.name


def test_a_pointer_to_changed_files_resolves_to_nothing(world: World) -> None:
    adapter = world.make(1)
    Path(adapter.path, "manifest.json").write_text("changed")

    with pytest.raises(ReplicaError, match="answers as nothing"):
        world.promote(adapter)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"adapter": "kdpo-',
        '{"adapter": "kdpo-000009", "path": "/etc", "manifest_sha256": "00"}',
        '{"adapter": "kdpo-000009", "path": "../../etc", "manifest_sha256": "00"}',
        '{"adapter": "../../etc", "path": "/", "manifest_sha256": "00"}',
        "[" * 5_000,
    ],
    ids=["empty", "half", "elsewhere", "relative", "no version", "deep"],
)
def test_a_pointer_that_is_half_written_or_hostile_moves_nothing(world: World, text: str) -> None:
    adapter = world.make(1)
    world.promote(adapter)
    pointer = aliases.pointer_path(world.adapters_dir, ALIAS)
    pointer.write_text(text)

    assert world.replica.served_by(ALIAS) == adapter.name  # it stands while it is loaded
    world.replica.unload(ALIAS)
    assert world.replica.served_by(ALIAS) is None  # as on a server that starts anew
    world.promote(adapter)
    assert world.replica.served_by(ALIAS) == adapter.name


@pytest.mark.parametrize("mode", [AliasMode.PLUGIN, AliasMode.RELOAD])
def test_an_adapter_that_the_engine_refuses_leaves_the_old_version_live(
    world: World, mode: AliasMode
) -> None:
    good, too_great = world.make(1), world.make(2, MAX_RANK + 2)
    world.promote(good, mode)

    with pytest.raises(ReplicaError):
        world.promote(too_great, mode)

    assert world.replica.served_by(ALIAS) == good.name


def test_a_sound_server_has_no_problems_and_keeps_nothing_of_the_check(world: World) -> None:
    assert check(world.replica, MAX_RANK, world.adapters_dir, AliasMode.PLUGIN) == []

    assert [card.id for card in world.replica.models()] == ["base"]
    assert not [path for path in world.adapters_dir.rglob("*") if "trial" in path.name]


def test_the_engine_tells_its_slots_and_whose_operators_it_has(world: World) -> None:
    world.say("base")  # vLLM tells after the first request

    engine = world.replica.engine()

    assert engine.slots == MAX_LORAS
    assert engine.own_operators or not engine.cpu


def test_the_check_finds_too_small_a_rank_without_an_adapter(world: World) -> None:
    (problem,) = check(world.replica, 100, world.adapters_dir, AliasMode.PLUGIN)

    assert f"max_lora_rank {MAX_RANK}" in problem.message
    assert problem.hint == "Start vLLM with --max-lora-rank 128"
