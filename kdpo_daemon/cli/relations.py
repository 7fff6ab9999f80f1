"""Commands about relations: what can be believed and taught."""

from collections import Counter

import typer

from kdpo_daemon import show
from kdpo_daemon.cli.options import ATTENTION, Json, app_of, console
from kdpo_daemon.facts.gaps import Gap, gaps
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.store import claims

cli = typer.Typer(help="What facts can be about.", no_args_is_help=True)


@cli.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the relations that are known, the shipped ones and your own."""
    rows = [
        {
            "name": relation.name,
            "subject_type": relation.subject_type,
            "object_type": relation.object_type,
            "property": relation.property,
            "several_values": not relation.functional,
            "stands_days": relation.stands_days,
            "phrasings": len(relation.train.completion) + len(relation.train.chat),
            "patterns": len(relation.patterns),
        }
        for relation in app_of(ctx).pack.relations.values()
    ]
    show.rows(console, rows, as_json=as_json, empty="No relations.")


@cli.command("check")
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Say what is missing in the packs: exit status 3 if anything is.

    A pack that cannot be used at all is an error that names the key: exit status 1.  Claims that
    are held because no pack knows their relation are counted too.
    """
    app = app_of(ctx)
    with app.ready_db().begin() as tx:
        held = Counter(claim.claim.relation for claim, _ in claims.held_claims(tx))
    found = [*_unknown(held, app.pack), *gaps(app.pack)]
    rows = [{"where": gap.where, "missing": gap.missing} for gap in found]
    show.rows(console, rows, as_json=as_json, empty="Nothing is missing.")
    if found:
        raise typer.Exit(ATTENTION)


def _unknown(held: Counter[str], pack: Pack) -> list[Gap]:
    return [
        Gap(f"relations.{name}", f"{count} held claims are about it, and it is in no pack")
        for name, count in sorted(held.items())
        if name not in pack.relations
    ]
