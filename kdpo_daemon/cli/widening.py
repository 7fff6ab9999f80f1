"""The commands that write models: with room for facts, or with facts in their weights."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon.checkpoints import checked
from kdpo_daemon.cli.options import app_of, console, need_extra
from kdpo_daemon.store import adapters, batches

_EXTRA = ("torch", "safetensors")
#: Taught answers on which a folded model is compared with what it was made of, at most.
_COMPARED = 64


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    cli.command()(widen)
    cli.command()(fold)


def widen(
    model: Annotated[Path, typer.Argument(help="The model's directory.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; it must not be there.")],
    neurons: Annotated[
        int, typer.Option(help="Empty neurons per layer, a multiple of 64 (128: 120 facts).")
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
    _run("widen", [str(model), str(out), str(neurons), *([] if marks else ["--no-marks"])])
    more = " and a head that carries marks" if marks else ""
    console.print(f"Wrote {out}: the same model with {neurons} empty neurons in each layer{more}.")


def fold(
    ctx: typer.Context,
    adapter: Annotated[str, typer.Argument(help="The version, such as kdpo-000012.")],
    out: Annotated[Path, typer.Argument(help="Directory to write; it must not be there.")],
) -> None:
    """Write a copy of the model with a version's facts in its weights, where they take no rank.

    For a planned restart: docs/serving.md says how to go over to the copy, and back.
    """
    need_extra(_EXTRA, "folding works on weights")
    app = app_of(ctx)
    with app.ready_db().begin() as tx:
        version = adapters.adapter_by_name(tx, adapter)
        pairs = batches.pairs_of(tx, version.batch_id) if version.batch_id else []
    checked(version)
    each = {(pair.fact_id, pair.form): [*pair.prompt_ids, *pair.chosen_ids] for pair in pairs}
    texts = [*each.values()][:_COMPARED]
    _run("fold", [str(app.settings.model.path), version.path, str(out)], json.dumps(texts))
    console.print(f"Wrote {out}: {app.settings.model.path} with {adapter} in its weights.")


def _run(name: str, arguments: Sequence[str], told: str = "") -> None:
    """Run a module of the child's, for torch stays out of this process."""
    command = [sys.executable, "-m", f"kdpo_daemon.tuning.{name}", *arguments]
    done = subprocess.run(command, input=told, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise typer.Exit(done.returncode)
