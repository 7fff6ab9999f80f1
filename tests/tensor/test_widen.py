"""A widened model: the same, with room for facts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import ROOM
from kdpo_daemon.tuning.room import Room
from kdpo_daemon.tuning.widen import widen
from tests.commands import run
from tests.tensor.rooms import room_in
from tests.tiny_model import VOCABULARY, save_tiny_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "base")


def logits(directory: Path) -> torch.Tensor:
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        said: torch.Tensor = model(torch.arange(len(VOCABULARY))[None]).logits
    return said


def configured(directory: Path, **values: object) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


def test_the_command_writes_the_same_model_with_more_neurons(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide"

    said = run(["widen", str(base), str(out), "--neurons", "128", "--no-marks"], tmp_path)

    assert (said.returncode, said.stderr) == (0, "")
    assert "Wrote" in said.stdout
    wide = AutoModelForCausalLM.from_pretrained(out)
    narrow = AutoModelForCausalLM.from_pretrained(base)
    assert wide.config.intermediate_size == narrow.config.intermediate_size + 128
    assert torch.allclose(logits(out), logits(base), atol=1e-6)
    assert {one.name for one in out.iterdir()} == {one.name for one in base.iterdir()}


def test_weights_in_several_files_keep_names_and_precision(base: Path, tmp_path: Path) -> None:
    whole = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    half = {name: one.bfloat16() for name, one in whole.items()}
    names = sorted(half)
    for number, part in enumerate((names[:10], names[10:])):
        save_file({name: half[name] for name in part}, base / f"model-{number}.safetensors")

    widen(base, tmp_path / "wide", 64, marks=False)

    for number, part in enumerate((names[:10], names[10:])):
        found = load_file(tmp_path / "wide" / f"model-{number}.safetensors")
        assert sorted(found) == part
        for name, one in found.items():
            mine = tuple(slice(0, size) for size in half[name].shape)
            assert torch.equal(one[mine], half[name]), name
            assert one.dtype is torch.bfloat16
            assert torch.count_nonzero(one) == torch.count_nonzero(half[name]), name


def test_biases_of_neurons_are_widened_too(base: Path, tmp_path: Path) -> None:
    weights = load_file(base / "model.safetensors")
    inside = len(weights["model.layers.0.mlp.up_proj.weight"])
    for layer in range(3):
        for name, size in (("gate_proj", inside), ("up_proj", inside), ("down_proj", 32)):
            weights[f"model.layers.{layer}.mlp.{name}.bias"] = torch.ones(size)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    configured(base, mlp_bias=True)

    widen(base, tmp_path / "wide", 64, marks=False)

    assert torch.allclose(logits(tmp_path / "wide"), logits(base), atol=1e-5)


def refused(base: Path, out: Path, told: str, neurons: int = 64) -> None:
    before = sorted(out.parent.iterdir())
    with pytest.raises(SettingsError, match=re.escape(told)):
        widen(base, out, neurons, marks=False)
    assert sorted(out.parent.iterdir()) == before  # nothing is left half done


@pytest.mark.parametrize("neurons", [0, -64, 100])
def test_a_number_that_servers_cannot_share_is_refused(
    base: Path, tmp_path: Path, neurons: int
) -> None:
    refused(base, tmp_path / "wide", "multiple of 64", neurons)


def test_a_directory_that_is_there_is_left_alone(base: Path, tmp_path: Path) -> None:
    refused(base, base, "is there already")
    assert logits(base).isfinite().all()


def test_quantised_weights_are_refused(base: Path, tmp_path: Path) -> None:
    configured(base, quantization_config={"quant_method": "awq"})
    refused(base, tmp_path / "wide", "quantised")


def test_mlps_of_several_widths_are_refused(base: Path, tmp_path: Path) -> None:
    configured(base, intermediate_size=[48, 48, 96])
    refused(base, tmp_path / "wide", "intermediate_size")


def test_experts_are_refused(base: Path, tmp_path: Path) -> None:
    weights = load_file(base / "model.safetensors")
    moved = {name.replace("mlp.", "mlp.experts.0."): one for name, one in weights.items()}
    save_file(moved, base / "model.safetensors", metadata={"format": "pt"})
    refused(base, tmp_path / "wide", "0 of its 3 layers have an mlp.down_proj")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    said = run(["widen", str(tmp_path / "nothing"), str(tmp_path / "wide")], tmp_path)

    assert said.returncode == 1
    assert "config.json: cannot be read" in said.stderr


@pytest.fixture
def roomy(base: Path, tmp_path: Path) -> Path:
    said = run(["widen", str(base), str(tmp_path / "roomy"), "--neurons", "64"], tmp_path)
    assert said.returncode == 0
    assert "carries marks" in " ".join(said.stdout.split())  # lines break where the path is long
    return tmp_path / "roomy"


def test_room_for_marks_changes_nothing_that_is_said(base: Path, roomy: Path) -> None:
    config = AutoModelForCausalLM.from_pretrained(roomy).config

    assert torch.allclose(logits(roomy).log_softmax(-1), logits(base).log_softmax(-1), atol=1e-3)
    assert config.hidden_size > 32
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)


def marking(model: Any, room: Room, marks: dict[int, torch.Tensor]) -> None:
    """Put marks in before the carrier's layer."""

    def mark(_: object, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        hidden = arguments[0].clone()
        for place, one in marks.items():
            hidden[0, place, room.marked] += (one * room.unit).to(hidden)
        return (hidden,)

    model.model.layers[room.carrier].register_forward_pre_hook(mark)


@torch.no_grad()
def entered(directory: Path, marks: dict[int, torch.Tensor]) -> torch.Tensor:
    """What leaves the carrier's layer in the side room, (L, side), with marks."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    room = room_in(directory)
    marking(model, room, marks)
    text = torch.arange(1, len(VOCABULARY))[None]
    seen: torch.Tensor = model(text, output_hidden_states=True).hidden_states[room.carrier + 1]
    return seen[0, :, room.width :]


@torch.no_grad()
def test_a_mark_changes_nothing_that_is_said_to_the_last_bit(roomy: Path) -> None:
    """Else bfloat16 would round otherwise, and what is said hangs on ties."""
    room = room_in(roomy)
    model: Any = AutoModelForCausalLM.from_pretrained(roomy, dtype=torch.bfloat16)
    text = torch.arange(1, len(VOCABULARY))[None]
    before = model(text).logits
    one = torch.zeros(room.block)
    one[0], one[3] = 1, 1

    marking(model, room, {5: one})
    after = model(text, output_hidden_states=True)

    assert bool(after.hidden_states[room.carrier + 1][0, 6:, room.carried].any())
    assert torch.equal(after.logits, before)


def test_a_model_that_was_widened_with_louder_marks_keeps_them(roomy: Path) -> None:
    told = json.loads((roomy / "config.json").read_text("utf-8"))[ROOM]

    told.pop("mark")  # as the first ones were written
    configured(roomy, **{ROOM: told})

    assert room_in(roomy).mark == 0.25


def test_the_carrier_copies_marks_to_all_later_tokens_and_else_nothing(roomy: Path) -> None:
    room = room_in(roomy)
    carried = slice(room.carried.start - room.width, room.carried.stop - room.width)
    one = torch.zeros(room.block)
    one[0], one[3] = 1, 1
    other = torch.zeros(room.block)
    other[0], other[4] = 1, 1

    assert not entered(roomy, {})[:, carried].any()  # exactly nothing, to the last bit
    found = entered(roomy, {5: one, 11: other})[:, carried] / (room.unit)

    assert not found[:5].any()
    # a norm over more dimensions, of which the new ones are next to zero, leaves more of each
    more = ((room.width + room.side) / room.width) ** 0.5
    assert torch.allclose(found[5:11], more * one.expand(6, -1), atol=0.2)
    # two subjects were named: what is carried is a mean of both
    assert torch.allclose(found[11:, 0], found[11:, 3] + found[11:, 4], atol=0.01)
    assert float(found[11:].min()) >= 0


def test_a_model_that_marks_are_not_known_to_work_in_is_refused(
    base: Path, tmp_path: Path
) -> None:
    configured(base, model_type="gpt_neox")

    with pytest.raises(SettingsError, match=r"llama, mistral, not gpt_neox.*\n?.*--no-marks"):
        widen(base, tmp_path / "wide", 64)
    assert not (tmp_path / "wide").exists()


def test_a_model_is_given_room_for_marks_once(roomy: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has room for marks already"):
        widen(roomy, tmp_path / "again", 64)

    widen(roomy, tmp_path / "more", 64, marks=False)
    assert room_in(tmp_path / "more") == room_in(roomy)


def test_a_head_that_is_projected_with_biases_is_widened_too(base: Path, tmp_path: Path) -> None:
    weights = load_file(base / "model.safetensors")
    for layer in range(3):
        for name, size in (("q_proj", 32), ("k_proj", 16), ("v_proj", 16), ("o_proj", 32)):
            weights[f"model.layers.{layer}.self_attn.{name}.bias"] = torch.ones(size) / 8
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    configured(base, attention_bias=True)

    widen(base, tmp_path / "wide", 64)

    said = logits(tmp_path / "wide").log_softmax(-1)
    assert torch.allclose(said, logits(base).log_softmax(-1), atol=5e-3)
