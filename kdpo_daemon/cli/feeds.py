"""Commands about feeds."""

from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.app import clock
from kdpo_daemon.cli.options import ATTENTION, Json, actor, app_of, complain, console
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records import Trust
from kdpo_daemon.store import audit, feeds

cli = typer.Typer(help="Where changed facts come from.", no_args_is_help=True)


@cli.command("add")
def add(
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
    with app_of(ctx).ready_db().begin() as tx:
        feed = feeds.add_feed(tx, name, url, trust, every, allow_private, now)
        audit.record(tx, actor(), "feed.added", f"feed:{feed.name}", {"url": url}, now)
    console.print(f"{name} will be polled every {every} s.")


@cli.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the feeds with their health."""
    with app_of(ctx).ready_db().begin() as tx:
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


@cli.command("poll")
def poll(ctx: typer.Context, name: str, as_json: Json = False) -> None:
    """Poll one feed now and decide on what it says; teaches nothing yet."""
    app = app_of(ctx)
    with app.writing():
        reports = [app.ingest(name), app.accept()]
    show.tree(console, reports, as_json=as_json)
    for problem in reports[0].problems:
        complain(problem)
        raise typer.Exit(ATTENTION)
