"""Commands about what was made and what was done: probe, adapters, audit, db."""

import sys
from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.cli.options import Json, app_of, complaints, console
from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.teaching import ProbeKind
from kdpo_daemon.store import adapters, audit, deployments, facts, probes

adapters_cli = typer.Typer(help="The versions that were made.", no_args_is_help=True)
audit_cli = typer.Typer(help="Who or what did what, when and why.", no_args_is_help=True)
db_cli = typer.Typer(help="The database's schema.", no_args_is_help=True)


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    cli.command()(probe)
    cli.add_typer(adapters_cli, name="adapters")
    cli.add_typer(audit_cli, name="audit")
    cli.add_typer(db_cli, name="db")


def probe(ctx: typer.Context, fact_id: int, as_json: Json = False) -> None:
    """Ask the served alias and the base model every phrasing of a fact, now."""
    app = app_of(ctx)
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
    replica, longest = app.canary(), app.settings.plan.max_tokens
    base = replica.answer(app.settings.model.name, prompts, longest)
    served = replica.answer(app.served_name(), prompts, longest)
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
    with app_of(ctx).ready_db().begin() as tx:
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
                    "deleted": one.deleted_at,
                    "path": one.path,
                }
            )
    show.rows(console, rows, as_json=as_json, empty="No versions yet.")


@adapters_cli.command("show")
def adapters_show(ctx: typer.Context, name: str, as_json: Json = False) -> None:
    """Show a version: its facts, scores, verdict and manifest."""
    with app_of(ctx).ready_db().begin() as tx:
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
    with app_of(ctx).ready_db().begin() as tx:
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
    with app_of(ctx).ready_db().begin() as tx:
        checked = audit.verify(tx)
        for one in audit.events(tx, limit=checked):
            sys.stdout.write(show.line(one).decode() + "\n")
    complaints.print(f"{checked} events, chain unbroken")


@db_cli.command("upgrade")
def db_upgrade(ctx: typer.Context) -> None:
    """Bring the schema to what this version wants."""
    app = app_of(ctx)
    app.db.upgrade()
    console.print(f"The database is at {app.db.revision()}.")


@db_cli.command("check")
def db_check(ctx: typer.Context) -> None:
    """Say whether the schema is what this version wants."""
    console.print(f"The database is at {app_of(ctx).ready_db().revision()}, as it should be.")
