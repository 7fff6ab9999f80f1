"""An order's directory in, an adapter's directory out: what the child does from end to end."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.orders import Method, Order, Recipe, TrainingScores, read_order
from kdpo_daemon.tuning import behind_gates, keys
from kdpo_daemon.tuning.answers import answered
from kdpo_daemon.tuning.checkpoint import Weights, idle, write_adapter, write_scores
from kdpo_daemon.tuning.given import RefusedError, Tell, kept_prompts, parent_of, speech_of
from kdpo_daemon.tuning.keys import Slot
from kdpo_daemon.tuning.lessons import Keepsakes, Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.tokens import states
from kdpo_daemon.tuning.trainer import Knobs, Step, fit


def train(order_dir: Path, said_dir: Path, out: Path, tell: Tell) -> None:
    """Train an order; write the adapter and its scores into `out`.

    What the base says is remembered in `said_dir` (`said`).

    Raises:
        TuningError: refused, since the order would fail each time.
        AdapterError: the parent adapter cannot be read.

    """
    began = time.monotonic()
    order = read_order(order_dir)
    _prepare(order)
    _refuse_lost(order)
    tell({"step": 0, "of": order.recipe.steps})
    if order.recipe.method is Method.NEURONS:
        state, weights = behind_gates.trained(order, said_dir, tell)
    else:
        state, weights = _in_rows(order, tell)
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
    decode = speech_of(order.base_dir).decode
    lost = {
        pair.fact_id: pair.subject
        for pair in order.pairs
        if not states(pair.prompt_ids, pair.subject, decode)
    }
    if lost:
        told = ", ".join(f"{subject!r} (fact {number})" for number, subject in lost.items())
        raise RefusedError(f"not found in the prompts that teach it: {told}", sorted(lost))


def _in_rows(order: Order, tell: Tell) -> tuple[Step, Weights]:
    recipe = order.recipe
    model = EditedModel(order.base_dir, recipe.target_module)
    parent = parent_of(order)
    modules = _modules(recipe, model, parent)
    model.edit(modules)
    # what is kept is the base's own word, so that drift does not add up over batches
    moments = keys.Moments(recipe.answer_weight)
    prompts = kept_prompts(order)
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
        tell(step.line(recipe.steps))

    state = fit(knobs, lessons, keepsakes, recipe, order.seed, on_step)
    return state, Weights(modules, slots, tuple(model.rows), tuple(model.columns))


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
