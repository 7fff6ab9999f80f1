"""The directory a training child reads, and the manifest of the one it writes: names, JSON forms.

Standard library only, because the daemon imports it too; it trains nothing and checks no weights.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from kdpo_daemon.errors import AdapterError, TuningError
from kdpo_daemon.records.teaching import Form, KeepPrompt, Pair, Prompt

FORMAT = 1  #: of the order and of the manifest; raised when a reader of the old form would err
MANIFEST = "manifest.json"
SLOTS = "slots.json"  #: beside it: what each row is for, or which neurons keep which facts


class Method(StrEnum):
    """Where an adapter keeps its facts (docs/editing.md).

    Neurons move what is not taught less; rows work in models whose MLPs have no gates too.
    """

    ROWS = "rows"  #: in rows that answer to a fact's places, linear: a little everywhere else too
    NEURONS = "neurons"  #: in neurons of the MLPs that are shut everywhere else


#: The linear modules of a gated MLP, which neurons are written on.
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """How to train.  Everything that shapes the adapter, apart from the order's pairs."""

    #: where the facts are kept; where the version before did otherwise, all are taught anew
    method: Method = Method.NEURONS
    #: the edited modules are those whose name ends so
    target_module: str = "mlp.down_proj"
    #: first and last edited layer, as a share of the model's depth
    first_layer: float = 0.7
    last_layer: float = 0.97
    #: edited layers by number; empty: from the two shares above
    layers: tuple[int, ...] = ()
    #: ridge on the second moment of the edited modules' inputs, as a share of its mean diagonal
    ridge: float = 1e-3
    #: Adam's step sizes at the start, for A (in whitened coordinates) and for B
    rows_rate: float = 6e-4
    columns_rate: float = 1.5e-2
    steps: int = 150
    #: pairs per step, of those still to be learnt, at least
    pair_rows: int = 28
    #: how often a pair that is still to be learnt is drawn in all steps, at least
    draws: float = 25.0
    #: a step's loss is the mean over its open pairs, or over this many where fewer are open
    least_pairs: int = 8
    #: slots to learn that the weights below were found with; of more, the loss weighs as much more
    slots: int = 24
    #: KDPO's beta: how soon a pair that leads by some nats stops pushing
    beta: float = 0.1
    #: weight of the cross-entropy anchor on target and end token
    anchor_weight: float = 0.3
    #: weight of the KL to the base model on keep prompts
    keep_weight: float = 40.0
    #: weight of the stir: the mean square change that ordinary text sees
    stir_weight: float = 15000.0
    #: how many times a token that predicts an answer's token counts as ordinary text
    answer_weight: float = 12.0
    #: keep prompts per step
    keep_rows: int = 16
    #: tokens of the model's own answer to a keep prompt that are kept with it
    keep_tokens: int = 8
    #: lead in nats over every other token at which a target position counts as learnt
    margin: float = 1.5
    #: of neurons: the layer of those for later tokens, and from which on those for first tokens
    #: lie, as shares of the depth; 0: .69 and .93, and of a model with marks .9 and .97
    laters_at: float = 0.0
    firsts_from: float = 0.0
    #: Adam's step size at the start for what neurons say, in root mean squares of hidden states
    neurons_rate: float = 0.09


#: At which share of the depth neurons for later tokens lie: what they say of these is told best in
#: the midst of the model, and with marks cues tell it anywhere; a step is the faster the nearer to
#: the end (docs/editing-findings.md).
_LATERS, _MARKED_LATERS = 0.69, 0.9
#: From which share of the depth to which neurons for first tokens lie.  The nearer to the end, the
#: better they tell what is asked for; of eighteen layers and more the last is left alone, where a
#: neuron that is taken from the model is missed most (docs/editing-findings.md).
_FIRSTS = 0.93, 0.97
#: With marks there are neurons to spare, and no need to leave the last layer alone.
_MARKED_FIRSTS = 0.97, 1.0


def laters_at(recipe: Recipe, *, marked: bool) -> float:
    """Give the share of the depth at which neurons for later tokens lie."""
    return recipe.laters_at or (_MARKED_LATERS if marked else _LATERS)


def firsts_from(recipe: Recipe, *, marked: bool) -> float:
    """Give the share of the depth from which on neurons for first tokens lie."""
    return recipe.firsts_from or (_MARKED_FIRSTS if marked else _FIRSTS)[0]


def neuron_layers(recipe: Recipe, depth: int, *, marked: bool) -> list[int]:
    """Give the layers whose MLPs keep facts, of two at least; the lowest has the later tokens.

    Raises:
        TuningError: refused, since the recipe has a share that is none.

    """
    if not (0 <= recipe.laters_at <= 1 and 0 <= recipe.firsts_from <= 1):
        raise TuningError("laters_at and firsts_from are shares, 0 to 1", refused=True)
    first = max(1, round(firsts_from(recipe, marked=marked) * (depth - 1)))
    last = round((_MARKED_FIRSTS if marked else _FIRSTS)[1] * (depth - 1))
    lowest = min(first - 1, round(laters_at(recipe, marked=marked) * (depth - 1)))
    return [lowest, *range(first, max(first, last) + 1)]


@dataclass(frozen=True)
class Order:
    """All that a training child needs to know."""

    name: str  #: of the adapter
    base_dir: Path
    base_sha256: str
    parent_dir: Path | None  #: the adapter to start from; None: the base model
    recipe: Recipe
    seed: int
    threads: int
    pairs: tuple[Pair, ...]
    keep: tuple[KeepPrompt, ...]


@dataclass(frozen=True)
class TrainingScores:
    """What the child saw at the end, under teacher forcing."""

    steps: int
    learnt: float  #: share of pairs whose every position leads by the recipe's margin
    accuracy: float  #: share of pairs whose every target token is the argmax
    keep_kl: float  #: mean KL on the keep prompts, nats per token
    rank: int
    seconds: float
    gpu_mb: float = 0.0  #: peak memory for tensors, the largest of the GPUs; 0: none was used


@dataclass(frozen=True)
class Manifest:
    """What an adapter directory holds and where it came from; written last."""

    adapter: str
    base_name: str  #: name of the base model's directory
    base_sha256: str
    parent: str | None  #: name of the parent adapter; None: the base model
    order_sha256: str
    fact_ids: tuple[int, ...]
    recipe: Recipe
    seed: int
    scores: TrainingScores
    files: dict[str, str]  #: file name -> sha256
    code_version: str
    created_at: datetime
    format: int = field(default=FORMAT)


def write_order(order: Order, directory: Path) -> None:
    """Write `order.json`, `pairs.jsonl` and `keep.jsonl` into an existing directory."""
    (directory / "order.json").write_text(_dumps(_head(order)) + "\n", encoding="utf-8")
    _write_lines(directory / "pairs.jsonl", [asdict(pair) for pair in order.pairs])
    _write_lines(directory / "keep.jsonl", [asdict(prompt) for prompt in order.keep])


def read_order(directory: Path) -> Order:
    """Read what `write_order` wrote.  Raises TuningError (refused) if it is not that."""
    try:
        head = json.loads((directory / "order.json").read_text(encoding="utf-8"))
        if head["format"] != FORMAT:
            _refuse(directory, f"order of format {head['format']}, this code reads {FORMAT}")
        parent = head["parent_dir"]
        return Order(
            name=head["name"],
            base_dir=Path(head["base_dir"]),
            base_sha256=head["base_sha256"],
            parent_dir=Path(parent) if parent else None,
            recipe=_recipe(head["recipe"]),
            seed=head["seed"],
            threads=head["threads"],
            pairs=tuple(_pair(line) for line in _read_lines(directory / "pairs.jsonl")),
            keep=tuple(_keep(line) for line in _read_lines(directory / "keep.jsonl")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        _refuse(directory, f"unreadable order ({type(error).__name__}: {error})")


def order_sha256(order: Order) -> str:
    """Hash what decides the adapter: all but where the base lies and how many threads run."""
    head = _head(order) | {"base_dir": "", "threads": 0}
    head["parent_dir"] = order.parent_dir.name if order.parent_dir else None
    digest = hashlib.sha256(_dumps(head).encode())
    for form in (*map(asdict, order.pairs), *map(asdict, order.keep)):
        digest.update(_dumps(form).encode())
    return digest.hexdigest()


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Write `manifest.json` into the directory."""
    form = asdict(manifest) | {"created_at": manifest.created_at.isoformat()}
    (directory / MANIFEST).write_text(json.dumps(form, indent=1) + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of an adapter directory.  Raises AdapterError if there is none."""
    try:
        return _manifest(json.loads((directory / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"no usable {MANIFEST} ({type(error).__name__}: {error})",
            subject=str(directory),
            hint="restore the directory from a backup, or let the batch be trained again",
        ) from error


def _head(order: Order) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": order.name,
        "base_dir": str(order.base_dir),
        "base_sha256": order.base_sha256,
        "parent_dir": str(order.parent_dir) if order.parent_dir else None,
        "recipe": asdict(order.recipe),
        "seed": order.seed,
        "threads": order.threads,
    }


def _manifest(form: dict[str, Any]) -> Manifest:
    if form["format"] != FORMAT:
        raise ValueError(f"format {form['format']}, this code reads {FORMAT}")
    return Manifest(
        **form
        | {
            "fact_ids": tuple(form["fact_ids"]),
            "recipe": _recipe(form["recipe"]),
            "scores": TrainingScores(**form["scores"]),
            "created_at": datetime.fromisoformat(form["created_at"]),
        }
    )


def _recipe(form: dict[str, Any]) -> Recipe:
    method = Method(form.get("method", Method.ROWS))  # older orders name none
    return Recipe(**form | {"method": method, "layers": tuple(form["layers"])})


def _pair(form: dict[str, Any]) -> Pair:
    ids = ("prompt_ids", "chosen_ids", "rejected_ids", "old_ids")
    return Pair(**form | {name: tuple(form[name]) for name in ids} | {"form": Form(form["form"])})


def _keep(form: dict[str, Any]) -> KeepPrompt:
    prompt = Prompt(Form(form["prompt"]["form"]), form["prompt"]["text"])
    return KeepPrompt(prompt, tuple(form["ids"]))


def _dumps(form: dict[str, Any]) -> str:
    return json.dumps(form, sort_keys=True)


def _write_lines(path: Path, forms: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(_dumps(form) + "\n" for form in forms), encoding="utf-8")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _refuse(directory: Path, message: str) -> NoReturn:
    raise TuningError(message, subject=str(directory), refused=True)
