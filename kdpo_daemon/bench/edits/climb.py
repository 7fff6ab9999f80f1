"""Which recipe is tried next, and whether one is better than the recipe at hand.  Pure.

One thing is varied at a time: a try differs from the best so far in one field, which goes up or
down to the next rung of its ladder.  The field that was varied least is next, so that a small
budget sees each.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from kdpo_daemon.model_dir import Shape
from kdpo_daemon.orders import Method, Recipe, firsts_from, laters_at, neuron_layers

#: Values of a field, upwards.
Ladder = tuple[float, ...]

_STEPS: Ladder = (75, 100, 150, 225, 340)
#: What is worth trying on another model; what the other fields do depends on it less.
LADDERS: Mapping[Method, Mapping[str, Ladder]] = {
    Method.NEURONS: {
        "laters_at": (0.48, 0.55, 0.62, 0.69, 0.76, 0.83, 0.9, 0.97),
        "firsts_from": (0.83, 0.86, 0.9, 0.93, 0.97, 1.0),
        "neurons_rate": (0.022, 0.045, 0.09, 0.18, 0.36),
        "steps": _STEPS,
    },
    Method.ROWS: {
        "first_layer": (0.4, 0.5, 0.6, 0.7, 0.8),
        "columns_rate": (3.75e-3, 7.5e-3, 1.5e-2, 3e-2, 6e-2),
        "stir_weight": (3750.0, 7500.0, 15000.0, 30000.0, 60000.0),
        "steps": _STEPS,
    },
}


@dataclass(frozen=True)
class Outcome:
    """How a recipe did."""

    mean: float  #: the benchmark's harmonic mean
    low: float  #: of its 95 % interval
    high: float
    broken: frozenset[str]  #: bounds of the gate that it breaks


@dataclass(frozen=True)
class Try:
    """A recipe, and how it did."""

    recipe: Recipe
    varied: str  #: the field in which it differs from the best before it; "" of the first
    outcome: Outcome


def spelled_out(recipe: Recipe, shape: Shape) -> Recipe:
    """Give the same recipe with what it leaves to the model's shape put in."""
    return replace(
        recipe,
        laters_at=laters_at(recipe, marked=shape.marked),
        firsts_from=firsts_from(recipe, marked=shape.marked),
    )


def following(tried: Sequence[Try], shape: Shape) -> tuple[str, Recipe] | None:
    """Give the next recipe with the field that it varies; None if nothing is left beside the best.

    What comes to the same in a model of this shape is not tried twice.
    """
    best = best_of(tried).recipe
    known = {_same(one.recipe, shape) for one in tried}
    often = Counter(one.varied for one in tried)
    fresh = [
        (field, recipe)
        for field, ladder in LADDERS[best.method].items()
        for recipe in _beside(best, field, ladder, lambda one: _same(one, shape))
        if _same(recipe, shape) not in known
    ]
    return min(fresh, key=lambda one: often[one[0]], default=None)


def best_of(tried: Sequence[Try]) -> Try:
    """Give the try with the highest mean, of those that break no bound which the first holds."""
    bounds = tried[0].outcome.broken
    return max(
        (one for one in tried if one.outcome.broken <= bounds), key=lambda one: one.outcome.mean
    )


def gain(one: Outcome, other: Outcome) -> tuple[float, float]:
    """Give the 95 % interval of what one mean is above another, after Newcombe 1998.

    As if the two had been asked different questions.  They are asked the same, so that it is wider
    than it need be, which is the price of choosing the best of several.
    """
    gained = one.mean - other.mean
    less = math.hypot(one.mean - one.low, other.high - other.mean)
    more = math.hypot(one.high - one.mean, other.mean - other.low)
    return gained - less, gained + more


def advised(tried: Sequence[Try]) -> Try | None:
    """Give the best try if it is better than the first by more than chance explains."""
    best, first = best_of(tried), tried[0]
    low, _ = gain(best.outcome, first.outcome)
    return best if best is not first and low > 0 else None


def changes(recipe: Recipe, first: Recipe) -> dict[str, float]:
    """Give the fields of the ladders in which a recipe differs from another."""
    fields = {name: getattr(recipe, name) for name in LADDERS[first.method]}
    return {name: value for name, value in fields.items() if value != getattr(first, name)}


def _same(recipe: Recipe, shape: Shape) -> Hashable:
    """What recipes have alike that make the same of a model."""
    if recipe.method is Method.ROWS:
        return recipe
    layers = neuron_layers(recipe, shape.depth, marked=shape.marked)
    return tuple(layers), replace(recipe, laters_at=0.0, firsts_from=0.0)


def _beside(
    best: Recipe, field: str, ladder: Ladder, same: Callable[[Recipe], Hashable]
) -> Iterator[Recipe]:
    """Give the next rung above that makes a difference, and the next below."""
    at = getattr(best, field)
    above = [value for value in ladder if value > at]
    below = [value for value in reversed(ladder) if value < at]
    for rungs in (above, below):
        moved = (_with(best, field, value) for value in rungs)
        yield from islice((one for one in moved if same(one) != same(best)), 1)


def _with(recipe: Recipe, field: str, value: float) -> Recipe:
    changed: dict[str, Any] = {field: value}
    return replace(recipe, **changed)
