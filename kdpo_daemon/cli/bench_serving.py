"""Commands that measure a real vLLM on this machine."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.bench.swaps import Phase, Plan, SwapMode, median, percentile
from kdpo_daemon.cli.options import console

Out = Annotated[Path, typer.Option("--json", help="Where the numbers go.")]
Figure = Annotated[Path | None, typer.Option(help="Where a plot goes (SVG, PNG).")]
Model = Annotated[Path, typer.Option(help="The model's directory.")]
Python = Annotated[Path, typer.Option(help="The interpreter of the environment with vLLM.")]
Ranks = Annotated[str, typer.Option(help="Ranks of the adapters, with commas between.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    cli.command()(serving)
    cli.command()(operators)


def serving(  # noqa: PLR0913 - one argument per option
    out: Out,
    model: Model,
    serve_python: Python,
    mode: Annotated[SwapMode, typer.Option(help="How the alias moves.")] = SwapMode.PLUGIN,
    clients: Annotated[int, typer.Option(help="Streaming without pause.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="Of load, for each rank.", min=5)] = 60,
    swaps: Annotated[int, typer.Option(help="For each rank.", min=1)] = 10,
    ranks: Ranks = "64",
    plot: Figure = None,
) -> None:
    """Swap versions of made-up weights under load, on a vLLM that is started for it.

    `inplace` is vLLM's own `load_inplace`, which the daemon never uses.  Exit status 0 whatever
    is found.
    """
    from kdpo_daemon.bench import serving as serving_bench  # numpy: the `bench` extra has it

    plan = Plan(mode, clients, seconds, swaps, _numbers(ranks))
    with tempfile.TemporaryDirectory() as work, console.status("") as status:
        found = serving_bench.measure(plan, model, serve_python, Path(work), status.update)
    result = {"plan": asdict(plan), "phases": [asdict(phase) for phase in found]}
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for phase in found:
        show.tree(console, _summary(phase), as_json=False)
    if plot:
        from kdpo_daemon.bench import figures

        figures.swaps([asdict(phase) for phase in found], plot)


def operators(  # noqa: PLR0913 - one argument per option
    out: Out,
    model: Model,
    serve_python: Python,
    seconds: Annotated[float, typer.Option(help="Of each of the 8 rounds.", min=1)] = 6,
    ranks: Ranks = "16,64,128,256,512",
    modules: Annotated[str, typer.Option(help="That the adapters act on.")] = "down_proj",
    dtype: Annotated[str, typer.Option(help="vLLM's --dtype.")] = "auto",
    stock: Annotated[bool, typer.Option(help="Measure vLLM's own too; minutes a rank.")] = True,
    plot: Figure = None,
) -> None:
    """Compare an adapter's speed with the base model's: our LoRA operators, and vLLM's own."""
    from kdpo_daemon.bench import operators as operators_bench
    from kdpo_daemon.bench.operators import OperatorsPlan

    with tempfile.TemporaryDirectory() as work, console.status("") as status:
        plan = OperatorsPlan(_numbers(ranks), seconds, tuple(modules.split(",")), dtype, stock)
        rows = operators_bench.measure(plan, model, serve_python, Path(work), status.update)
    out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    show.rows(console, [asdict(row) for row in rows], as_json=False, empty="")
    if plot:
        from kdpo_daemon.bench import figures

        figures.costs([asdict(row) for row in rows], plot)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not numbers with commas between") from error


def _summary(phase: Phase) -> dict[str, object]:
    def spread(values: list[float]) -> str:
        return f"{1000 * median(values):.0f}, {1000 * percentile(values, 0.95):.0f}"

    stalls = [one.stall_s for one in phase.swaps if one.stall_s is not None]
    return {
        f"rank {phase.rank}, {phase.megabytes:.1f} MB": {
            "requests": phase.requests,
            "failed": phase.failed or 0,
            "answers of neither version": phase.neither,
            "old answers after the swap": phase.stale,
            "load, ms p50 and p95": spread([one.load_s for one in phase.swaps]),
            "swap, ms p50 and p95": spread([one.swap_s for one in phase.swaps]),
            "longest stall, ms p50 and p95": spread(stalls),
            "longest wait for a token without a swap, ms": round(1000 * phase.calm_s),
            "tokens per second": round(phase.tokens_per_s, 1),
            "nats behind, own version at most": round(phase.farthest_own, 2),
            "nats behind, other versions at least": round(phase.nearest_other, 2),
        }
    }
