"""The command that finds the recipe for a model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import material
from kdpo_daemon.app import App, read_settings
from kdpo_daemon.bench.edits import ledger
from kdpo_daemon.bench.edits import tune as bench
from kdpo_daemon.bench.edits.forms import DataForm
from kdpo_daemon.bench.edits.plan import Work
from kdpo_daemon.bench.edits.run import Source, Wanted, make_plan, read_source
from kdpo_daemon.cli.bench_edits import EXTRA, bar
from kdpo_daemon.cli.options import console, need_extra
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import shape
from kdpo_daemon.settings import Settings
from kdpo_daemon.store import facts


def add_to(cli: typer.Typer) -> None:
    """Add the command of this module."""
    cli.command()(tune)


def tune(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="File of edits, one a line; else accepted facts.")
    ] = None,
    form: Annotated[DataForm | None, typer.Option(help="How the file is laid out.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="The model's directory; else that of the configuration.")
    ] = None,
    count: Annotated[int, typer.Option("--edits", help="How many facts.", min=1)] = 12,
    tries: Annotated[int, typer.Option(help="How many recipes, at most.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the draw and of training.")] = 0,
    out: Annotated[
        Path, typer.Option("--json", help="Where the numbers go; the table beside.")
    ] = Path("tune.json"),
) -> None:
    """Find the recipe for a model: teach some facts with several, and ask what it says then.

    Begins with the recipe of the configuration, and changes nothing there.  A search that was cut
    off goes on when it is started again: what is finished is in the folder beside the JSON whose
    name ends in `.work`.
    """
    need_extra(EXTRA, "each try trains")
    settings = _settings(ctx, data)
    app = App(settings)
    path = model or settings.model.path
    wanted = Wanted(count, count, seed, path, settings.training.threads)
    general = ledger.general_of(app.curriculum, material.perplexity_text(settings.intake))
    work = Work(out.with_suffix(".work"))
    plan = bench.as_begun(work, make_plan(wanted, _source(app, data, form), general))
    limits = bench.Limits(tries, settings.gate)
    with bar() as progress:
        found = bench.tune(work, plan, settings.recipe, shape(path), limits, progress)
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = bench.table(found)
    out.with_suffix(".md").write_text(text + "\n", "utf-8")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _settings(ctx: typer.Context, data: Path | None) -> Settings:
    """Read the configuration, which a file of edits can do without."""
    file: Path = ctx.obj
    return Settings() if data and not file.exists() else read_settings(file)


def _source(app: App, data: Path | None, form: DataForm | None) -> Source:
    if data is None:
        with app.ready_db().begin() as tx:
            known = [one for status in ledger.STANDING for one in facts.facts_with(tx, status)]
            taken = facts.slots(tx)
        known.sort(key=lambda one: one.id)
        return ledger.source_of(known, app.pack, app.settings.plan, taken)
    if form is None:
        raise SettingsError(
            "is wanted with --data", subject="--form", hint=f"one of {', '.join(DataForm)}"
        )
    return read_source(data, form)
