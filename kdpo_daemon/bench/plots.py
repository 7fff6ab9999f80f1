"""The picture in docs/intake.md, drawn from the JSON of `kdpo bench intake`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_AIMS = {"precision": 0.98, "recall": 0.95}
_COLOURS = {"accepted": "#2a7f62", "held": "#e0a030", "rejected": "#b8b8b8"}


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw how far the samples agree, and what became of each quarter's claims; SVG or PNG."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    samples = result["samples"]
    for place, (measure, aim) in enumerate(_AIMS.items()):
        for offset, (name, one) in enumerate(samples.items()):
            low, high = wilson(one["right"], _of(one, measure))
            at = place + 0.3 * offset
            left.plot([at, at], [low, high], color="#666666")
            left.plot(at, one[measure], "o" if name == "fresh" else "s", color="#1f4e79")
            left.annotate(f" {name}", (at, one[measure]), fontsize=8)
        left.plot([place - 0.1, place + 0.5], [aim, aim], "--", color="#c03030", linewidth=1)
    left.set_xticks([0.15, 1.15], list(_AIMS))
    left.set_xlim(-0.2, 1.8)
    left.set_title("agreement, 95 % interval, and aim", fontsize=9)
    quarters = quarterly(result["claims"])
    names = sorted({quarter for quarter, _ in quarters})
    base = [0] * len(names)
    for ruling, colour in _COLOURS.items():
        counts = [quarters[name, ruling] for name in names]
        right.bar(names, counts, bottom=base, color=colour, label=ruling)
        base = [below + count for below, count in zip(base, counts, strict=True)]
    right.tick_params(axis="x", rotation=90, labelsize=7)
    right.legend(fontsize=8)
    right.set_title("claims of each quarter", fontsize=9)
    # the same numbers give the same bytes
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kdpo"}):
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def wilson(right: int, of: int) -> tuple[float, float]:
    """Give the 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    middle = (right + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * sqrt(right * (of - right) / of + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


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
