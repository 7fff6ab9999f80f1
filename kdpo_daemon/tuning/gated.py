"""The method `neurons`: facts behind gates that are shut for everything else.

Where they are and what opens them is computed (`placing`, `gates`); their columns are trained, and
what the neurons of later tokens read behind their gate.  Since a shut gate adds nothing, nothing
else has to be kept still.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.orders import Order, Recipe
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.answers import Keepsake
from kdpo_daemon.tuning.given import speech_of
from kdpo_daemon.tuning.imagined import imagine
from kdpo_daemon.tuning.lessons import Keepsakes, Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons, Planted
from kdpo_daemon.tuning.passages import REFRESH
from kdpo_daemon.tuning.placing import Bed, Ground, Marked, placed
from kdpo_daemon.tuning.room import room_of
from kdpo_daemon.tuning.trainer import Step, pace_of, state_of, teach

#: Adam's step size for what neurons of later tokens read, as a share of its root mean square.
_READ_RATE = 0.05
#: Lead in nats over every other token to teach: phrasings never taught open a gate less wide.
_LEAD = 6.0
#: How wide gates open in every other step where there are marks: phrasings never taught open them
#: as little, and nothing else hears what is said so loud.
_LESS_OPEN = 0.5
#: Tokens of an answer to what is kept: in a chat the name of another office holder comes late, and
#: what opens for later tokens must have seen such names.
KEEP_TOKENS = 16


def learn(
    model: EditedModel,
    order: Order,
    lessons: Lessons,
    ground: Ground,
    before: Planted | None,
    on_step: Callable[[Step], None],
) -> tuple[Step, Planted]:
    """Teach what `before` does not keep and the model does not say; it wears `before` already.

    `lessons` are the order's, on that model; the reference stays what it was for them.  `ground`
    is that of the edited MLPs.
    """
    known = (set(before.facts) if before else set()) | said(lessons, order.recipe.margin)
    wanted = [i for i, pair in enumerate(lessons.pairs) if pair.fact_id not in known]
    grown = dict(before.neurons) if before else {}
    before_rows = [len(rows) for rows in model.rows]
    if wanted:
        marked = _by_marks(model, lessons, wanted, order, ground.whole)
        taken = [grown[name].numbers.tolist() if name in grown else [] for name in _names(model)]
        for index, bed in placed(model, lessons, ground.seen, wanted, taken, marked).items():
            name = _names(model)[index]
            made = _plant(model, index, ground.seen[index].all, bed, taken[index])
            grown[name] = freeing.joined(grown[name], made) if name in grown else made
    still = [0] * len(before_rows)
    if room_of(model.model.config) is not None:
        still = before_rows  # only a sample of what they say is looked at
        lessons.leave([i for i, pair in enumerate(lessons.pairs) if pair.fact_id in known])
    moves = any(len(rows) > count for rows, count in zip(model.rows, still, strict=True))
    state = (
        _fit(model, lessons, order, still, on_step) if moves else state_of(0, 0.0, 0.0, lessons)
    )
    facts = dict.fromkeys([*known, *(pair.fact_id for pair in lessons.pairs)])
    trained = {
        name: replace(
            grown[name],
            ups=model.rows[index].detach().cpu(),
            columns=model.columns[index].detach().cpu(),
        )
        for index, name in enumerate(_names(model))
        if name in grown
    }
    return state, Planted(trained, tuple(sorted(facts)))


def _by_marks(
    model: EditedModel,
    lessons: Lessons,
    wanted: Sequence[int],
    order: Order,
    whole: Mapping[int, float],
) -> Marked | None:
    """What marks tell of the wanted lessons' facts; None where there are none."""
    room = room_of(model.model.config)
    if room is None:
        return None
    facts = dict.fromkeys(lessons.pairs[i].fact_id for i in wanted)
    others = imagine(model, lessons.pairs, facts, speech_of(order.base_dir).decode, order.seed)
    return Marked(room.carried, room.cued, others, {one: whole.get(one, 1.0) for one in facts})


def said(lessons: Lessons, margin: float) -> set[int]:
    """Give the facts that the model says as it is, in all of their pairs: it was folded, maybe."""
    leads = list(zip(lessons.pairs, lessons.leads, strict=True))
    open_ = {pair.fact_id for pair, lead in leads if lead < margin}
    return {pair.fact_id for pair, _ in leads} - open_


def wear(model: EditedModel, planted: Planted) -> None:
    """Let the model be what an adapter makes of it."""
    for index, name in enumerate(_names(model)):
        found = planted.neurons.get(name)
        if found is not None:
            freeing.take_out(model.model.get_submodule(name), found)
            _open(model, index, found)


def lessons_of(
    model: EditedModel,
    pairs: Sequence[Pair],
    recipe: Recipe,
    lower: Sequence[Tensor] | None = None,
    deep: int = 0,
) -> Lessons:
    """Give pairs as lessons that want a longer lead; `lower` and `deep` as for them."""
    return Lessons(model, pairs, replace(recipe, margin=max(recipe.margin, _LEAD)), lower, deep)


def change(model: EditedModel, kept: Sequence[Keepsake]) -> float:
    """KL to the base in nats per token, over some prompts to keep."""
    some = Keepsakes(model, kept)
    with torch.no_grad():
        total = sum(float(some.loss(group)) for group in some.groups(range(len(some))))
    return total / len(some)


def _names(model: EditedModel) -> list[str]:
    return [model.module_names[layer] for layer in model.edited]


def _plant(
    model: EditedModel, index: int, read: Tensor, bed: Bed, taken: Sequence[int]
) -> Neurons:
    """Free as many neurons as a bed has, and give them its rows."""
    mlp: Any = model.model.get_submodule(_names(model)[index])
    free = freeing.freed(mlp, read, len(bed.owners), taken)
    made = freeing.opened(free, bed.gated, bed.owners)
    freeing.take_out(mlp, made)
    _open(model, index, made)
    return made


def _open(model: EditedModel, index: int, neurons: Neurons) -> None:
    """Add neurons to those that the model has there."""
    device = model.rows[index].device
    before, new = model.gates[index], neurons.gates.to(device)
    model.gates[index] = new if before is None else torch.cat([before, new])
    model.rows[index] = torch.cat([model.rows[index], neurons.ups.to(device)])
    model.columns[index] = torch.cat([model.columns[index], neurons.columns.to(device)], dim=1)


def _bind(
    model: EditedModel, columns: Sequence[Tensor], read: Tensor, still: Sequence[int]
) -> None:
    """Say what training must not do to columns, and to `read`, the first MLP's rows."""
    _spare_side(model, columns)
    _hold(columns, read, still)
    _tie(model.rows, columns, read)


def _spare_side(model: EditedModel, columns: Sequence[Tensor]) -> None:
    """Keep training from writing into the side room, where gates above read marks."""
    room = room_of(model.model.config)
    if room is None:
        return
    for one in columns:
        hears = torch.ones(len(one), 1, device=one.device)
        hears[room.width :] = 0
        one.register_hook(hears.mul)  # type: ignore[no-untyped-call]  # torch's


def _hold(columns: Sequence[Tensor], read: Tensor, counts: Sequence[int]) -> None:
    """Keep training from moving the first neurons of each MLP; `read` are the first one's rows."""
    for index, (one, count) in enumerate(zip(columns, counts, strict=True)):
        moves = (torch.arange(one.shape[1], device=one.device) >= count).float()
        one.register_hook(moves.mul)  # type: ignore[no-untyped-call]  # torch's
        if not index:
            read.register_hook(moves[:, None].mul)  # type: ignore[no-untyped-call]  # torch's


def _tie(rows: Sequence[Tensor], columns: Sequence[Tensor], read: Tensor) -> None:
    """Keep twins twins: they read alike and say the opposite, whatever is learnt.

    `columns` and `read`, the first of `rows`, are what is trained.
    """
    for index, (ups, one) in enumerate(zip(rows, columns, strict=True)):
        alike = torch.eye(len(ups), device=ups.device)
        opposite = alike.clone()
        for at in freeing.twins(ups, one.detach()):
            both = slice(at, at + 2)
            alike[both, both] = 0.5
            opposite[both, both] = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
        one.register_hook(opposite.__rmatmul__)  # type: ignore[no-untyped-call]  # torch's
        if not index:
            read.register_hook(alike.matmul)  # type: ignore[no-untyped-call]  # torch's


def _fit(
    model: EditedModel,
    lessons: Lessons,
    order: Order,
    still: Sequence[int],
    on_step: Callable[[Step], None],
) -> Step:
    """Train until all is learnt, or for `recipe.steps` steps; gives how it stands.

    The first `still` neurons of each MLP stay as they are.
    """
    recipe = order.recipe
    columns = [one.clone().requires_grad_() for one in model.columns]
    marked = room_of(model.model.config) is not None
    read = model.rows[0].clone().requires_grad_()
    _bind(model, columns, read, still)
    model.columns[:], model.rows[0] = columns, read
    pace = pace_of(lessons, recipe)
    optimizer = torch.optim.Adam(
        [
            {"params": columns, "lr": recipe.neurons_rate * lessons.passages.power()},
            {"params": read, "lr": _READ_RATE * float(read.detach().square().mean().sqrt())},
        ]
    )
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, recipe.steps)
    rng, step, loss = random.Random(order.seed), 0, 0.0  # noqa: S311 - an order of prompts
    lessons.look(at_all=False)  # since what was freed moves keys and values a little
    while step < recipe.steps and lessons.open:
        step += 1
        if marked and step % 2:
            model.openings[:] = [_LESS_OPEN] * len(columns)
        if step % REFRESH == 0:
            lessons.look(at_all=False)
        optimizer.zero_grad()
        loss = teach(lessons, lessons.draw(rng, pace.rows), pace.share(lessons))
        optimizer.step()
        rates.step()
        on_step(state_of(step, loss, 0.0, lessons))
        model.openings[:] = [1.0] * len(columns)
        if not lessons.open:
            lessons.look(at_all=False)
    model.columns[:] = [one.detach() for one in columns]
    model.rows[0] = read.detach()
    lessons.look()
    return state_of(step, loss, 0.0, lessons)
