"""The method `neurons` from an order to weights: hear what must stay, mark, teach.

Where subjects have marks, what names none of them leaves every gate shut, and so a sample of it is
enough to look at; and of what was taught before, too, since that does not move and other batches'
marks shut the new gates.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kdpo_daemon.orders import Order, neuron_layers
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import gated, marks, neurons
from kdpo_daemon.tuning.answers import Keepsake, heard
from kdpo_daemon.tuning.checkpoint import Weights
from kdpo_daemon.tuning.given import (
    Decode,
    RefusedError,
    Tell,
    kept_prompts,
    parent_of,
    speech_of,
)
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons, Planted
from kdpo_daemon.tuning.room import Room, room_of
from kdpo_daemon.tuning.said import Said
from kdpo_daemon.tuning.seen import Around, Ids, Seen, look
from kdpo_daemon.tuning.trainer import Step

T = TypeVar("T")

#: Answered prompts and texts looked at of those that name no subject that is taught, with marks.
_FAR, _FAR_TEXTS = 160, 96
#: Pairs looked at of facts that are kept already, with marks.
_AGAIN = 96
#: Prompts to keep on which the change is measured at the end.
_MEASURED = 32


def trained(order: Order, said_dir: Path, tell: Tell) -> tuple[Step, Weights]:
    """Keep an order's facts behind gates (`gated`)."""
    recipe = order.recipe
    model = EditedModel(order.base_dir, recipe.target_module.rpartition(".")[0])
    refuse_ungated(model)
    room = room_of(model.model.config)
    layers = neuron_layers(recipe, model.depth, marked=room is not None)
    model.edit([model.module_names[layer] for layer in layers])
    before = _before(model, room, order)
    taught = _taught(model, room, order, before)
    if before and room:  # a subject's facts are told together: they share a code with one batch
        again = {pair.fact_id for pair in order.pairs if pair.subject in taught}
        before = before.without(again)
    around = _around(model, order, said_dir, tell)
    kept = _measured(model, around, order.seed)
    pairs: Sequence[Pair] = order.pairs
    marked: dict[str, Neurons] = {}
    if room:
        pairs, decode = lessons_among(order, before), speech_of(order.base_dir).decode
        around = near_to(around, pairs, decode, order.seed)
        named = marks.Named(pairs, taught, decode)
        marked = _marked(model, room, named, around, before)
    seen = Seen(look(model, around.texts), look(model, around.read()))
    if before:
        gated.wear(model, before)
    lessons = gated.lessons_of(model, pairs, recipe)

    def on_step(step: Step) -> None:
        tell(step.line(recipe.steps))

    state, after = gated.learn(model, order, lessons, seen, before, on_step)
    after = replace(after, neurons={**marked, **after.neurons})
    state = replace(state, keep_kl=gated.change(model, kept))
    return state, neurons.written(after, model.model, model.module_names[model.edited[0]])


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


def _before(model: EditedModel, room: Room | None, order: Order) -> Planted | None:
    """What the parent keeps of the order's facts: others were replaced or revoked."""
    parent = parent_of(order)
    known = [*model.edited, *(room.layers if room else ())]
    if parent is None or not set(parent.neurons) <= {model.module_names[one] for one in known}:
        return None  # none, or in other layers: its facts are taught anew, as those in rows are
    planted = neurons.planted(model.model, parent)
    return planted.without(set(planted.facts) - {pair.fact_id for pair in order.pairs})


def _taught(
    model: EditedModel, room: Room | None, order: Order, before: Planted | None
) -> set[str]:
    """Give the subjects of what neither the parent keeps nor the base says, if it was folded."""
    known = set(before.facts) if before else set()
    new = [pair for pair in order.pairs if pair.fact_id not in known]
    if new and room and marks.marks_itself(model, room):
        lessons = gated.lessons_of(model, new, order.recipe)
        known |= gated.said(lessons, order.recipe.margin)
    return {pair.subject for pair in new if pair.fact_id not in known}


def _around(model: EditedModel, order: Order, said_dir: Path, tell: Tell) -> Around:
    """Hear what the base says, so that drift does not add up over batches."""
    tokens = max(order.recipe.keep_tokens, gated.KEEP_TOKENS)
    said, prompts = Said(said_dir, order.base_sha256, tokens), kept_prompts(order)
    texts = said.texts(model, lambda: tell({"said": True}))
    answers = said.answers(model, prompts, lambda done: tell({"kept": done}))
    return Around(texts, list(zip(prompts, answers, strict=True)))


def _measured(model: EditedModel, around: Around, seed: int) -> list[Keepsake]:
    return heard(model, _sample(around.answers, _MEASURED, seed))


def lessons_among(order: Order, before: Planted | None) -> list[Pair]:
    """Give the pairs to teach, with those about the same subjects, and some that are kept."""
    known = set(before.facts) if before else set()
    about = {pair.subject for pair in order.pairs if pair.fact_id not in known}
    again = [pair for pair in order.pairs if pair.subject not in about]
    chosen = set(_sample(range(len(again)), _AGAIN, order.seed))
    kept = [pair for number, pair in enumerate(again) if number in chosen]
    return [*(pair for pair in order.pairs if pair.subject in about), *kept]


def near_to(around: Around, pairs: Sequence[Pair], decode: Decode, seed: int) -> Around:
    """Give what names a subject of pairs, and a sample of what does not."""
    subjects = {pair.subject for pair in pairs}

    def near(text: Ids) -> bool:
        whole = decode(list(text))
        return any(one in whole for one in subjects)

    texts: dict[bool, list[Ids]] = {True: [], False: []}
    answers: dict[bool, list[tuple[Ids, Ids]]] = {True: [], False: []}
    for text in around.texts:
        texts[near(text)].append(text)
    for asked, said in around.answers:
        answers[near(asked + said)].append((asked, said))
    return Around(
        texts[True] + _sample(texts[False], _FAR_TEXTS, seed),
        answers[True] + _sample(answers[False], _FAR, seed),
    )


def _marked(
    model: EditedModel,
    room: Room,
    named: marks.Named,
    around: Around,
    before: Planted | None,
) -> dict[str, Neurons]:
    """Mark the taught subjects; the model wears the marks from now on."""
    planted = before.neurons if before else {}
    marks.wear(model, room, planted)
    return marks.marked(model, room, named, around, planted)


def _sample(many: Sequence[T], count: int, seed: int) -> list[T]:
    rng = random.Random(seed)  # noqa: S311 - a sample of what is looked at, not a secret
    return rng.sample(many, min(len(many), count))
