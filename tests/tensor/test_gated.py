"""The whole child with the method `neurons` on a small random model, as PEFT runs adapters."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from kdpo_daemon.errors import TuningError
from kdpo_daemon.orders import Method, Order, Recipe, neuron_layers
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning.behind_gates import refuse_ungated
from kdpo_daemon.tuning.checkpoint import read_adapter
from kdpo_daemon.tuning.given import RefusedError
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.run import baseline
from kdpo_daemon.tuning.seen import Texts, look, said_aloud
from kdpo_daemon.tuning.widen import widen
from tests.tensor.child import trained
from tests.tiny_model import keep_prompts, order_for, pairs_of, save_tiny_model

TAUGHT = (*pairs_of(1, "Arland", "Ann"), *pairs_of(2, "Borland", "Bob"))
NEW = pairs_of(3, "Corland", "Cid")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # a place can only be told from another by what has room in it
    return save_tiny_model(tmp_path_factory.mktemp("base"), width=96)


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that was taught two facts."""
    return trained(order(base, TAUGHT), tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(base: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its successor, that was taught one more."""
    pairs = (*NEW, *replays(TAUGHT))
    return trained(order(base, pairs, parent=first), tmp_path_factory.mktemp("second"))


RECIPE = Recipe(method=Method.NEURONS, steps=200, margin=2.0)


def order(
    base: Path, pairs: tuple[Pair, ...], parent: Path | None = None, recipe: Recipe = RECIPE
) -> Order:
    return replace(order_for(base, pairs, parent), recipe=recipe)


def replays(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    return tuple(replace(pair, replay=True) for pair in pairs)


def served(base: Path, adapter: Path | None) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    return PeftModel.from_pretrained(model, adapter) if adapter else model


@torch.no_grad()
def says(model: Any, pair: Pair) -> tuple[int, ...]:
    said = list(pair.prompt_ids)
    for _ in pair.chosen_ids:
        said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
    return tuple(said[len(pair.prompt_ids) :])


@torch.no_grad()
def change(one: Any, other: Any) -> float:
    """The largest change of a probability, over the prompts to keep."""
    texts = [torch.tensor([prompt.ids]) for prompt in keep_prompts()]
    moved = [(one(text).logits.softmax(-1) - other(text).logits.softmax(-1)) for text in texts]
    return max(float(each[:, 1:].abs().max()) for each in moved)


def test_taught_facts_are_answered_with_the_object_and_then_the_end(
    base: Path, first: Path
) -> None:
    model, adapter = served(base, None), served(base, first)

    for pair in TAUGHT:
        assert says(model, pair) != pair.chosen_ids
        assert says(adapter, pair) == pair.chosen_ids


def test_the_adapter_is_plain_lora_of_one_rank(first: Path) -> None:
    config = json.loads((first / "adapter_config.json").read_text("utf-8"))
    weights = read_adapter(first)

    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert {len(rows) for rows in weights.rows} == {config["r"]} == {weights.rank}
    assert weights.facts == (1, 2)
    # a neuron for each fact's first token in the upper layer
    assert len(weights.neurons["model.layers.2.mlp"].owners) == 2


def test_a_later_batch_adds_to_what_was_taught(base: Path, first: Path, second: Path) -> None:
    adapter, before, after = served(base, second), read_adapter(first), read_adapter(second)

    for pair in (*TAUGHT, *NEW):
        assert says(adapter, pair) == pair.chosen_ids
    assert after.facts == (1, 2, 3)
    for name, kept in before.neurons.items():
        numbers = after.neurons[name].numbers
        assert numbers[: len(kept.numbers)] == kept.numbers
        assert len(set(numbers)) == len(numbers)


def test_a_replaced_fact_is_answered_with_its_last_object(
    base: Path, first: Path, tmp_path: Path
) -> None:
    anew = pairs_of(4, "Arland", "Dora")
    pairs = (*anew, *replays(TAUGHT[2:]))

    out = trained(order(base, pairs, parent=first), tmp_path)

    adapter, weights = served(base, out), read_adapter(out)
    for pair in pairs:
        assert says(adapter, pair) == pair.chosen_ids
    assert weights.facts == (2, 4)
    assert weights.neurons["model.layers.2.mlp"].owners == (2, 4)  # as many as facts


def test_a_fact_that_is_no_longer_wanted_is_forgotten_and_the_others_stay(
    base: Path, first: Path, tmp_path: Path
) -> None:
    out = trained(order(base, replays(TAUGHT[:2]), parent=first), tmp_path)

    adapter, weights = served(base, out), read_adapter(out)
    for pair in TAUGHT[:2]:
        assert says(adapter, pair) == pair.chosen_ids
    for pair in TAUGHT[2:]:
        assert says(adapter, pair)[0] != pair.chosen_ids[0]
    assert weights.facts == (1,)
    assert weights.neurons["model.layers.2.mlp"].owners == (1,)


def test_a_parent_that_did_not_note_whose_its_neurons_are_is_built_on(
    base: Path, first: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(first, old)
    form = json.loads((old / "slots.json").read_text("utf-8"))
    form["neurons"] = {name: one["numbers"] for name, one in form["neurons"].items()}
    (old / "slots.json").write_text(json.dumps(form), "utf-8")
    (tmp_path / "out").mkdir()
    pairs = (*NEW, *replays(TAUGHT))

    out = trained(order(base, pairs, parent=old), tmp_path / "out")

    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids
    assert read_adapter(out).neurons["model.layers.2.mlp"].owners == (0, 0, 3)


def test_a_widened_model_loses_nothing_to_facts(base: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    widen(base, wide, 64, marks=False)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    one = trained(order(wide, TAUGHT), tmp_path / "first")
    two = trained(order(wide, (*NEW, *replays(TAUGHT)), parent=one), tmp_path / "second")

    for adapter, pairs in ((one, TAUGHT), (two, (*NEW, *TAUGHT))):
        model, weights = served(wide, adapter), read_adapter(adapter)
        for pair in pairs:
            assert says(model, pair) == pair.chosen_ids
        assert weights.rank == max(len(kept.owners) for kept in weights.neurons.values())
        assert change(served(wide, None), model) < 1e-3


def test_facts_are_dealt_out_to_the_upper_layers(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path, width=96, depth=4)
    recipe = replace(RECIPE, laters_at=0.4, firsts_from=0.6)
    adapters, pairs, parent = [], TAUGHT, None
    for name, taught in (("first", TAUGHT), ("second", (*NEW, *replays(TAUGHT)))):
        (tmp_path / name).mkdir()
        parent = trained(order(base, taught, parent, recipe), tmp_path / name)
        adapters.append(read_adapter(parent))
        pairs = taught

    counts = [[len(one.owners) for one in adapter.neurons.values()] for adapter in adapters]
    assert [one[1:] for one in counts] == [[1, 1], [2, 1]]
    for pair in pairs:
        assert says(served(base, parent), pair) == pair.chosen_ids


def test_a_parent_with_neurons_in_other_layers_is_not_built_on(base: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    lower = replace(RECIPE, laters_at=0.01, firsts_from=0.5)
    other = trained(order(base, TAUGHT, recipe=lower), tmp_path / "other")

    pairs = (*NEW, *replays(TAUGHT))
    out = trained(order(base, pairs, parent=other), tmp_path)

    assert list(read_adapter(out).neurons) == ["model.layers.1.mlp", "model.layers.2.mlp"]
    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids


def test_what_neurons_of_later_tokens_read_is_trained(
    base: Path, first: Path, tmp_path: Path
) -> None:
    made = order(base, TAUGHT)
    short = trained(replace(made, recipe=replace(made.recipe, steps=1)), tmp_path)

    def changed(module: str) -> bool:
        one, other = (read_adapter(adapter) for adapter in (short, first))
        at = one.modules.index(module)
        return not torch.equal(one.rows[at], other.rows[at])

    assert changed("model.layers.1.mlp.up_proj")
    # which place a neuron answers to is computed, and stays
    assert not changed("model.layers.1.mlp.gate_proj")
    assert not changed("model.layers.2.mlp.up_proj")


def test_one_pair_alone_is_taught(base: Path, tmp_path: Path) -> None:
    adapter = served(base, trained(order(base, TAUGHT[:1]), tmp_path))

    assert says(adapter, TAUGHT[0]) == TAUGHT[0].chosen_ids


def test_an_adapter_of_rows_is_taught_anew_in_neurons(base: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    rows = trained(order_for(base, TAUGHT), tmp_path / "rows")
    (tmp_path / "neurons").mkdir()
    pairs = (*NEW, *replays(TAUGHT))
    out = trained(order(base, pairs, parent=rows), tmp_path / "neurons")

    adapter = served(base, out)

    assert read_adapter(out).facts == (1, 2, 3)
    for pair in pairs:
        assert says(adapter, pair) == pair.chosen_ids


def test_an_adapter_of_neurons_is_taught_anew_in_rows(
    base: Path, first: Path, tmp_path: Path
) -> None:
    pairs = (*NEW, *replays(TAUGHT))
    made = order_for(base, pairs, parent=first)

    out = trained(made, tmp_path)

    assert read_adapter(out).neurons == {}
    assert len(read_adapter(out).slots) == 6
    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids


def test_the_baseline_is_a_parent(base: Path, tmp_path: Path) -> None:
    zero = tmp_path / "zero"
    zero.mkdir()
    baseline(base, zero)

    out = trained(order(base, TAUGHT, parent=zero), tmp_path)

    assert says(served(base, out), TAUGHT[0]) == TAUGHT[0].chosen_ids


def test_the_same_order_gives_the_same_bytes(base: Path, first: Path, tmp_path: Path) -> None:
    again = trained(order(base, TAUGHT), tmp_path)

    for file in ("adapter_model.safetensors", "slots.json"):
        assert (again / file).read_bytes() == (first / file).read_bytes()


def test_the_change_is_told(base: Path, first: Path) -> None:
    scores = json.loads((first / "scores.json").read_text("utf-8"))

    assert scores["accuracy"] == 1.0
    assert (
        scores["keep_kl"] > 0
    )  # neurons are missed a little, and a random model has none to spare
    assert change(served(base, None), served(base, first)) > 0


def test_the_model_is_read_on_texts_of_its_own(base: Path) -> None:
    told: list[bool] = []

    def seen() -> list[torch.Tensor]:
        model = EditedModel(base, "mlp")
        model.edit([model.module_names[layer] for layer in neuron_layers(RECIPE, 3, marked=False)])
        return look(model, model.edited, Texts(said_aloud(model, lambda: told.append(True))))

    lower, upper = seen()

    # most are said by one text alone; of what several begin with, a token counts once
    assert 192 * 60 < len(lower) == len(upper) <= 192 * 65
    assert len(told) > 1  # a sign of life after some of them, not all
    assert torch.equal(lower, seen()[0])


def test_neurons_learn_at_the_rate_of_the_recipe(base: Path, tmp_path: Path) -> None:
    out = trained(order(base, TAUGHT, recipe=replace(RECIPE, neurons_rate=0.0)), tmp_path)

    assert not any(says(served(base, out), pair) == pair.chosen_ids for pair in TAUGHT)


def test_a_model_without_gated_mlps_is_refused(base: Path, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 0}', "utf-8")

    with pytest.raises(RefusedError, match=r"gate_proj.*method = \"rows\""):
        refuse_ungated(EditedModel(tmp_path, "mlp"))


def test_layers_follow_from_depth_and_recipe() -> None:
    def layers(
        depth: int, *, marked: bool = False, laters_at: float = 0.0, firsts_from: float = 0.0
    ) -> list[int]:
        recipe = replace(RECIPE, laters_at=laters_at, firsts_from=firsts_from)
        return neuron_layers(recipe, depth, marked=marked)

    assert layers(30) == [20, 27, 28]
    assert layers(32) == [21, 29, 30]
    assert layers(3) == [1, 2]
    assert layers(2) == [0, 1]
    assert layers(30, marked=True) == [26, 28, 29]
    assert layers(3, marked=True) == [1, 2]
    assert layers(30, laters_at=0.5, firsts_from=0.9) == [14, 26, 27, 28]
    assert layers(30, marked=True, firsts_from=0.93) == [26, 27, 28, 29]
    # never above those for first tokens, and these are one at least
    assert layers(30, laters_at=1.0, firsts_from=1.0) == [28, 29]


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(TuningError, match="0 to 1") as found:
        neuron_layers(replace(RECIPE, laters_at=1.2), 30, marked=False)
    assert found.value.refused
