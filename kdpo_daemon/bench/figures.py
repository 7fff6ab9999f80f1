"""The serving benchmarks' numbers as pictures.  Needs matplotlib (the `bench` extra)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from kdpo_daemon.bench.swaps import median, percentile

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib import rc_context
from matplotlib.figure import Figure

Phase = Mapping[str, Any]


def swaps(phases: Sequence[Phase], out: Path) -> None:
    """Draw how long a swap takes and how long streams stall, over the size of an adapter."""
    sizes = [phase["megabytes"] for phase in phases]
    lines = {
        "load under its own name": _column(phases, "load_s"),
        "swap: pointer moved to first answer": _column(phases, "swap_s"),
        "longest stall of running streams": _column(phases, "stall_s"),
    }
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, values in lines.items():
        p50 = [1000 * median(one) for one in values]
        p95 = [1000 * percentile(one, 0.95) for one in values]
        (line,) = axes.plot(sizes, p50, "o-", label=name)
        axes.plot(sizes, p95, "^:", color=line.get_color())
    calm = [1000 * phase["calm_s"] for phase in phases]
    axes.plot(sizes, calm, "k--", label="longest wait for a token without a swap")
    axes.set(
        xlabel="MB of an adapter",
        ylabel="ms (dots p50, triangles p95)",
        xscale="log",
        ylim=(0, None),
    )
    figure.legend(loc="outside lower center", ncols=2)
    _save(figure, out)


def costs(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draw throughput with the adapter over the base model's, for both kinds of operators."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for operators in ("ours", "stock"):
        of = sorted(
            (row for row in rows if row["operators"] == operators), key=lambda row: row["rank"]
        )
        ranks = [row["rank"] for row in of]
        axes.plot(ranks, [row["throughput_ratio"] for row in of], "o-", label=operators)
    axes.axhline(0.9, color="k", linestyle="--", linewidth=0.8)
    axes.set(
        xlabel="rank, and --max-lora-rank",
        ylabel="tokens per second, adapter over base model",
        xscale="log",
        ylim=(0, None),
    )
    axes.legend()
    _save(figure, out)


def _save(figure: Figure, out: Path) -> None:
    """Write it so that the same numbers give the same bytes."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "kdpo"}):
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def _column(phases: Sequence[Phase], name: str) -> list[list[float]]:
    return [[one[name] for one in phase["swaps"] if one[name] is not None] for phase in phases]
