"""Adapters of random weights that make every answer tell which version gave it.

They teach nothing.  The same number, rank and model give the same files.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kdpo_daemon import __version__
from kdpo_daemon.checkpoints import WEIGHTS, draft_of, publish
from kdpo_daemon.orders import Manifest, Recipe, TrainingScores
from kdpo_daemon.records.adapters import Adapter

_STRENGTH = 2.0  #: of B; enough to change every answer from its first token on
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  #: so that manifests are the same each time


#: The linear modules of a layer that a version may act on, by whether they lead out of the MLP.
MODULES = {"gate_proj": False, "up_proj": False, "down_proj": True}


def make_version(
    adapters_dir: Path,
    model_dir: Path,
    number: int,
    rank: int,
    modules: Sequence[str] = ("down_proj",),
) -> Adapter:
    """Publish version `number` for the layers that the recipe edits with rows."""
    name = f"kdpo-{number:06d}"
    final = adapters_dir / name
    config = {"r": rank, "lora_alpha": rank, "target_modules": list(modules)}
    with draft_of(final) as draft:
        save_file(dict(_weights(model_dir, number, rank, modules)), draft / WEIGHTS)
        (draft / "adapter_config.json").write_text(json.dumps(config), "utf-8")
        digest = publish(draft, final, _manifest(name, model_dir), _scores(rank))
    return Adapter(number, name, str(final), digest, number, None)


def _weights(
    model_dir: Path, number: int, rank: int, modules: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    config = json.loads((model_dir / "config.json").read_text("utf-8"))
    inner, outer, depth = (
        config[key] for key in ("intermediate_size", "hidden_size", "num_hidden_layers")
    )
    chance = np.random.default_rng([number, rank])
    recipe = Recipe()
    for layer in range(round(recipe.first_layer * depth), round(recipe.last_layer * depth)):
        for module in modules:
            name = f"base_model.model.model.layers.{layer}.mlp.{module}"
            wide, narrow = (inner, outer) if MODULES[module] else (outer, inner)
            into = chance.standard_normal((rank, wide), np.float32) / np.float32(wide**0.5)
            out = chance.standard_normal((narrow, rank), np.float32)
            # as strong at every rank
            yield f"{name}.lora_A.weight", into
            yield f"{name}.lora_B.weight", out * np.float32(_STRENGTH * (8 / rank) ** 0.5)


def _manifest(name: str, model_dir: Path) -> Manifest:
    return Manifest(
        adapter=name,
        base_name=model_dir.name,
        base_sha256="",
        parent=None,
        order_sha256="",
        fact_ids=(),
        recipe=Recipe(),
        seed=0,
        scores=_scores(1),
        files={},
        code_version=__version__,
        created_at=_LONG_AGO,
    )


def _scores(rank: int) -> TrainingScores:
    return TrainingScores(0, 0.0, 0.0, 0.0, rank=rank, seconds=0.0)
