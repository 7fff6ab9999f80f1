"""`kdpo tune`: tries of recipes, each a rival `kdpo@N` of one run of the benchmark.

`climb` says what is tried; here it is run, and told.  Loads no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdpo_daemon.bench.edits import climb
from kdpo_daemon.bench.edits.climb import Outcome, Try
from kdpo_daemon.bench.edits.ledger import LEDGER
from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.report import COLUMNS, cell, headline, markdown, spread
from kdpo_daemon.bench.edits.run import Progress, result, run
from kdpo_daemon.bench.edits.settings import RIVALS, Rival
from kdpo_daemon.edits.gate import GatePolicy, broken
from kdpo_daemon.model_dir import Shape
from kdpo_daemon.orders import Recipe
from kdpo_daemon.records.adapters import Score

#: The rival that teaches nothing: its perplexity is what the tries' is compared with.
_BASE = "none"
#: Scores of the benchmark's table that do not choose a recipe.
_BESIDE = frozenset({"retention", "old_answer", "blimp", "lama"})
_COLUMNS = {heading: score for heading, score in COLUMNS.items() if score not in _BESIDE}

#: Says how a recipe did; gets the recipes tried so far with it.
Measure = Callable[[Sequence[Recipe]], Outcome]


@dataclass(frozen=True)
class Limits:
    """What bounds a search."""

    tries: int
    gate: GatePolicy


def search(first: Recipe, shape: Shape, tries: int, measure: Measure) -> list[Try]:
    """Try recipes until so many were tried, or nothing is left beside the best."""
    found: list[Try] = []
    step: tuple[str, Recipe] | None = ("", climb.spelled_out(first, shape))
    while step and len(found) < tries:
        varied, recipe = step
        measured = measure([*(one.recipe for one in found), recipe])
        found.append(Try(recipe, varied, measured))
        step = climb.following(found, shape)
    return found


def as_begun(work: Work, plan: Plan) -> Plan:
    """Give the plan with the facts that a search in the ledger was begun with.

    It may have got others since, and a search that was cut off goes on with its own.
    """
    if plan.form != LEDGER or not work.begun:
        return plan
    before = work.plan()
    if (before.form, len(before.records)) != (plan.form, len(plan.records)):
        return plan
    return replace(plan, data_sha256=before.data_sha256, records=before.records)


def tune(
    work: Work, plan: Plan, first: Recipe, shape: Shape, limits: Limits, progress: Progress
) -> dict[str, Any]:
    """Do what is left of a search, and give its result.

    Raises:
        TuningError: a try's process failed; what was finished before is kept.
        SettingsError: the work folder is another run's.

    """

    def measure(recipes: Sequence[Recipe]) -> Outcome:
        rivals = _rivals(recipes)
        run(work, plan, rivals, progress)
        base, last = (work.scores(name) or () for name in (_BASE, list(rivals)[-1]))
        return outcome(last, base, limits.gate)

    tried = search(first, shape, limits.tries, measure)
    made = result(work, plan, _rivals([one.recipe for one in tried]))
    return made | {"benchmark": "tune"} | told(tried, shape)


def outcome(scores: Sequence[Score], base: Sequence[Score], gate: GatePolicy) -> Outcome:
    """Give how a recipe did, whose scores these are; `base`: those of the model untaught."""
    [before] = [one.value for one in base if one.name == "perplexity"]
    ratios = [
        Score("perplexity_ratio", one.value / before, one.n)
        for one in scores
        if one.name == "perplexity"
    ]
    _, mean = headline(scores, ())
    return Outcome(mean.value, *spread(scores), frozenset(broken([*scores, *ratios], gate)))


def table(made: Mapping[str, Any]) -> str:
    """Give a search's result as Markdown: what was tried, how each did, what to do."""
    head = (
        f"{made['edits']} edits of {made['data']} ({made['form']}) in one batch, {made['model']},"
        f" seed {made['seed']}; {made['machine']['processor']}, {made['machine']['device']}"
    )
    rows = [_row(number, one, made["rivals"]) for number, one in enumerate(made["tries"], 1)]
    headings = ["try", "recipe", *_COLUMNS, "95 %", "breaks", "s/edit"]
    return "\n\n".join((head, markdown(headings, rows), made["advice"]))


def _rivals(recipes: Sequence[Recipe]) -> dict[str, Rival]:
    source = RIVALS["kdpo"].source
    tries = {
        _name(number): Rival(one, "a try of kdpo tune", source)
        for number, one in enumerate(recipes, 1)
    }
    return {_BASE: RIVALS[_BASE], **tries}


def _name(number: int) -> str:
    return f"kdpo@{number}"


def told(tried: Sequence[Try], shape: Shape) -> dict[str, object]:
    """Give what a search says: each try, the changed fields that are advised, and why."""
    first, best = tried[0], climb.advised(tried)
    tries = [
        {
            "changes": climb.changes(one.recipe, first.recipe),
            "mean": one.outcome.mean,
            "low": one.outcome.low,
            "high": one.outcome.high,
            "broken": sorted(one.outcome.broken),
        }
        for one in tried
    ]
    return {
        "tries": tries,
        "recipe": climb.changes(best.recipe, first.recipe) if best else {},
        "advice": _advice(tried, shape),
    }


def _advice(tried: Sequence[Try], shape: Shape) -> str:
    first, best = tried[0], climb.best_of(tried)
    low, high = climb.gain(best.outcome, first.outcome)
    gained = f"{best.outcome.mean - first.outcome.mean:.3f} (95 %: {low:.3f} to {high:.3f})"
    name = f"Try {tried.index(best) + 1}"
    if climb.advised(tried):
        changed = climb.changes(best.recipe, first.recipe)
        lines = "\n".join(f"{field} = {value}" for field, value in changed.items())
        said = f"{name} is better than the recipe at hand by {gained}. In kdpo.toml:"
        said += f"\n\n[recipe]\n{lines}"
    elif best is first:
        said = f"Keep {_at_hand(first.recipe, shape)}: no other has a higher mean."
    else:
        said = (
            f"Keep {_at_hand(first.recipe, shape)}: {name} is better by {gained}, which may be"
            " chance. More facts (--edits) would tell."
        )
    more = climb.following(tried, shape)
    return said + ("\n\nMore is left to try: the same with more --tries goes on." if more else "")


def _at_hand(recipe: Recipe, shape: Shape) -> str:
    plain = climb.spelled_out(Recipe(method=recipe.method), shape)
    return "the defaults" if recipe == plain else "the recipe at hand"


def _row(number: int, one: Mapping[str, Any], rivals: Mapping[str, Any]) -> list[str]:
    rival = rivals[_name(number)]
    changed = ", ".join(f"{field} = {value}" for field, value in one["changes"].items())
    return [
        str(number),
        changed or "at hand",
        *(cell(rival, score) for score in _COLUMNS.values()),
        f"{one['low']:.3f} to {one['high']:.3f}",
        ", ".join(one["broken"]) or "nothing",
        f"{rival['seconds_per_edit']:.2f}",
    ]
