"""The method `neurons` from an order to weights: hear what must stay, mark, teach.

Where subjects have marks, an answer that names none of them leaves every gate shut, and so a
sample of those is enough to look at; and of what was taught before, too, since that does not move,
and other subjects' marks and other batches' cues shut the new gates.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from kdpo_daemon.edits.placement import cueing_below
from kdpo_daemon.orders import Order, neuron_layers
from kdpo_daemon.records.teaching import Form, Pair, Prompt
from kdpo_daemon.tuning import cues, gated, marks, neurons
from kdpo_daemon.tuning.answers import Keepsake, heard
from kdpo_daemon.tuning.checkpoint import Weights
from kdpo_daemon.tuning.deep import pairs_after_text
from kdpo_daemon.tuning.given import (
    Decode,
    RefusedError,
    Tell,
    kept_prompts,
    parent_of,
    speech_of,
)
from kdpo_daemon.tuning.imagined import ends, moves, reworded
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons, Planted
from kdpo_daemon.tuning.placing import Ground
from kdpo_daemon.tuning.readings import Named
from kdpo_daemon.tuning.room import Room, room_of
from kdpo_daemon.tuning.said import Said
from kdpo_daemon.tuning.seen import (
    Around,
    Ids,
    Seen,
    Texts,
    along,
    look,
    look_again,
    read_to,
)
from kdpo_daemon.tuning.tokens import sequence_of
from kdpo_daemon.tuning.trainer import Step

T = TypeVar("T")

#: Answered prompts looked at of those that name no subject that is taught, with marks.
_FAR = 160
#: Pairs looked at of facts that are kept already, with marks.
_AGAIN = 96
#: Prompts to keep on which the change is measured at the end.
_MEASURED = 32


@dataclass(frozen=True)
class _Batch:
    """What is taught, and what there is."""

    order: Order
    before: Planted | None  #: what the parent keeps, less what is taught anew
    wanted: Sequence[int]  #: the facts that are taught
    tell: Tell


@dataclass(frozen=True)
class _Signed:
    """What facts are taught on."""

    neurons: dict[str, Neurons]  #: of marks and cues, by the MLP's name
    ground: Ground  #: of the edited MLPs
    pairs: Sequence[Pair]  #: to teach, with some that are kept; then those after other text
    lower: Sequence[Tensor] | None  #: their states below the first edited layer, if known
    deep: int = 0  #: how many are after other text: gates are told from them, no step draws them


def trained(order: Order, said_dir: Path, tell: Tell) -> tuple[Step, Weights]:
    """Keep an order's facts behind gates (`gated`)."""
    recipe = order.recipe
    model = EditedModel(order.base_dir, recipe.target_module.rpartition(".")[0])
    refuse_ungated(model)
    room = room_of(model.model.config)
    layers = neuron_layers(recipe, model.depth, marked=room is not None)
    signing = signing_in(room, layers[0]) if room else ()
    model.edit([model.module_names[layer] for layer in layers])
    before = _before(model, [*signing, *layers], order)
    wanted = _wanted(model, room, order, before)
    if before and room:  # a subject's facts are told together: they share its mark
        before = before.without(wanted)
    around = _around(model, [*signing, *layers], order, said_dir, tell)
    kept = _measured(model, around, order.seed)
    if room:
        signed = _signed(model, room, _Batch(order, before, wanted, tell), around)
    else:
        seen = _seen(model, layers, around, Texts(around.read()), ())
        signed = _Signed({}, Ground(seen), order.pairs, None)
    if before:
        gated.wear(model, before)
    lessons = gated.lessons_of(model, signed.pairs, recipe, signed.lower, signed.deep)
    tell({"read": "pairs"})

    def on_step(step: Step) -> None:
        tell(step.line(recipe.steps))

    state, after = gated.learn(model, order, lessons, signed.ground, before, on_step)
    after = replace(after, neurons={**signed.neurons, **after.neurons})
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


def signing_in(room: Room, later: int) -> list[int]:
    """Give the layers that mark, and that cue what layer `later` says.

    RefusedError if the model has none, or no room for it.
    """
    cueing = cueing_below(later, room.carrier)
    if not cueing:
        raise RefusedError(
            f"later tokens are said in layer {later}, and marks are handed on in layer"
            f" {room.carrier}: none between them can cue; raise [recipe] laters_at"
        )
    if room.cued.stop > room.width + room.side:
        raise RefusedError("this model was widened without room for cues: widen it again")
    return [*room.layers, *cueing]


def _before(model: EditedModel, known: Sequence[int], order: Order) -> Planted | None:
    """What the parent keeps of the order's facts: others were replaced or revoked."""
    parent = parent_of(order)
    if parent is None or not set(parent.neurons) <= {model.module_names[one] for one in known}:
        return None  # none, or in other layers: its facts are taught anew, as those in rows are
    planted = neurons.planted(model.model, parent)
    return planted.without(set(planted.facts) - {pair.fact_id for pair in order.pairs})


def _wanted(
    model: EditedModel, room: Room | None, order: Order, before: Planted | None
) -> list[int]:
    """Give the facts that neither the parent keeps nor the base says, if it was folded.

    With them go the other facts of their subjects.
    """
    known = set(before.facts) if before else set()
    new = {pair.subject for pair in order.pairs if pair.fact_id not in known}
    about = [pair for pair in order.pairs if pair.subject in new]
    said: set[int] = set()
    if about and room and marks.marks_itself(model, room):
        said = gated.said(gated.lessons_of(model, about, order.recipe), order.recipe.margin)
    left = [pair for pair in about if pair.fact_id not in said]
    taught = {pair.subject for pair in left if pair.fact_id not in known}
    return list(dict.fromkeys(pair.fact_id for pair in left if pair.subject in taught))


def _around(
    model: EditedModel, layers: Sequence[int], order: Order, said_dir: Path, tell: Tell
) -> Around:
    """Hear what the base says, so that drift does not add up; the model wears nothing yet."""
    tokens = max(order.recipe.keep_tokens, gated.KEEP_TOKENS)
    said, prompts = Said(said_dir, order.base_sha256, tokens), kept_prompts(order)
    texts = said.texts(model, lambda: tell({"said": True}))
    answers = said.answers(model, prompts, lambda done: tell({"kept": done}))
    read = said.read("texts", layers, texts, partial(along, model))
    words = reworded(speech_of(order.base_dir).ask)
    asked = said.read("words", layers, words.asked, partial(ends, model))
    moved = {layer: moves(read, words.counts) for layer, read in asked.items()}
    tell({"read": "texts"})
    return Around(texts, list(zip(prompts, answers, strict=True)), read, moved)


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


def near_to(around: Around, subjects: Collection[str], decode: Decode, seed: int) -> Around:
    """Give all texts, and the answers that name one of the subjects, with a sample of the others.

    A mark that opens anywhere else opens gates above, and a cue does in all text that follows.
    """

    def near(text: Ids) -> bool:
        whole = decode(list(text))
        return any(one in whole for one in subjects)

    answers: dict[bool, list[tuple[Ids, Ids]]] = {True: [], False: []}
    for asked, said in around.answers:
        answers[near(asked + said)].append((asked, said))
    return replace(around, answers=answers[True] + _sample(answers[False], _FAR, seed))


def _signed(model: EditedModel, room: Room, batch: _Batch, around: Around) -> _Signed:
    """Mark the taught subjects and cue their objects, which the model does from now on."""
    order, speech = batch.order, speech_of(batch.order.base_dir)
    planted = batch.before.neurons if batch.before else {}
    cueing = cueing_below(model.edited[0], room.carrier)
    marks.wear(model, [*room.layers, *cueing], planted)
    pairs = lessons_among(order, batch.before)
    subjects = {pair.subject for pair in pairs if pair.fact_id in batch.wanted}
    near = near_to(around, subjects, speech.decode, order.seed)
    begins = speech.ask(Prompt(Form.COMPLETION, ""))
    mine = [pair for pair in pairs if pair.fact_id in batch.wanted]
    every = [*pairs, *pairs_after_text(mine, near.texts, begins)]
    # nothing moves below what is marked now, nor then below what is cued
    texts = Texts([*map(sequence_of, every), *near.read()])
    asked = read_to(model, room.layers[0], texts)
    batch.tell({"read": "prompts"})
    named = Named(pairs, subjects, speech, asked)
    marked = marks.marked(model, room, named, near, planted)
    whole = {pair.fact_id: marked.whole[pair.subject] for pair in mine}
    batch.tell({"marked": len(subjects)})
    answers, again = asked.part(slice(len(every), None)), marks.open_in(model, room, near)
    seen = _seen(model, [*cueing, *model.edited], near, answers, again)
    batch.tell({"read": "answers"})
    told = read_to(model, cueing[0], asked.part(slice(len(every))))
    below = dict(zip(cueing, seen, strict=False))
    # a cue opens at all of its places, and so would open in any text if some were deep in one
    taught = cues.Taught(pairs, whole, told.part(slice(len(pairs))))
    cued = cues.cued(model, room, taught, below, planted)
    batch.tell({"cued": len(batch.wanted)})
    lower = read_to(model, model.edited[0], told).states
    ground = Ground(seen[len(cueing) :], whole)
    return _Signed({**marked.neurons, **cued}, ground, every, lower, len(every) - len(pairs))


def _seen(
    model: EditedModel,
    layers: Sequence[int],
    around: Around,
    answers: Texts,
    again: Sequence[int],
) -> list[Seen]:
    """Look at what must not change, by layer; of the texts at those that are read otherwise."""
    texts = look_again(model, layers, around, again)
    said, moved = look(model, layers, answers), [around.moves[one] for one in layers]
    return [Seen(*one) for one in zip(texts, said, moved, strict=True)]


def _sample(many: Sequence[T], count: int, seed: int) -> list[T]:
    rng = random.Random(seed)  # noqa: S311 - a sample of what is looked at, not a secret
    return rng.sample(many, min(len(many), count))
