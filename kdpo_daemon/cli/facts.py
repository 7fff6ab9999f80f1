"""Commands about claims and facts."""

from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.app import clock
from kdpo_daemon.cli.options import Json, actor, app_of, complain, console
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.stages import ingest
from kdpo_daemon.store import claims, facts, revocations, stories

cli = typer.Typer(help="What is true, and how far it has got.", no_args_is_help=True)


@cli.command("list")
def list_(
    ctx: typer.Context,
    status: FactStatus | None = None,
    limit: int = 100,
    as_json: Json = False,
) -> None:
    """List facts, newest first."""
    with app_of(ctx).ready_db().begin() as tx:
        found = facts.list_facts(tx, status, limit)
        taught = revocations.taught_by(tx)
    rows = [
        {
            "id": fact.id,
            "subject": fact.subject,
            "relation": fact.relation,
            "old": fact.old_object,
            "new": fact.object,
            "since": fact.valid_from.date().isoformat() if fact.valid_from else None,
            "status": fact.status,
            "reason": revocations.told(fact, taught),
        }
        for fact in found
    ]
    show.rows(console, rows, as_json=as_json, empty="No facts yet.")


@cli.command("claims")
def claims_(ctx: typer.Context, as_json: Json = False) -> None:
    """List claims that are held, with the reason."""
    with app_of(ctx).ready_db().begin() as tx:
        found = claims.held_claims(tx)
    rows = [
        {
            "id": claim.id,
            "subject": claim.claim.subject,
            "relation": claim.claim.relation,
            "object": claim.claim.object,
            "feed": claim.source,
            "quote": claim.claim.quote,
            "read_by": claim.claim.extractor,
            "held_because": reason,
        }
        for claim, reason in found
    ]
    show.rows(console, rows, as_json=as_json, empty="No claim is held.")


@cli.command("show")
def show_(ctx: typer.Context, fact_id: int, as_json: Json = False) -> None:
    """Tell a fact's whole story, from the feed entry to the servers."""
    with app_of(ctx).ready_db().begin() as tx:
        story = stories.story(tx, fact_id)
    show.tree(console, story, as_json=as_json)


@cli.command("add")
def add(  # noqa: PLR0913 - one option each
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


@cli.command("import")
def import_(ctx: typer.Context, file: Path) -> None:
    """Add facts from JSONL: subject, relation, new, and if known old, valid_from, source."""
    try:
        body = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", subject=str(file)) from error
    _take(ctx, file.name, body)


def _take(ctx: typer.Context, name: str, body: bytes) -> None:
    app = app_of(ctx)
    new = ingest.take_lines(app.ready_db(), name, body, app.pack, actor(), clock)
    report = app.accept()
    console.print(f"{new} new claims; {report.counts.get('accepted', 0)} accepted as facts.")
    with app.db.begin() as tx:
        for claim, why in claims.held_claims(tx):
            complain(f"held: {claim.claim.subject}: {why}")
