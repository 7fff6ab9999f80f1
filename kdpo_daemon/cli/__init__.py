"""The command line: what an operator types.

Exit codes: 0 done; 1 something failed, and the message says what and what to do; 2 wrong usage;
3 done, but something needs attention: `doctor` found a problem, or a stage of `once` met one.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import __version__
from kdpo_daemon.cli import (
    bench,
    facts,
    feeds,
    relations,
    rulings,
    running,
    tune,
    versions,
    wanted,
    widening,
)
from kdpo_daemon.cli.options import complaints
from kdpo_daemon.errors import KdpoError
from kdpo_daemon.telemetry import configure_logging

cli = typer.Typer(
    help="Keep a deployed language model current, fact by fact.",
    epilog=__doc__.split("\n\n", 1)[1] if __doc__ else None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
running.add_to(cli)
wanted.add_to(cli)
cli.add_typer(feeds.cli, name="feeds")
rulings.add_to(facts.cli)
cli.add_typer(facts.cli, name="facts")
cli.add_typer(relations.cli, name="relations")
cli.add_typer(bench.cli, name="bench")
versions.add_to(cli)
widening.add_to(cli)
tune.add_to(cli)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    ctx: typer.Context,
    config: Annotated[
        Path, typer.Option(envvar="KDPO_CONFIG", help="The configuration file.")
    ] = Path("kdpo.toml"),
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    ctx.obj = config
    configure_logging(json=not sys.stderr.isatty())


def main() -> None:
    """Run the command line; a KdpoError is one clear message and exit status 1."""
    try:
        cli()
    except KdpoError as error:
        complaints.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
