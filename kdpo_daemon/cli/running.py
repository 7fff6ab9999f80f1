"""Commands that run things: init, run, once, status, doctor."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdpo_daemon import packs, show
from kdpo_daemon.app import App, notify_socket
from kdpo_daemon.cli.options import ATTENTION, Json, app_of, complain, complaints, console
from kdpo_daemon.doctor import examine
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.stages.deploy import waiting
from kdpo_daemon.store import deployments, facts, feeds, revocations


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (init, run, once, status, doctor):
        cli.command()(command)


def init(ctx: typer.Context) -> None:
    """Write a commented kdpo.toml to start from."""
    file: Path = ctx.obj
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(packs.text("kdpo.toml"))
    except OSError as error:
        raise SettingsError(
            f"cannot be written: {error.strerror}", subject=str(file), hint="remove or rename it"
        ) from error
    told = f"Wrote {file}. Set [model] and [[servers]], then: kdpo db upgrade; kdpo doctor"
    console.print(told, markup=False)


def run(ctx: typer.Context) -> None:
    """Run the daemon until SIGTERM."""
    from kdpo_daemon.daemon import Daemon  # a web server: no other command waits for it

    app = app_of(ctx)
    raise typer.Exit(Daemon(app, notify_socket()).run())


def once(ctx: typer.Context, as_json: Json = False) -> None:
    """Run one cycle: poll, accept, plan, train, judge, deploy; then exit."""
    app = app_of(ctx)
    reports = []
    with app.writing(), _bar(app):
        for _stage, act in app.stages():
            reports.append(act())
            if not as_json and not reports[-1].idle:
                counts = ", ".join(f"{n} {what}" for what, n in reports[-1].counts.items() if n)
                complaints.print(f"[bold]{reports[-1].stage}[/bold] {counts}")
    if as_json:
        show.machine(console, reports)
    elif all(report.idle for report in reports):
        console.print("Nothing to do: every fact that can be taught is taught.")
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(ATTENTION)


@contextmanager
def _bar(app: App) -> Iterator[None]:
    """Show the progress of long steps on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=complaints, transient=True) as bar:
        row = bar.add_task("starting", total=None)
        app.progress = lambda what, done, of: bar.update(
            row, description=what, completed=done, total=of or None
        )
        yield


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Say what is wanted, what each server has, and how many facts stand where."""
    with app_of(ctx).ready_db().begin() as tx:
        wanted = deployments.wanted(tx)
        passed = waiting(tx)
        replicas = deployments.replicas(tx)
        counts = facts.count_by_status(tx)
        taught = revocations.taught_by(tx)
        revoked = [facts.get_fact(tx, fact_id) for fact_id in taught]
        failing = [feed for feed in feeds.list_feeds(tx) if feed.last_error]
    found = {
        "wanted": wanted.adapter.name if wanted else None,
        "because": wanted.reason if wanted else None,
        "pinned": bool(wanted and wanted.pinned),
        "waits_for_thaw": passed.name if passed and wanted and wanted.pinned else None,
        "servers": {one.name: f"{one.state.value} {one.error}".strip() for one in replicas},
        "facts": {state.value: counts[state] for state in FactStatus if counts.get(state)},
        "revoked_but_taught": {f"fact:{one.id}": revocations.told(one, taught) for one in revoked},
        "failing_feeds": {feed.name: feed.last_error for feed in failing},
    }
    show.tree(console, found, as_json=as_json)


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Check database, model, servers and feeds, and say what to do about each problem."""
    problems = examine(app_of(ctx))
    rows = [asdict(problem) for problem in problems]
    show.rows(console, rows, as_json=as_json, empty="No problems found.")
    if problems:
        raise typer.Exit(ATTENTION)
