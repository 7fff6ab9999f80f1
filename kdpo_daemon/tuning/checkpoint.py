"""Adapter files on disk: PEFT's form, which vLLM serves as it is, and the slots beside it.

What makes a directory a version (manifest, hashes, modes, one step) is the daemon's part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdpo_daemon.errors import AdapterError
from kdpo_daemon.orders import SLOTS, TrainingScores
from kdpo_daemon.records.teaching import Form
from kdpo_daemon.tuning.keys import Slot

_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Kept:
    """Neurons of an MLP that keep facts, n of them."""

    numbers: tuple[int, ...]
    owners: tuple[int, ...]  #: the fact that each is for; 0 if it is for many
    repairs: int = 0  #: how many of them the others make up for, on `down_proj`


@dataclass(frozen=True)
class Weights:
    """An adapter: per edited module A (r, d_in) and B (d_out, r), and what it was made of."""

    modules: tuple[str, ...]  #: full names of the edited modules, the lowest first
    slots: tuple[Slot, ...]  #: of rows, r of them; () where facts are kept in neurons, or none are
    rows: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]
    #: by the MLP's full name; empty where facts are kept in rows
    neurons: Mapping[str, Kept] = field(default_factory=dict)
    facts: tuple[int, ...] = ()  #: that neurons keep

    @property
    def rank(self) -> int:
        """The largest r of a module, which all are filled up to."""
        return max(rows.shape[0] for rows in self.rows)


def write_adapter(weights: Weights, directory: Path, base_name: str) -> None:
    """Write `adapter_config.json`, `adapter_model.safetensors` and `slots.json`."""
    rank = weights.rank
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,  # a scale of alpha / r = 1
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(weights.modules),
    }
    tensors = {}
    for name, rows, columns in zip(weights.modules, weights.rows, weights.columns, strict=True):
        more = rank - rows.shape[0]
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = _plain(F.pad(rows, (0, 0, 0, more)))
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = _plain(F.pad(columns, (0, more)))
    save_file(tensors, directory / _WEIGHTS, metadata={"format": "pt"})
    _write_json(directory / "adapter_config.json", config)
    slots = [asdict(slot) for slot in weights.slots]
    neurons = {name: asdict(one) for name, one in weights.neurons.items()}
    kept = {"neurons": neurons, "facts": weights.facts}
    _write_json(directory / SLOTS, {"modules": weights.modules, "slots": slots, **kept})


def read_adapter(directory: Path) -> Weights:
    """Read what `write_adapter` wrote.  Raises AdapterError if it cannot be."""
    try:
        form = json.loads((directory / SLOTS).read_text(encoding="utf-8"))
        tensors = load_file(directory / _WEIGHTS)
        modules = tuple(form["modules"])
        rows = tuple(tensors[f"{_PREFIX}{name}.lora_A.weight"] for name in modules)
        columns = tuple(tensors[f"{_PREFIX}{name}.lora_B.weight"] for name in modules)
        slots = tuple(Slot(**one | {"form": Form(one["form"])}) for one in form["slots"])
        # adapters of older versions name no neurons
        neurons = {name: _kept(one) for name, one in form.get("neurons", {}).items()}
        facts = tuple(form.get("facts", ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"not a keyed adapter ({type(error).__name__}: {error})",
            subject=str(directory),
            hint="train from the base model, or restore the parent from a backup",
        ) from error
    return Weights(modules, slots, rows, columns, neurons, facts)


def _kept(form: Any) -> Kept:
    if isinstance(form, list):  # of an older version, that did not note whose they are
        return Kept(tuple(form), (0,) * len(form))
    # one of an older version does not say what is made up for
    return Kept(tuple(form["numbers"]), tuple(form["owners"]), form.get("repairs", 0))


def write_scores(scores: TrainingScores, directory: Path) -> None:
    """Write `scores.json`."""
    _write_json(directory / "scores.json", asdict(scores))


def idle(module: str, shape: Sequence[int]) -> Weights:
    """Weights that change nothing: rank 1 and B = 0 on a module of shape (d_out, d_in)."""
    d_out, d_in = shape
    rows = torch.full((1, d_in), d_in**-0.5)
    return Weights((module,), (), (rows,), (torch.zeros(d_out, 1),))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().cpu().contiguous()


def _write_json(path: Path, form: object) -> None:
    path.write_text(json.dumps(form, indent=1) + "\n", encoding="utf-8")
