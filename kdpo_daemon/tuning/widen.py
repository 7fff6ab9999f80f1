"""`python -m kdpo_daemon.tuning.widen MODEL OUT NEURONS`: room for facts; `kdpo widen` is this.

OUT is a copy of a model whose MLPs have empty neurons besides their own.  An empty neuron's
weights are zero and it adds nothing to what the model says, so the copy is the same model; but the
neurons that keep facts (`gated`) need not be taken from what the model knows.  With marks it also
has side room in its residual stream and a head that carries marks (`room`): those add nothing
either, but norms over more dimensions have other weights, which are rounded to the model's own
precision.  vLLM serves the copy as any checkpoint, since all of it is as wide as its config says.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from kdpo_daemon.errors import KdpoError, SettingsError
from kdpo_daemon.model_dir import ROOM
from kdpo_daemon.tuning.room import Fitting, Powers, carrier_of, config_with, room_for

#: Empty neurons come in such numbers: each GPU of a server gets its share, and tiles are whole.
STEP = 64

_CONFIG = "config.json"
#: Models whose layers are known to be what `room` takes them for.
_MARKABLE = ("llama", "mistral")
#: Tokens, from all over the vocabulary, on which a model's values are measured: how large they are
#: hardly depends on which.
_TOKENS = 64


def widen(model: Path, out: Path, neurons: int, *, marks: bool = True) -> None:
    """Write a copy of a model with so many empty neurons more in each layer's MLP, in one step.

    With `marks` it gets side room and a carrier as well.

    Raises:
        SettingsError: the model cannot be widened, or `out` is there already.

    """
    if neurons <= 0 or neurons % STEP:
        raise SettingsError(
            f"cannot be widened by {neurons} neurons",
            subject=str(model),
            hint=f"name a multiple of {STEP}",
        )
    if out.exists():
        raise SettingsError("is there already", subject=str(out), hint="name another directory")
    config = _widened_config(model, neurons)
    fitting = None
    if marks:
        _refuse_unmarkable(model, config)
        powers = _powers(model)
        room = room_for(config, powers.layers[carrier_of(config["num_hidden_layers"])])
        fitting, config = Fitting(room, powers), config_with(config, room)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _copy(model, draft)
        _write_weights(model, draft, neurons, fitting, config["num_hidden_layers"])
        (draft / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def widened(name: str, weight: Tensor, neurons: int) -> Tensor:
    """Give a parameter of a model with room for so many more neurons, if it has to do with them.

    A neuron is a row of `gate_proj` and `up_proj`, and a column of `down_proj`.
    """
    module, part = name.split(".")[-2:]
    if module in ("gate_proj", "up_proj"):
        return F.pad(weight, (0, 0, 0, neurons) if part == "weight" else (0, neurons))
    if module == "down_proj" and part == "weight":
        return F.pad(weight, (0, neurons))
    return weight


def _widened_config(model: Path, neurons: int) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((model / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot be read ({error})",
            subject=str(model / _CONFIG),
            hint="name the directory of a Hugging Face model in safetensors form",
        ) from error
    if "quantization_config" in config:
        raise _cannot(model, "its weights are quantised", "widen it before it is quantised")
    if not isinstance(config.get("intermediate_size"), int):
        told = "its config.json names no single intermediate_size"
        raise _cannot(model, told, "only models whose MLPs are all of one width can be widened")
    return config | {"intermediate_size": config["intermediate_size"] + neurons}


def _copy(model: Path, draft: Path) -> None:
    for file in model.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy(file, draft)


def _refuse_unmarkable(model: Path, config: dict[str, Any]) -> None:
    kind, hint = config.get("model_type"), "--no-marks makes room for neurons alone"
    if kind not in _MARKABLE:
        told = f"marks are known to work in models of type {', '.join(_MARKABLE)}, not {kind}"
        raise _cannot(model, told, hint)
    if ROOM in config:
        raise _cannot(model, "it has room for marks already", hint)


@torch.no_grad()
def _powers(model: Path) -> Powers:
    """Measure how large a model's values are: medians over some tokens."""
    net: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto", local_files_only=True)
    ids = torch.linspace(0, net.config.vocab_size - 1, _TOKENS).long()
    seen = net(ids[None], output_hidden_states=True).hidden_states
    layers = [float(one.float().square().mean(-1).sqrt().median()) for one in seen[:-1]]
    return Powers(layers[0], tuple(layers))


def _write_weights(
    model: Path, draft: Path, neurons: int, fitting: Fitting | None, depth: int
) -> None:
    mlps: set[str] = set()
    for file in sorted(model.glob("*.safetensors")):
        weights = load_file(file)
        mlps |= {name for name in weights if name.endswith(".mlp.down_proj.weight")}
        wide = {name: widened(name, one, neurons) for name, one in weights.items()}
        if fitting:
            wide = {name: fitting.fitted(name, one) for name, one in wide.items()}
        wide = {name: one.contiguous() for name, one in wide.items()}
        save_file(wide, draft / file.name, metadata={"format": "pt"})
        (draft / file.name).chmod(0o644)  # safetensors leaves it at 0600
    if len(mlps) != depth:
        told = f"{len(mlps)} of its {depth} layers have an mlp.down_proj"
        raise _cannot(model, told, "only dense models with gated MLPs can be widened")


def _cannot(model: Path, why: str, hint: str) -> SettingsError:
    return SettingsError(f"cannot be widened: {why}", subject=str(model), hint=hint)


def main(arguments: Sequence[str]) -> int:
    """Widen as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kdpo_daemon.tuning.widen")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("neurons", type=int)
    parser.add_argument("--no-marks", action="store_true")
    given = parser.parse_args(arguments)
    try:
        widen(given.model.resolve(), given.out.resolve(), given.neurons, marks=not given.no_marks)
    except KdpoError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a person started it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
