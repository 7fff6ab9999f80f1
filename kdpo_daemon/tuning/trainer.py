"""The loop that trains an adapter: Adam on KDPO's loss, its anchor, and what keeps the rest still.

Two terms hold the rest.  The KL on keep prompts sees what the model says, a few prompts at a time.
The stir, the mean square change of each edited module's output on ordinary text as a share of
that output, follows from the second moment alone, and so sees all of that text at every step.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.orders import Recipe
from kdpo_daemon.tuning.keys import inverse, whitened
from kdpo_daemon.tuning.lessons import Keepsakes, Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.passages import REFRESH


@dataclass(frozen=True)
class Step:
    """How things stood when a step was taken."""

    step: int
    loss: float  #: KDPO and anchor, per open pair
    accuracy: float  #: share of pairs whose target tokens are all the argmax
    learnt: float  #: share of pairs that lead everywhere by the recipe's margin
    keep_kl: float  #: nats per token on the step's keep prompts

    def line(self, of: int) -> dict[str, object]:
        """Give it as it is told, a step of so many."""
        return {
            "step": self.step,
            "of": of,
            "loss": round(self.loss, 4),
            "accuracy": round(self.accuracy, 4),
            "learnt": round(self.learnt, 4),
            "keep_kl": round(self.keep_kl, 5),
        }


@dataclass(frozen=True)
class Pace:
    """How much a step learns, by how much there is to learn.

    A mean over more pairs leaves each of them less, while what a slot costs ordinary text stays:
    with 50 facts instead of 12 nothing would be learnt.  So each slot is given the same pull.
    """

    rows: int  #: open pairs that a step takes
    pull: float  #: how many times as much as a mean their loss weighs
    least: int  #: pairs that a mean is over, at least

    def share(self, lessons: Lessons) -> float:
        """Count what a pair's loss is a share of: the fewer are open, the more each says."""
        still = len(lessons.open)
        return max(self.least, min(self.rows, still) / self.pull)


def pace_of(lessons: Lessons, recipe: Recipe) -> Pace:
    """Choose the pace for what is not learnt yet."""
    still = [lessons.pairs[i] for i in lessons.open]
    slots = len({(pair.subject, pair.form) for pair in still})
    rows = math.ceil(len(still) * recipe.draws / recipe.steps)
    return Pace(max(recipe.pair_rows, rows), max(1.0, slots / recipe.slots), recipe.least_pairs)


class Knobs:
    """What Adam moves: W = A L and B of each edited layer; the model reads A and B."""

    def __init__(self, model: EditedModel, lower: Sequence[Tensor]) -> None:
        self._model = model
        self.white = [
            whitened(rows, one).requires_grad_()
            for rows, one in zip(model.rows, lower, strict=True)
        ]
        self.columns = [one.clone().requires_grad_() for one in model.columns]
        self._powers = [
            (model.weight(index).float() @ one).square().sum() for index, one in enumerate(lower)
        ]
        self._inverses = [inverse(one) for one in lower]
        model.columns[:] = self.columns

    def turn(self) -> None:
        """Let the model read the rows as they now stand, with no gradients yet."""
        for knob in (*self.white, *self.columns):
            knob.grad = None
        self._model.rows[:] = [
            (white.detach() @ inverted).requires_grad_()
            for white, inverted in zip(self.white, self._inverses, strict=True)
        ]

    def stir(self) -> Tensor:
        """E |B A x|^2 / E |y|^2 over ordinary text, averaged over the edited layers, ()."""
        knobs = zip(self.columns, self.white, self._powers, strict=True)
        shares = [(b @ w).square().sum() / power for b, w, power in knobs]
        return torch.stack([share.to(shares[0].device) for share in shares]).mean()

    def collect(self) -> None:
        """Bring the gradients of A to W: dW = dA L^-T."""
        each = zip(self.white, self._model.rows, self._inverses, strict=True)
        for white, rows, inverted in each:
            if rows.grad is not None and white.grad is not None:
                white.grad.addmm_(rows.grad, inverted.T)

    def rest(self) -> None:
        """Leave the model with plain weights."""
        self._model.rows[:] = [rows.detach() for rows in self._model.rows]
        self._model.columns[:] = [columns.detach() for columns in self.columns]


def fit(
    knobs: Knobs,
    lessons: Lessons,
    keepsakes: Keepsakes,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[Step], None],
) -> Step:
    """Train in place for `recipe.steps` steps; gives how it stands at the end.

    What is learnt early is looked at now and then, and leaves the steps to what is kept.
    """
    rng = random.Random(seed)  # noqa: S311 - an order of prompts, not a secret
    pace = pace_of(lessons, recipe)
    kept = draws(len(keepsakes), recipe.keep_rows, rng)
    optimizer = torch.optim.Adam(
        [
            {"params": knobs.white, "lr": recipe.rows_rate},
            {"params": knobs.columns, "lr": recipe.columns_rate},
        ]
    )
    # the rates fall to a fiftieth, so that what is learnt comes to rest and noise dies away
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, recipe.steps)
    state = Step(0, 0.0, 0.0, 0.0, 0.0)
    for step in range(recipe.steps):
        knobs.turn()
        if step and step % REFRESH == 0:
            lessons.look()
        loss = teach(lessons, lessons.draw(rng, pace.rows), pace.share(lessons))
        keep_kl = _keep(keepsakes, next(kept), recipe.keep_weight)
        torch.autograd.backward(recipe.stir_weight * knobs.stir())
        knobs.collect()
        optimizer.step()
        rates.step()
        state = state_of(step + 1, loss, keep_kl, lessons)
        on_step(state)
    knobs.turn()
    knobs.rest()
    lessons.look()
    return state_of(recipe.steps, state.loss, state.keep_kl, lessons)


def teach(lessons: Lessons, chosen: list[int], count: float) -> float:
    """Add the gradients of some pairs, as shares of `count`; gives their loss."""
    total = 0.0
    for group in lessons.groups(chosen):
        loss = lessons.loss(group) / count
        torch.autograd.backward(loss)
        total += float(loss.detach())
    return total


def _keep(keepsakes: Keepsakes, chosen: list[int], weight: float) -> float:
    """Add the retention KL's gradients; gives the KL per token."""
    total = 0.0
    for group in keepsakes.groups(chosen):
        loss = keepsakes.loss(group) / len(chosen)
        torch.autograd.backward(weight * loss)
        total += float(loss.detach())
    return total


def state_of(step: int, loss: float, keep_kl: float, lessons: Lessons) -> Step:
    """Give how things stand at a step."""
    count = lessons.counted
    right, learnt = (sum(one[:count]) / count for one in (lessons.right, lessons.learnt))
    return Step(step, loss, right, learnt, keep_kl)


def draws(count: int, size: int, rng: random.Random) -> Iterator[list[int]]:
    """Numbers below `count`, `size` at a time, shuffled anew when all were drawn."""
    left: list[int] = []
    while True:
        if len(left) < min(size, count):
            left = rng.sample(range(count), count)
        yield left[:size]
        left = left[size:]
