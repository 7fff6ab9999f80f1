"""Commands about feeds."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from kdpo_daemon import packs, show
from kdpo_daemon.app import clock
from kdpo_daemon.cli.options import ATTENTION, Json, actor, app_of, complain, console
from kdpo_daemon.doctor import webhook_problems
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.folder import url_of
from kdpo_daemon.feeds.registry import kind_named
from kdpo_daemon.records.intake import Extract, FeedKind, Trust
from kdpo_daemon.store import audit, feeds

cli = typer.Typer(help="Where changed facts come from.", no_args_is_help=True)


@cli.command("add")
def add(  # noqa: PLR0913 - one option each
    ctx: typer.Context,
    name: str,
    url: Annotated[
        str,
        typer.Argument(help="Of a file feed, a folder. May be left out if the mapping names it."),
    ] = "",
    kind: Annotated[
        str,
        typer.Option(
            help="feed (RSS, Atom, JSON Feed), snapshot, wikidata, file, webhook, a plug-in's; "
            "or as mapped."
        ),
    ] = "",
    mapping: Annotated[
        str,
        typer.Option(
            help="What to read: a TOML file, or the name of a shipped one: factbook, wikidata."
        ),
    ] = "",
    every: Annotated[
        int,
        typer.Option(
            help="Seconds between polls; from half to four times of it as it changes.", min=1
        ),
    ] = 3600,
    trust: Annotated[
        Trust, typer.Option(help="auto: rules decide; manual: held for a person.")
    ] = Trust.AUTO,
    allow_private: Annotated[
        bool, typer.Option(help="It may be at a private or loopback address.")
    ] = False,
    extract: Annotated[
        Extract | None,
        typer.Option(
            help="How facts are found in the text of entries that carry none: patterns (default),"
            " model ([extraction] in kdpo.toml) or none.  What is found waits for a person."
        ),
    ] = None,
) -> None:
    """Poll a feed from now on, or let facts be posted to it (docs/feeds.md).

    The same name and URL again changes its options.
    """
    options = _mapping(mapping)
    kind = kind or str(options.get("kind", FeedKind.FEED))
    url = _address(kind, name, url or str(options.get("url", "")))
    rest = {key: value for key, value in options.items() if key not in ("kind", "url")}
    if kind == FeedKind.FEED:
        rest["extract"] = str(extract or rest.get("extract", Extract.PATTERNS))
    elif extract is not None:
        raise SettingsError(f"entries of kind {kind} have no text", subject=f"--extract {extract}")
    app, now = app_of(ctx), clock()
    if rest.get("extract") == Extract.MODEL and app.extractor is None:
        hint = "name its url and model in [extraction] of kdpo.toml"
        raise SettingsError("no model is configured", subject="--extract model", hint=hint)
    with app.ready_db().begin() as tx:
        feed = feeds.add_feed(tx, name, url, trust, every, allow_private, now, kind, rest)
        kind_named(kind).urls(feed)  # a mapping that cannot be used is refused now, not in a poll
        detail: dict[str, object] = {"url": url, "kind": kind}
        audit.record(tx, actor(), "feed.added", f"feed:{feed.name}", detail, now)
    if kind == FeedKind.WEBHOOK:
        if app.settings.webhook.listen:
            console.print(f"POST to http://{app.settings.webhook.listen}/feeds/{name}")
        for problem in webhook_problems(app, [feed]):
            complain(f"{problem.subject}: {problem.message}; {problem.hint}")
    else:
        console.print(f"{name} will be polled every {every} s.")


def _address(kind: str, name: str, place: str) -> str:
    """Give the URL that a feed of a kind is kept under.  SettingsError if it cannot be used."""
    if kind == FeedKind.WEBHOOK:
        if place:
            hint = "leave it out: facts are posted to this daemon"
            raise SettingsError("a webhook has no URL", subject=place, hint=hint)
        return f"webhook:{name}"
    if kind == FeedKind.FILE:
        if not place:
            raise SettingsError("wants a folder", subject=name, hint="give its path")
        return url_of(place, Path.cwd())
    if not place.startswith(("http://", "https://")):
        raise SettingsError(
            "only http and https are polled", subject=place or name, hint="give a feed's URL"
        )
    return place


@cli.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the feeds with their health."""
    with app_of(ctx).ready_db().begin() as tx:
        found = feeds.list_feeds(tx)
    rows = [
        {
            "name": feed.name,
            "kind": feed.kind,
            "url": feed.url,
            "moved_to": feed.moved_to,
            "trust": feed.trust,
            "extract": feed.extract,
            "enabled": feed.enabled,
            "last_polled": feed.last_polled_at,
            "next_poll": feed.next_poll_at,
            "interval_s": feed.pace_s,
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
        reports = [app.ingest(name), app.extract(), app.accept()]
    show.tree(console, reports, as_json=as_json)
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(ATTENTION)


def _mapping(name: str) -> dict[str, object]:
    """Read a mapping: a shipped one by its name, or a file.  {} when none is given."""
    if not name:
        return {}
    try:
        shipped = name in packs.mappings()
        text = packs.text(f"mappings/{name}.toml") if shipped else Path(name).read_text("utf-8")
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        hint = f"give a TOML file, or one of {', '.join(packs.mappings())}"
        raise SettingsError(f"cannot be read: {error}", subject=name, hint=hint) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"not valid TOML: {error}", subject=name) from error
