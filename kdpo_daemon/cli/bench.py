"""Commands that measure."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.bench import intake as intake_bench
from kdpo_daemon.cli.options import console

cli = typer.Typer(help="Measure what the documentation states.", no_args_is_help=True)


@cli.callback()
def _measure() -> None:
    pass


@cli.command("intake")
def intake(
    data: Annotated[Path, typer.Option(help="Folder that holds factbook/changes.jsonl.")],
    out: Annotated[Path, typer.Option("--json", help="Where the numbers go.")],
) -> None:
    """Replay the World Factbook week by week, and compare with hand-labelled changes."""
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        result = intake_bench.run(
            data,
            Path(folder) / "bench.db",
            lambda what, done, of: status.update(f"{what} ({done} of {of})"),
        )
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shown = {key: result[key] for key in ("replay", "halves", "cost")}
    show.tree(console, shown, as_json=False)
