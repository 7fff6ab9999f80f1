"""The command that measures the editor beside other ways to teach facts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdpo_daemon.bench.edits import run as edits_bench
from kdpo_daemon.bench.edits import settings
from kdpo_daemon.bench.edits.forms import DataForm
from kdpo_daemon.bench.edits.general import read_general
from kdpo_daemon.bench.edits.plan import Work
from kdpo_daemon.bench.edits.report import table
from kdpo_daemon.cli.options import complaints, console, need_extra

EXTRA = ("torch", "transformers", "peft", "safetensors")


def add_to(cli: typer.Typer) -> None:
    """Add the command of this module."""
    cli.command()(edits)


def edits(  # noqa: PLR0913 - one argument per option
    data: Annotated[Path, typer.Option(help="File of edits, one a line.")],
    form: Annotated[DataForm, typer.Option(help="How the file is laid out.")],
    out: Annotated[Path, typer.Option("--json", help="Where the numbers go; the table beside.")],
    model: Annotated[Path, typer.Option(help="The model's directory.")],
    count: Annotated[int, typer.Option("--edits", help="How many edits.", min=1)] = 100,
    batch: Annotated[int, typer.Option(help="Edits in a batch.", min=1)] = 50,
    rivals: Annotated[
        str, typer.Option(help=f"With commas between: {', '.join(settings.RIVALS)}.")
    ] = "none,prompt,lora-ce,kdpo",
    seed: Annotated[int, typer.Option(help="Of the draw and of training.")] = 0,
    probes: Annotated[
        Path | None, typer.Option(help="Folder of probes; else `probes` beside the data's folder.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all.", min=0)] = 0,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value of a rival, such as lora-ce.rate=3e-4."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Where a plot goes (SVG, PNG).")] = None,
) -> None:
    """Teach the same facts in several ways, and ask what each model says then.

    A run that was cut off goes on when it is started again: what is finished is in the folder
    beside the JSON whose name ends in `.work`.
    """
    need_extra(EXTRA, "the benchmark trains")
    chosen = settings.chosen([one.strip() for one in rivals.split(",")], change or [])
    source = edits_bench.read_source(data, form)
    general = read_general(probes or data.resolve().parent.parent / "probes")
    wanted = edits_bench.Wanted(count, batch, seed, model, threads)
    plan = edits_bench.make_plan(wanted, source, general)
    with bar() as progress:
        work = Work(out.with_suffix(".work"))
        result = edits_bench.run(work, plan, chosen, progress)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = table(result)
    out.with_suffix(".md").write_text(text + "\n", "utf-8")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if plot:
        from kdpo_daemon.bench.edits import pictures  # matplotlib: the `bench` extra has it

        pictures.draw(result, plot)


@contextmanager
def bar() -> Iterator[edits_bench.Progress]:
    """Show on standard error how far a run is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=complaints) as progress:
        task = progress.add_task("reading", total=None)

        def tell(rival: str, doing: str, done: int, of: int) -> None:
            progress.update(task, description=f"{rival}: {doing}", completed=done, total=of)

        yield tell
