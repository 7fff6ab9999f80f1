"""The whole child on a small random model: order in, adapter out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from kdpo_daemon.errors import AdapterError, TuningError
from kdpo_daemon.orders import Recipe, write_order
from kdpo_daemon.records.teaching import Form, Pair
from kdpo_daemon.tuning.__main__ import REFUSED, main
from kdpo_daemon.tuning.checkpoint import read_adapter
from kdpo_daemon.tuning.given import RefusedError
from kdpo_daemon.tuning.keys import Slot
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.run import baseline, edited_layers, train
from tests.tensor.child import trained
from tests.tiny_model import END, ids, order_for, pairs_of, save_tiny_model

TAUGHT = (*pairs_of(1, "Arland", "Ann"), *pairs_of(2, "Borland", "Bob"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that was taught two facts."""
    return trained(order_for(base, TAUGHT), tmp_path_factory.mktemp("first"))


def answers(base: Path, adapter: Path | None, pair: Pair) -> tuple[int, ...]:
    """What the model says, token by token, as PEFT runs the adapter."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(base)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    said = list(pair.prompt_ids)
    for _ in pair.chosen_ids:
        with torch.no_grad():
            said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
    return tuple(said[len(pair.prompt_ids) :])


def test_taught_facts_are_answered_with_the_object_and_then_the_end(
    base: Path, first: Path
) -> None:
    for pair in TAUGHT:
        assert answers(base, None, pair) != pair.chosen_ids
        assert answers(base, first, pair) == pair.chosen_ids


def test_the_loss_falls_and_each_step_is_told(base: Path, tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    write_order(order_for(base, TAUGHT), tmp_path)
    out = tmp_path / "out"
    out.mkdir()

    train(tmp_path, tmp_path / "said", out, told.append)

    losses = [float(str(line["loss"])) for line in told if "loss" in line]
    assert losses[-1] < losses[0] / 4
    assert {line["of"] for line in told if "step" in line} == {Recipe().steps}


def test_there_are_signs_of_life_before_the_first_step(base: Path, tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    order = order_for(base, TAUGHT)
    write_order(replace(order, keep=order.keep * 10), tmp_path)
    out = tmp_path / "out"
    out.mkdir()

    train(tmp_path, tmp_path / "said", out, told.append)

    first = next(place for place, line in enumerate(told) if line.get("step") == 1)
    assert [line["kept"] for line in told[:first] if "kept" in line][-1] == 60


def test_peft_gives_the_logits_of_the_trainer(base: Path, first: Path) -> None:
    weights = read_adapter(first)
    ours = EditedModel(base, "mlp.down_proj")
    ours.edit(weights.modules)
    ours.rows[:], ours.columns[:] = list(weights.rows), list(weights.columns)
    prompt = ids("The head of Arland is")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), first)

    with torch.no_grad():
        at = torch.zeros(5, dtype=torch.int64), torch.arange(5)
        found = ours.logits(rows([prompt]), at)
        expected = theirs(torch.tensor([prompt])).logits[0]

    assert torch.allclose(found, expected, atol=1e-5)


def test_the_upper_layers_go_on_from_cached_states_exactly(base: Path, first: Path) -> None:
    weights = read_adapter(first)
    model = EditedModel(base, "mlp.down_proj")
    model.edit(weights.modules)
    model.rows[:], model.columns[:] = list(weights.rows), list(weights.columns)
    batch = rows([ids("The head of Arland is"), ids("Who leads")])
    at = batch.locate(torch.tensor([0, 1]), torch.tensor([4, 1]))

    with torch.no_grad():
        cached = model.logits(batch, at, model.lower(batch))
        whole = model.logits(batch, at)

    assert torch.equal(cached, whole)


def test_the_base_is_left_as_it_was(base: Path, tmp_path: Path) -> None:
    before = (base / "model.safetensors").read_bytes()

    trained(order_for(base, TAUGHT), tmp_path)

    assert (base / "model.safetensors").read_bytes() == before


def test_the_same_order_gives_the_same_bytes(base: Path, first: Path, tmp_path: Path) -> None:
    again = trained(order_for(base, TAUGHT), tmp_path)

    name = "adapter_model.safetensors"
    assert (again / name).read_bytes() == (first / name).read_bytes()


def test_a_slot_is_a_subject_in_one_form(first: Path) -> None:
    forms = (Form.COMPLETION, Form.CHAT)
    expected = {Slot(name, form) for name in ("Arland", "Borland") for form in forms}

    assert set(read_adapter(first).slots) == expected


def test_a_new_fact_gets_new_slots_and_the_old_ones_stay(
    base: Path, first: Path, tmp_path: Path
) -> None:
    replays = tuple(replace(pair, replay=True) for pair in TAUGHT)
    new = pairs_of(3, "Corland", "Cid")

    out = trained(order_for(base, (*new, *replays), parent=first), tmp_path)

    assert read_adapter(out).slots[:4] == read_adapter(first).slots
    assert {slot.subject for slot in read_adapter(out).slots[4:]} == {"Corland"}
    for pair in (*new, *replays):
        assert answers(base, out, pair) == pair.chosen_ids


def test_a_replaced_fact_takes_the_slots_of_the_old_one(
    base: Path, first: Path, tmp_path: Path
) -> None:
    new = pairs_of(4, "Arland", "Dora")

    out = trained(order_for(base, (*new, *TAUGHT[2:]), parent=first), tmp_path)

    assert read_adapter(out).slots == read_adapter(first).slots
    assert answers(base, out, new[0]) == new[0].chosen_ids


def test_a_prompt_without_its_subject_refuses_that_fact_alone(base: Path, tmp_path: Path) -> None:
    lost = replace(TAUGHT[2], subject="Nowhere")

    with pytest.raises(RefusedError, match="Nowhere") as refused:
        trained(order_for(base, (*TAUGHT[:2], lost)), tmp_path)

    assert refused.value.fact_ids == (2,)


def test_a_changed_base_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="not the order's"):
        trained(replace(order_for(base, TAUGHT), base_sha256="0" * 64), tmp_path)


def test_a_broken_parent_is_named(base: Path, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()

    with pytest.raises(AdapterError, match="keyed adapter"):
        trained(order_for(base, TAUGHT, parent=tmp_path / "parent"), tmp_path)


def test_a_prompt_that_is_taught_is_not_kept_as_it_was(base: Path, tmp_path: Path) -> None:
    order = order_for(base, TAUGHT)
    taught = tuple(replace(order.keep[0], ids=pair.prompt_ids) for pair in TAUGHT)

    out = trained(replace(order, keep=(*order.keep, *taught)), tmp_path)

    assert answers(base, out, TAUGHT[0]) == TAUGHT[0].chosen_ids


def test_the_command_line_refuses_with_the_facts_to_blame(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_order(order_for(base, (replace(TAUGHT[0], subject="Nowhere"),)), tmp_path)

    code = main(["train", str(tmp_path), str(tmp_path)])

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == REFUSED
    assert last["fact_ids"] == [1]
    assert "Nowhere" in last["refused"]


def test_the_baseline_changes_nothing(base: Path, tmp_path: Path) -> None:
    baseline(base, tmp_path)

    plain = AutoModelForCausalLM.from_pretrained(base)
    prompt = torch.tensor([[*ids("The head of Arland is"), END]])
    with torch.no_grad():
        before = plain(prompt).logits
        after = PeftModel.from_pretrained(plain, tmp_path)(prompt).logits
    assert torch.equal(before, after)


def test_the_baseline_is_a_parent_without_slots(base: Path, tmp_path: Path, first: Path) -> None:
    (tmp_path / "zero").mkdir()
    baseline(base, tmp_path / "zero")

    out = trained(order_for(base, TAUGHT, parent=tmp_path / "zero"), tmp_path)

    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (first / name).read_bytes()


def test_layers_follow_from_the_depth() -> None:
    assert edited_layers(Recipe(first_layer=0.4, last_layer=0.7), 30) == list(range(12, 21))
    assert edited_layers(Recipe(first_layer=0.4, last_layer=0.7), 2) == [1]
    with pytest.raises(RefusedError, match="with 2"):
        edited_layers(Recipe(layers=(5,)), 2)
