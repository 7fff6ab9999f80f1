"""The picture in docs/intake.md, drawn from the JSON of `kdpo bench intake`."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdpo_daemon.bench.intervals import wilson

_AIMS = {"precision": 0.98, "recall": 0.95}
_COLOURS = {"accepted": "#2a7f62", "held": "#e0a030", "rejected": "#b8b8b8"}


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw the samples' agreement, what became of the claims, and what each week cost."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 3, 3))
    _agreement(left, result["samples"])
    _claims(middle, result["claims"])
    _cost(right, result["weeks"])
    # the same numbers give the same bytes
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kdpo"}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _agreement(axes: Axes, samples: Mapping[str, Any]) -> None:
    for place, (measure, aim) in enumerate(_AIMS.items()):
        for offset, (name, one) in enumerate(samples.items()):
            if one[measure] is None:
                continue
            low, high = wilson(one["right"], _of(one, measure))
            at = place + 0.3 * offset
            axes.plot([at, at], [low, high], color="#666666")
            axes.plot(at, one[measure], "o" if name == "fresh" else "s", color="#1f4e79")
            axes.annotate(f" {name}", (at, one[measure]), fontsize=8)
        axes.plot([place - 0.1, place + 0.5], [aim, aim], "--", color="#c03030", linewidth=1)
    axes.set_xticks([0.15, 1.15], list(_AIMS))
    axes.set_xlim(-0.2, 1.8)
    axes.set_title("agreement, 95 % interval, and aim", fontsize=9)


def _claims(axes: Axes, claims: Sequence[Mapping[str, str]]) -> None:
    quarters = quarterly(claims)
    names = sorted({quarter for quarter, _ in quarters})
    base = [0] * len(names)
    for ruling, colour in _COLOURS.items():
        counts = [quarters[name, ruling] for name in names]
        axes.bar(names, counts, bottom=base, color=colour, label=ruling)
        base = [below + count for below, count in zip(base, counts, strict=True)]
    axes.tick_params(axis="x", rotation=90, labelsize=7)
    axes.legend(fontsize=8)
    axes.set_title("claims of each quarter", fontsize=9)


def _cost(axes: Axes, weeks: Sequence[Mapping[str, Any]]) -> None:
    """Draw each week's seconds: what a poll costs must not grow with the history."""
    for stage, colour in (("ingest", "#1f4e79"), ("accept", "#e0a030")):
        seconds = [week[f"{stage}_s"] for week in weeks]
        axes.plot(range(len(seconds)), seconds, ".", color=colour, markersize=3, label=stage)
    # a month with many changes, or a busy machine, is no growth
    axes.set_ylim(0, 3 * max((statistics.median(_total(week) for week in weeks), 0.01)))
    axes.set_xlabel("week of the replay", fontsize=8)
    axes.legend(fontsize=8)
    axes.set_title("seconds that each week costs", fontsize=9)


def _total(week: Mapping[str, Any]) -> float:
    return float(week["ingest_s"] + week["accept_s"])


def quarterly(claims: Sequence[Mapping[str, str]]) -> Counter[tuple[str, str]]:
    """Count claims by quarter (2024-3) and ruling."""
    return Counter(
        (f"{claim['day'][:4]}-{(int(claim['day'][5:7]) + 2) // 3}", claim["ruling"])
        for claim in claims
    )


def _of(agreement: Mapping[str, int], measure: str) -> int:
    if measure == "recall":
        return agreement["changes"]
    return agreement["right"] + agreement["wrong"]
