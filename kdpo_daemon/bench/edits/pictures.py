"""The pictures of a run, drawn from its JSON.  Needs matplotlib (the `bench` extra)."""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LOCALITY = ("same_subject_unchanged", "same_relation_unchanged", "general_unchanged")
_EFFICACY = ("efficacy_completion", "efficacy_chat")


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw retention over edits, efficacy against locality, and what an edit costs."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for number, (name, rival) in enumerate(result["rivals"].items()):
        colour = f"C{number}"
        _retention(left, name, rival, colour)
        _trade(middle, name, rival, colour)
        _cost(right, name, rival, colour)
    left.set(xlabel="edits made", ylabel="facts so far answered right", ylim=(-0.03, 1.03))
    middle.set(
        xlabel="efficacy, mean of both forms",
        ylabel="unchanged, mean of the localities",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    right.set(xlabel="edits made before", ylabel="seconds per edit", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    # the same numbers give the same bytes
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kdpo"}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def curve(rival: Mapping[str, Any]) -> tuple[list[int], list[float]]:
    """Give edits made, and the share of all facts so far that are answered right."""
    sizes = [batch["edits"] for batch in rival["batches"]]
    shares = [
        sum(kept * size for kept, size in zip(batch["retention"], sizes, strict=False))
        / sum(sizes[: len(batch["retention"])])
        for batch in rival["batches"]
    ]
    return list(accumulate(sizes)), shares


def _retention(axes: Axes, name: str, rival: Mapping[str, Any], colour: str) -> None:
    axes.plot(*curve(rival), "o-", color=colour, label=name, markersize=3)


def _trade(axes: Axes, name: str, rival: Mapping[str, Any], colour: str) -> None:
    at = _mean(rival, _EFFICACY), _mean(rival, _LOCALITY)
    axes.plot(*at, "o", color=colour)
    axes.annotate(f" {name}", at, fontsize=8)


def _cost(axes: Axes, name: str, rival: Mapping[str, Any], colour: str) -> None:
    after, _ = curve(rival)
    sizes = [batch["edits"] for batch in rival["batches"]]
    seconds = [batch["seconds"] / batch["edits"] for batch in rival["batches"]]
    before = [edits - size for edits, size in zip(after, sizes, strict=True)]
    axes.plot(before, seconds, "o-", color=colour, label=name, markersize=3)


def _mean(rival: Mapping[str, Any], names: tuple[str, ...]) -> float:
    scores = [rival["scores"][name] for name in names]
    values = [one["value"] for one in scores if one["n"]]
    return sum(values) / len(values) if values else 0.0
