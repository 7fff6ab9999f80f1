"""The command that makes room for facts in a model."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon.cli.options import console, need_extra

_EXTRA = ("torch", "safetensors")


def add_to(cli: typer.Typer) -> None:
    """Add the command of this module."""
    cli.command()(widen)


def widen(
    model: Annotated[Path, typer.Argument(help="The model's directory.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; it must not be there.")],
    neurons: Annotated[
        int, typer.Option(help="Empty neurons per layer, a multiple of 64 (128: 200 facts).")
    ] = 128,
    marks: Annotated[
        bool,
        typer.Option(
            help="Make room for marks of subjects: a wider residual stream and one key-value "
            "head more, so that more memory goes to the cache."
        ),
    ] = True,
) -> None:
    """Copy a model with room for facts: empty neurons in its MLPs, and a head that carries marks.

    The copy says what the model says.  Serve it instead, and name it as the model's path in the
    configuration: without room, neurons for facts are taken from what the model knows, and without
    marks they hardly tell a fact from its neighbours.
    """
    need_extra(_EXTRA, "widening works on weights")
    # torch stays out of this process
    command = [sys.executable, "-m", "kdpo_daemon.tuning.widen", str(model), str(out)]
    command += [str(neurons), *([] if marks else ["--no-marks"])]
    done = subprocess.run(command, check=False)  # noqa: S603 - our own module
    if done.returncode:
        raise typer.Exit(done.returncode)
    more = " and a head that carries marks" if marks else ""
    console.print(f"Wrote {out}: the same model with {neurons} empty neurons in each layer{more}.")
