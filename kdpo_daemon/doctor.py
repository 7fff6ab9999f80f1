"""Checks everything the daemon needs, and says what to do about each problem.  Mends nothing."""

from collections.abc import Callable, Iterable

from kdpo_daemon.app import App
from kdpo_daemon.errors import KdpoError, SettingsError
from kdpo_daemon.model_dir import end_token_id, model_sha256
from kdpo_daemon.records.intake import Extract, Feed, FeedKind
from kdpo_daemon.serving import Problem, check
from kdpo_daemon.settings import webhook_key
from kdpo_daemon.store import deployments, extractions, feeds


def examine(app: App) -> list[Problem]:
    """Check everything; one failing check does not stop the others."""
    problems: list[Problem] = []
    for subject, act in (
        ("database", lambda: _database(app)),
        ("model", lambda: _model(app)),
        ("packs", lambda: _packs(app)),
        ("servers", lambda: _servers(app)),
        ("extraction", lambda: _extraction(app)),
    ):
        problems += _tried(subject, act)
    return problems


def _tried(subject: str, act: Callable[[], list[Problem]]) -> list[Problem]:
    try:
        return act()
    except KdpoError as error:
        return [Problem(error.subject or subject, error.message, error.hint)]


def _database(app: App) -> list[Problem]:
    with app.ready_db().begin() as tx:
        known = feeds.list_feeds(tx)
        states = deployments.replicas(tx)
    found = [
        Problem(f"feed {feed.name}", feed.last_error, "`kdpo feeds poll` tries again")
        for feed in known
        if feed.last_error
    ]
    found += webhook_problems(app, known)
    found += [
        Problem(f"server {one.name}", one.error, "the daemon goes on trying")
        for one in states
        if one.error
    ]
    return found


def webhook_problems(app: App, added: Iterable[Feed]) -> list[Problem]:
    """Say what keeps posts to webhooks from being taken."""
    names = [feed.name for feed in added if feed.kind == FeedKind.WEBHOOK]
    found: list[Problem] = []
    if names and not app.settings.webhook.listen:
        hint = 'set [webhook] listen, such as "127.0.0.1:9465"'
        found.append(Problem("webhook.listen", "no post is taken", hint))
    for name in names:
        try:
            webhook_key(app.settings.webhook, name)
        except SettingsError as error:
            found.append(Problem(f"feed {name}", error.message, error.hint))
    return found


def _model(app: App) -> list[Problem]:
    end_token_id(app.settings.model.path)
    model_sha256(app.settings.model.path)
    return []


def _packs(app: App) -> list[Problem]:
    app.curriculum  # noqa: B018 - reading it is the check
    return []


def _extraction(app: App) -> list[Problem]:
    with app.ready_db().begin() as tx:
        feeds_ = [one.name for one in feeds.list_feeds(tx) if one.extract is Extract.MODEL]
        stuck = extractions.last_error(tx)
    found = []
    if feeds_ and app.extractor is None:
        hint = "name its url and model in [extraction] of kdpo.toml"
        found = [Problem(f"feed {name}", "its entries wait for a model", hint) for name in feeds_]
    if stuck:
        found.append(Problem("extraction", stuck, "its entries wait; the daemon goes on trying"))
    return found


def _servers(app: App) -> list[Problem]:
    serving = app.settings.serving
    found: list[Problem] = []
    for replica in app.replicas:
        rank = app.settings.serving.max_rank
        found += check(replica, rank, serving.adapters, serving.mode)
    return found
