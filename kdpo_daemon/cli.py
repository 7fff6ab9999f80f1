"""The command line: what an operator types.

Exit codes: 0 done; 1 something failed, and the message says what and what to do; 2 wrong usage;
3 done, but something needs attention: `doctor` found a problem, or a stage of `once` met one.
"""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kdpo_daemon import __version__, packs, show
from kdpo_daemon.app import App, clock, notify_socket, read_settings
from kdpo_daemon.daemon import Daemon
from kdpo_daemon.doctor import examine
from kdpo_daemon.errors import KdpoError, SettingsError, StoreError
from kdpo_daemon.records import FactStatus, ProbeKind, Trust
from kdpo_daemon.stages import ingest, rollback
from kdpo_daemon.store import adapters, audit, deployments, facts, feeds, probes
from kdpo_daemon.telemetry import configure_logging

ATTENTION = 3

cli = typer.Typer(
    help="Keep a deployed language model current, fact by fact.",
    epilog=__doc__.split("\n\n", 1)[1] if __doc__ else None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
feeds_cli = typer.Typer(help="Where changed facts come from.", no_args_is_help=True)
facts_cli = typer.Typer(help="What is true, and how far it has got.", no_args_is_help=True)
adapters_cli = typer.Typer(help="The versions that were made.", no_args_is_help=True)
audit_cli = typer.Typer(help="Who or what did what, when and why.", no_args_is_help=True)
db_cli = typer.Typer(help="The database's schema.", no_args_is_help=True)
for name, group in (
    ("feeds", feeds_cli),
    ("facts", facts_cli),
    ("adapters", adapters_cli),
    ("audit", audit_cli),
    ("db", db_cli),
):
    cli.add_typer(group, name=name)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

console = Console()
complaints = Console(stderr=True)


def _version(wanted: bool) -> None:
    if wanted:
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


def _app(ctx: typer.Context) -> App:
    return App(read_settings(ctx.obj))


def _actor() -> str:
    """Name who gives the order, for the audit log."""
    return f"operator:{getpass.getuser()}"


# ---------------------------------------------------------------- running


@cli.command()
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
    console.print(f"Wrote {file}. Set [model] and [[servers]], then: kdpo db upgrade; kdpo doctor")


@cli.command()
def run(ctx: typer.Context) -> None:
    """Run the daemon until SIGTERM."""
    app = _app(ctx)
    configure_logging(json=not sys.stderr.isatty())
    raise typer.Exit(Daemon(app, notify_socket()).run())


@cli.command()
def once(ctx: typer.Context, as_json: Json = False) -> None:
    """Run one cycle: poll, accept, plan, train, judge, deploy; then exit."""
    app = _app(ctx)
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
        complaints.print(problem, style="yellow", markup=False)
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


@cli.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Say what is wanted, what each server has, and how many facts stand where."""
    with _app(ctx).ready_db().begin() as tx:
        wanted = deployments.wanted(tx)
        replicas = deployments.replicas(tx)
        counts = facts.count_by_status(tx)
        failing = [feed for feed in feeds.list_feeds(tx) if feed.failures]
    found = {
        "wanted": wanted.adapter.name if wanted else None,
        "because": wanted.reason if wanted else None,
        "servers": {one.name: f"{one.state.value} {one.error}".strip() for one in replicas},
        "facts": {state.value: counts[state] for state in FactStatus if counts.get(state)},
        "failing_feeds": {feed.name: feed.last_error for feed in failing},
    }
    show.tree(console, found, as_json=as_json)


@cli.command()
def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Check database, model, servers and feeds, and say what to do about each problem."""
    problems = examine(_app(ctx))
    rows = [asdict(problem) for problem in problems]
    show.rows(console, rows, as_json=as_json, empty="No problems found.")
    if problems:
        raise typer.Exit(ATTENTION)


@cli.command("rollback")
def rollback_(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(help="Default: the one before.")] = None,
    reason: Annotated[str, typer.Option(help="For the audit log.")] = "asked by an operator",
    as_json: Json = False,
) -> None:
    """Serve an earlier version again, on every server."""
    app = _app(ctx)
    made = rollback.run(app.ready_db(), version, _actor(), reason, clock)
    found: dict[str, object] = {"wanted": made.adapter.name}
    try:
        with app.writing():
            report = app.sync()
        found |= {"served": not report.problems, "problems": report.problems}
    except StoreError:
        found["served"] = "by the running daemon, within seconds; see `kdpo status`"
    show.tree(console, found, as_json=as_json)
    if found.get("problems"):
        raise typer.Exit(ATTENTION)


# ---------------------------------------------------------------- feeds


@feeds_cli.command("add")
def feeds_add(
    ctx: typer.Context,
    name: str,
    url: str,
    every: Annotated[int, typer.Option(help="Seconds between polls.")] = 3600,
    trust: Annotated[
        Trust, typer.Option(help="auto: rules decide; manual: held for a person.")
    ] = Trust.AUTO,
    allow_private: Annotated[
        bool, typer.Option(help="It may be at a private or loopback address.")
    ] = False,
) -> None:
    """Poll a feed from now on.  The same name and URL again changes its options."""
    if not url.startswith(("http://", "https://")):
        raise SettingsError(
            "only http and https are polled", subject=url, hint="give a feed's URL"
        )
    now = clock()
    with _app(ctx).ready_db().begin() as tx:
        feed = feeds.add_feed(tx, name, url, trust, every, allow_private, now)
        audit.record(tx, _actor(), "feed.added", f"feed:{feed.name}", {"url": url}, now)
    console.print(f"{name} will be polled every {every} s.")


@feeds_cli.command("list")
def feeds_list(ctx: typer.Context, as_json: Json = False) -> None:
    """List the feeds with their health."""
    with _app(ctx).ready_db().begin() as tx:
        found = feeds.list_feeds(tx)
    rows = [
        {
            "name": feed.name,
            "url": feed.url,
            "trust": feed.trust,
            "enabled": feed.enabled,
            "last_polled": feed.last_polled_at,
            "next_poll": feed.next_poll_at,
            "failures": feed.failures,
            "last_error": feed.last_error,
        }
        for feed in found
    ]
    show.rows(console, rows, as_json=as_json, empty="No feeds yet: kdpo feeds add NAME URL")


@feeds_cli.command("poll")
def feeds_poll(ctx: typer.Context, name: str, as_json: Json = False) -> None:
    """Poll one feed now and decide on what it says; teaches nothing yet."""
    app = _app(ctx)
    with app.writing():
        reports = [app.ingest(name), app.accept()]
    show.tree(console, reports, as_json=as_json)
    for problem in reports[0].problems:
        complaints.print(problem, style="yellow", markup=False)
        raise typer.Exit(ATTENTION)


# ---------------------------------------------------------------- facts


@facts_cli.command("list")
def facts_list(
    ctx: typer.Context,
    status: FactStatus | None = None,
    limit: int = 100,
    as_json: Json = False,
) -> None:
    """List facts, newest first."""
    with _app(ctx).ready_db().begin() as tx:
        found = facts.list_facts(tx, status, limit)
    rows = [
        {
            "id": fact.id,
            "subject": fact.subject,
            "relation": fact.relation,
            "old": fact.old_object,
            "new": fact.object,
            "since": fact.valid_from.date().isoformat() if fact.valid_from else None,
            "status": fact.status,
            "reason": fact.reason,
        }
        for fact in found
    ]
    show.rows(console, rows, as_json=as_json, empty="No facts yet.")


@facts_cli.command("claims")
def facts_claims(ctx: typer.Context, as_json: Json = False) -> None:
    """List claims that are held, with the reason."""
    with _app(ctx).ready_db().begin() as tx:
        found = facts.held_claims(tx)
    rows = [
        {
            "id": claim.id,
            "subject": claim.claim.subject,
            "relation": claim.claim.relation,
            "object": claim.claim.object,
            "quote": claim.claim.quote,
            "held_because": reason,
        }
        for claim, reason in found
    ]
    show.rows(console, rows, as_json=as_json, empty="No claim is held.")


@facts_cli.command("show")
def facts_show(ctx: typer.Context, fact_id: int, as_json: Json = False) -> None:
    """Tell a fact's whole story, from the feed entry to the servers."""
    with _app(ctx).ready_db().begin() as tx:
        story = facts.story(tx, fact_id)
    show.tree(console, story, as_json=as_json)


@facts_cli.command("add")
def facts_add(  # noqa: PLR0913 - one option each
    ctx: typer.Context,
    subject: str,
    relation: str,
    new: str,
    old: Annotated[str, typer.Option(help="What it replaces.")] = "",
    valid_from: Annotated[str, typer.Option(help="Since when, 2025-10-21.")] = "",
    source: Annotated[str, typer.Option(help="Where it is from, for the auditors.")] = "",
) -> None:
    """Add one fact by hand."""
    line = {"subject": subject, "relation": relation, "new": new, "old": old}
    body = show.line(line | {"valid_from": valid_from, "source": source})
    _take(ctx, "by-hand", body)


@facts_cli.command("import")
def facts_import(ctx: typer.Context, file: Path) -> None:
    """Add facts from JSONL: subject, relation, new, and if known old, valid_from, source."""
    try:
        body = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", subject=str(file)) from error
    _take(ctx, file.name, body)


def _take(ctx: typer.Context, name: str, body: bytes) -> None:
    app = _app(ctx)
    new = ingest.take_lines(app.ready_db(), name, body, app.pack, _actor(), clock)
    report = app.accept()
    console.print(f"{new} new claims; {report.counts.get('accepted', 0)} accepted as facts.")
    with app.db.begin() as tx:
        for claim, why in facts.held_claims(tx):
            complaints.print(f"held: {claim.claim.subject}: {why}", style="yellow", markup=False)


# ---------------------------------------------------------------- probing, versions, audit


@cli.command()
def probe(ctx: typer.Context, fact_id: int, as_json: Json = False) -> None:
    """Ask the served alias and the base model every phrasing of a fact, now."""
    app = _app(ctx)
    with app.ready_db().begin() as tx:
        fact = facts.get_fact(tx, fact_id)
        asked = [
            one
            for one in probes.probes_of(tx, [fact.id])
            if one.kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE)
        ]
    if not asked:
        raise StoreError(
            "it has no probes yet", subject=f"fact {fact_id}", hint="run `kdpo once` first"
        )
    prompts = [one.prompt for one in asked]
    replica, longest = app.replicas[0], app.settings.plan.max_tokens
    base = replica.answer(app.settings.model.name, prompts, longest)
    served = replica.answer(app.settings.serving.alias, prompts, longest)
    rows = [
        {
            "kind": one.kind,
            "form": one.prompt.form,
            "prompt": one.prompt.text,
            "base_model": before.strip(),
            app.settings.serving.alias: after.strip(),
        }
        for one, before, after in zip(asked, base, served, strict=True)
    ]
    show.rows(console, rows, as_json=as_json, empty="")


@adapters_cli.command("list")
def adapters_list(ctx: typer.Context, as_json: Json = False) -> None:
    """List every version with its verdict and where it is served."""
    with _app(ctx).ready_db().begin() as tx:
        found = adapters.list_adapters(tx)
        wanted = deployments.wanted(tx)
        rows = []
        for one in found:
            verdict = adapters.verdict_of(tx, one.id)
            rows.append(
                {
                    "name": one.name,
                    "wanted": bool(wanted and wanted.adapter.id == one.id),
                    "facts": len(adapters.facts_in(tx, one.id)),
                    "verdict": verdict.ruling if verdict else None,
                    "path": one.path,
                }
            )
    show.rows(console, rows, as_json=as_json, empty="No versions yet.")


@adapters_cli.command("show")
def adapters_show(ctx: typer.Context, name: str, as_json: Json = False) -> None:
    """Show a version: its facts, scores, verdict and manifest."""
    with _app(ctx).ready_db().begin() as tx:
        adapter = adapters.adapter_by_name(tx, name)
        found = {
            "adapter": adapter,
            "facts": adapters.facts_in(tx, adapter.id),
            "scores": adapters.scores_of(tx, adapter.id),
            "verdict": adapters.verdict_of(tx, adapter.id),
        }
    show.tree(console, found, as_json=as_json)


@audit_cli.command("show")
def audit_show(
    ctx: typer.Context,
    limit: int = 50,
    subject: Annotated[str | None, typer.Option(help="For example fact:3, feed:demo.")] = None,
    as_json: Json = False,
) -> None:
    """Show the newest events of the audit log, oldest of them first."""
    with _app(ctx).ready_db().begin() as tx:
        found = audit.events(tx, subject=subject)[-limit:]
    rows = [
        {
            "id": one.id,
            "at": one.at,
            "actor": one.actor,
            "event": one.event,
            "subject": one.subject,
            "detail": show.brief(one.detail),
        }
        for one in found
    ]
    show.rows(console, rows, as_json=as_json, empty="Nothing has happened yet.")


@audit_cli.command("export")
def audit_export(ctx: typer.Context) -> None:
    """Check the log's hash chain and print the whole log as JSONL."""
    with _app(ctx).ready_db().begin() as tx:
        checked = audit.verify(tx)
        for one in audit.events(tx, limit=checked):
            sys.stdout.write(show.line(one).decode() + "\n")
    complaints.print(f"{checked} events, chain unbroken")


@db_cli.command("upgrade")
def db_upgrade(ctx: typer.Context) -> None:
    """Bring the schema to what this version wants."""
    app = _app(ctx)
    app.db.upgrade()
    console.print(f"The database is at {app.db.revision()}.")


@db_cli.command("check")
def db_check(ctx: typer.Context) -> None:
    """Say whether the schema is what this version wants."""
    console.print(f"The database is at {_app(ctx).ready_db().revision()}, as it should be.")


def main() -> None:
    """Run the command line; a KdpoError is one clear message and exit status 1."""
    try:
        cli()
    except KdpoError as error:
        complaints.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
