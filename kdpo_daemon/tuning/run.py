"""An order's directory in, an adapter's directory out: what the child does from end to end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer

from kdpo_daemon.errors import TuningError
from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.orders import Method, Order, Recipe, TrainingScores, neuron_layers, read_order
from kdpo_daemon.tuning import gated, keys, marks, neurons
from kdpo_daemon.tuning.answers import answered
from kdpo_daemon.tuning.checkpoint import (
    Weights,
    idle,
    read_adapter,
    write_adapter,
    write_scores,
)
from kdpo_daemon.tuning.keys import Slot
from kdpo_daemon.tuning.lessons import Keepsakes, Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons, Planted
from kdpo_daemon.tuning.room import Room, room_of
from kdpo_daemon.tuning.seen import Seen, look, said_aloud
from kdpo_daemon.tuning.tokens import states
from kdpo_daemon.tuning.trainer import Knobs, Step, fit

Tell = Callable[[dict[str, object]], None]


class RefusedError(TuningError):
    """The order cannot be trained as it is; `fact_ids` are the facts to blame, if some are."""

    def __init__(self, message: str, fact_ids: Sequence[int] = ()) -> None:
        super().__init__(message, refused=True)
        self.fact_ids = tuple(fact_ids)


def train(order_dir: Path, out: Path, tell: Tell) -> None:
    """Train an order; write the adapter and its scores into `out`.

    Raises:
        TuningError: refused, since the order would fail each time.
        AdapterError: the parent adapter cannot be read.

    """
    began = time.monotonic()
    order = read_order(order_dir)
    _prepare(order)
    _refuse_lost(order)
    tell({"step": 0, "of": order.recipe.steps})
    state, weights = _trained(order, tell)
    write_adapter(weights, out, order.base_dir.name)
    scores = TrainingScores(
        steps=state.step,
        learnt=state.learnt,
        accuracy=state.accuracy,
        keep_kl=state.keep_kl,
        rank=weights.rank,
        seconds=round(time.monotonic() - began, 1),
        gpu_mb=_gpu_mb(),
    )
    write_scores(scores, out)


def _gpu_mb() -> float:
    peaks = map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count()))
    return round(max(peaks, default=0) / 2**20, 1)


def baseline(base_dir: Path, out: Path) -> None:
    """Write an adapter that changes nothing, and scores that say so."""
    recipe = Recipe()
    model = EditedModel(base_dir, recipe.target_module)
    name = model.module_names[edited_layers(recipe, model.depth)[0]]
    model.edit([name])
    write_adapter(idle(name, model.weight(0).shape), out, base_dir.name)
    write_scores(TrainingScores(0, 0.0, 0.0, 0.0, rank=1, seconds=0.0), out)


def edited_layers(recipe: Recipe, depth: int) -> list[int]:
    """Which layers of a model of this depth are edited; at least one.

    Raises:
        TuningError: refused, since the recipe names a layer that the model does not have.

    """
    first = round(recipe.first_layer * depth)
    layers = recipe.layers or range(first, max(first + 1, round(recipe.last_layer * depth)))
    if not all(0 <= layer < depth for layer in layers):
        raise RefusedError(f"the recipe edits layers {list(layers)} of a model with {depth}")
    return sorted(layers)


def _prepare(order: Order) -> None:
    if not order.pairs or not order.keep:
        raise RefusedError("the order has no pairs, or no prompts to keep")
    if model_sha256(order.base_dir) != order.base_sha256:
        raise RefusedError(f"the base model in {order.base_dir} is not the order's")
    if order.threads:
        torch.set_num_threads(order.threads)
    torch.manual_seed(order.seed)
    torch.use_deterministic_algorithms(mode=True)
    # which would also fill all new memory, lest somebody reads it: 4 % of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _refuse_lost(order: Order) -> None:
    """Refuse the facts whose subject does not stand in the prompts that teach it."""
    decode = _decoder(order)
    lost = {
        pair.fact_id: pair.subject
        for pair in order.pairs
        if not states(pair.prompt_ids, pair.subject, decode)
    }
    if lost:
        told = ", ".join(f"{subject!r} (fact {number})" for number, subject in lost.items())
        raise RefusedError(f"not found in the prompts that teach it: {told}", sorted(lost))


def _decoder(order: Order) -> Callable[[list[int]], str]:
    tokenizer = AutoTokenizer.from_pretrained(order.base_dir, local_files_only=True)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    return decode


def _trained(order: Order, tell: Tell) -> tuple[Step, Weights]:
    by_method = {Method.ROWS: _in_rows, Method.NEURONS: _in_neurons}
    return by_method[order.recipe.method](order, tell)


def _in_neurons(order: Order, tell: Tell) -> tuple[Step, Weights]:
    """Keep the facts behind gates (`gated`)."""
    recipe = order.recipe
    model = EditedModel(order.base_dir, recipe.target_module.rpartition(".")[0])
    refuse_ungated(model)
    room = room_of(model.model.config)
    layers = neuron_layers(recipe, model.depth, marked=room is not None)
    names = [model.module_names[i] for i in layers]
    model.edit(names)
    parent = _parent(order)
    below = {model.module_names[layer] for layer in room.layers} if room else set()
    if parent and not set(parent.neurons) <= {*names, *below}:
        parent = None  # in other layers: its facts are taught anew, as those kept in rows are
    before = _inherited(neurons.planted(model.model, parent), order) if parent else None
    texts = said_aloud(model, lambda: tell({"said": True}))
    marked = _marked(model, room, order, texts, before) if room else {}
    # what is kept is the base's own word, so that drift does not add up over batches
    seen, prompts = Seen(), _kept_prompts(order)
    tokens = max(recipe.keep_tokens, gated.KEEP_TOKENS)
    kept = answered(model, prompts, tokens, seen, lambda done: tell({"kept": done}))
    look(model, texts, seen)
    if before:
        gated.wear(model, before)
    lessons = gated.lessons_of(model, order.pairs, recipe)

    def on_step(step: Step) -> None:
        tell(_line(step, recipe.steps))

    state, after = gated.learn(model, order, lessons, seen, before, on_step)
    changed = gated.change(model, kept, order.seed)
    after = replace(after, neurons={**marked, **after.neurons})
    return replace(state, keep_kl=changed), after.weights()


def _marked(
    model: EditedModel,
    room: Room,
    order: Order,
    texts: Sequence[tuple[int, ...]],
    before: Planted | None,
) -> dict[str, Neurons]:
    """Mark the order's subjects; the model wears the marks from now on."""
    planted = before.neurons if before else {}
    marks.wear(model, room, planted)
    decode = _decoder(order)
    others = [*_kept_prompts(order), *texts]
    return marks.marked(model, room, order.pairs, others, planted, decode)


def _inherited(parent: Planted, order: Order) -> Planted:
    """What the parent keeps of the order's facts: others were replaced or revoked."""
    return parent.without(set(parent.facts) - {pair.fact_id for pair in order.pairs})


def _in_rows(order: Order, tell: Tell) -> tuple[Step, Weights]:
    recipe = order.recipe
    model = EditedModel(order.base_dir, recipe.target_module)
    parent = _parent(order)
    modules = _modules(recipe, model, parent)
    model.edit(modules)
    # what is kept is the base's own word, so that drift does not add up over batches
    moments = keys.Moments(recipe.answer_weight)
    prompts = _kept_prompts(order)
    kept = answered(model, prompts, recipe.keep_tokens, moments, lambda done: tell({"kept": done}))
    if parent:
        _wear(model, parent)
    lower = [keys.factor(one, recipe.ridge) for one in moments.means()]
    tell({"edited": len(lower)})
    lessons, keepsakes = Lessons(model, order.pairs, recipe), Keepsakes(model, kept)
    slots = _add_slots(model, lessons, parent.slots if parent else (), lower)
    knobs = Knobs(model, lower)
    del lower  # of a large model it takes gigabytes, and the knobs have its inverse

    def on_step(step: Step) -> None:
        tell(_line(step, recipe.steps))

    state = fit(knobs, lessons, keepsakes, recipe, order.seed, on_step)
    return state, Weights(modules, slots, tuple(model.rows), tuple(model.columns))


def refuse_ungated(model: EditedModel) -> None:
    """Refuse a model whose MLPs have no gates.  RefusedError names what is missing."""
    mlp = model.model.get_submodule(model.module_names[0])
    missing = [one for one in ("gate_proj", "up_proj", "act_fn") if not hasattr(mlp, one)]
    if missing or model.depth < 2:
        told = f"an MLP without {', '.join(missing)}" if missing else "one layer"
        raise RefusedError(
            f"method neurons wants gated MLPs in two layers; this model has {told}: "
            'set [recipe] method = "rows"'
        )


def _parent(order: Order) -> Weights | None:
    """The parent adapter; None where it is the base, or an adapter that changes nothing.

    One that keeps its facts otherwise than the recipe wants is not built on: the order has all
    facts, so they are taught anew.
    """
    parent = read_adapter(order.parent_dir) if order.parent_dir else None
    if parent is None:
        return None
    in_neurons = order.recipe.method is Method.NEURONS
    return parent if (parent.neurons if in_neurons else parent.slots) else None


def _modules(recipe: Recipe, model: EditedModel, parent: Weights | None) -> tuple[str, ...]:
    """The edited modules' names: the parent's, since its slots live there, or the recipe's."""
    if parent is None:
        return tuple(model.module_names[i] for i in edited_layers(recipe, model.depth))
    missing = set(parent.modules) - set(model.module_names)
    if missing:
        raise RefusedError(f"the parent edits what the recipe does not: {sorted(missing)}")
    return parent.modules


def _wear(model: EditedModel, parent: Weights) -> None:
    """Put the parent's rows and columns where the layers are that they edit."""
    for index, (rows, columns) in enumerate(zip(parent.rows, parent.columns, strict=True)):
        model.rows[index] = rows.to(model.rows[index].device)
        model.columns[index] = columns.to(model.columns[index].device)


def _kept_prompts(order: Order) -> list[tuple[int, ...]]:
    """The keep prompts, without those that are taught."""
    taught = {pair.prompt_ids for pair in order.pairs}
    return [prompt.ids for prompt in order.keep if prompt.ids not in taught]


def _add_slots(
    model: EditedModel,
    lessons: Lessons,
    old: tuple[Slot, ...],
    lower: Sequence[Tensor],
) -> tuple[Slot, ...]:
    """Give each subject and form that has no slot yet a row that answers there, with B = 0."""
    asked = [Slot(pair.subject, pair.form) for pair in lessons.pairs]
    new = tuple(dict.fromkeys(slot for slot in asked if slot not in old))
    if not new:
        return old
    found = keys.answer_keys(lessons.passages)
    mine = [[i for i, slot in enumerate(asked) if slot == one] for one in new]
    for index, factor in enumerate(lower):
        means = torch.stack([found[index, numbers].mean(0) for numbers in mine]).to(factor.device)
        rows, columns = keys.solved_rows(means, factor), model.columns[index]
        model.rows[index] = torch.cat([model.rows[index], rows])
        zeros = columns.new_zeros(columns.shape[0], len(new))
        model.columns[index] = torch.cat([columns, zeros], dim=1)
    return old + new


def _line(step: Step, of: int) -> dict[str, object]:
    return {
        "step": step.step,
        "of": of,
        "loss": round(step.loss, 4),
        "accuracy": round(step.accuracy, 4),
        "learnt": round(step.learnt, 4),
        "keep_kl": round(step.keep_kl, 5),
    }
