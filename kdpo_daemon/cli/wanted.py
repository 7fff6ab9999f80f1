"""Commands by which a person says what is to be served: rollback, pin, freeze, thaw."""

from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.app import App, clock
from kdpo_daemon.cli.options import ATTENTION, Json, actor, app_of, console
from kdpo_daemon.errors import LeaseHeldError
from kdpo_daemon.records.serving import Deployment
from kdpo_daemon.stages import pin as pin_stage
from kdpo_daemon.stages import rollback as rollback_stage

Reason = Annotated[str, typer.Option(help="For the audit log.")]

_NO_REASON = "asked by an operator"


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (rollback, pin, freeze, thaw):
        cli.command()(command)


def rollback(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(help="Default: the one before.")] = None,
    reason: Reason = _NO_REASON,
    as_json: Json = False,
) -> None:
    """Serve an earlier version again, on every server.  A pin or freeze stays."""
    app = app_of(ctx)
    made = rollback_stage.run(app.ready_db(), version, actor(), reason, clock)
    _serve(app, made, as_json=as_json)


def pin(
    ctx: typer.Context, version: str, reason: Reason = _NO_REASON, as_json: Json = False
) -> None:
    """Serve this version on every server and stay with it, until `kdpo thaw`."""
    app = app_of(ctx)
    made = pin_stage.pin(app.ready_db(), version, actor(), reason, clock)
    _serve(app, made, as_json=as_json)


def freeze(ctx: typer.Context, reason: Reason = _NO_REASON, as_json: Json = False) -> None:
    """Stay with the version that is served now, until `kdpo thaw`.

    The cycle goes on reading feeds, and trains and judges one batch; it promotes nothing.
    """
    made = pin_stage.freeze(app_of(ctx).ready_db(), actor(), reason, clock)
    show.tree(console, _told(made), as_json=as_json)


def thaw(ctx: typer.Context, reason: Reason = _NO_REASON, as_json: Json = False) -> None:
    """Let versions that pass the gate be served again; ends a pin or freeze."""
    made = pin_stage.thaw(app_of(ctx).ready_db(), actor(), reason, clock)
    show.tree(console, _told(made), as_json=as_json)


def _serve(app: App, made: Deployment, *, as_json: bool) -> None:
    """Bring the servers to it now, unless a running daemon does."""
    found = _told(made)
    try:
        with app.writing():
            report = app.sync()
        found |= {"served": not report.problems, "problems": report.problems}
    except LeaseHeldError:
        found["served"] = "by the running daemon, within seconds; see `kdpo status`"
    show.tree(console, found, as_json=as_json)
    if found.get("problems"):
        raise typer.Exit(ATTENTION)


def _told(made: Deployment) -> dict[str, object]:
    return {"wanted": made.adapter.name, "pinned": made.pinned}
