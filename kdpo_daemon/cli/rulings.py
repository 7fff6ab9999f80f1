"""A person's word on claims and facts: approve, reject, hold, revoke."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from kdpo_daemon import show
from kdpo_daemon.app import App, clock
from kdpo_daemon.cli.options import ATTENTION, Json, actor, app_of, complain, console
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.intake import Ruling
from kdpo_daemon.stages import revoke as revoke_stage
from kdpo_daemon.store import audit, claims, facts, revocations
from kdpo_daemon.store.db import Session

_IDS = "Numbers of `kdpo facts claims`; fact:12 is number 12 of `kdpo facts list`."
_FACT_IDS = "Numbers of `kdpo facts list`."
FactIds = Annotated[list[str], typer.Argument(metavar="ID...", help=_FACT_IDS)]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help=_IDS)]
Feed = Annotated[str, typer.Option("--feed", help="Also every claim of this feed that is held.")]
Why = Annotated[str, typer.Option("--reason", help="For the audit log.")]


@dataclass(frozen=True)
class _Order:
    """What a person wants done: with which claims and facts, by whom, why and when."""

    claims: tuple[int, ...]
    facts: tuple[int, ...]
    by: str
    reason: str
    now: datetime

    @property
    def word(self) -> str:
        """Who says so, and why."""
        return f"{self.by}: {self.reason}" if self.reason else self.by


def add_to(cli: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (approve, reject, hold, revoke):
        cli.command()(command)


def approve(
    ctx: typer.Context,
    ids: Ids = None,
    feed: Feed = "",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Let held claims through, and facts that wait for a person into the next batch.

    What the rules reject stays rejected, and a claim without an object or with an unknown
    relation stays held: exit status 3.
    """
    app = app_of(ctx)
    with app.ready_db().begin() as tx:
        order = _order(tx, ids, feed, reason)
        for claim_id in order.claims:
            claims.approve(tx, claim_id, order.by, order.now)
        for fact_id in order.facts:
            facts.release(tx, fact_id, f"approved by {order.word}", order.now)
        _record(tx, order, "approved")
    app.accept()
    _tell(app, order, Ruling.ACCEPTED, as_json=as_json)


def reject(
    ctx: typer.Context,
    ids: Ids = None,
    feed: Feed = "",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """End claims for good, and facts that no server answers with.

    What a fact had replaced stands again.  A fact in service is ended with `kdpo facts revoke`.
    """
    app = app_of(ctx)
    with app.ready_db().begin() as tx:
        order = _order(tx, ids, feed, reason)
        for claim_id in order.claims:
            claims.reject(tx, claim_id, f"rejected by {order.word}", order.now)
        for fact_id in order.facts:
            facts.end(tx, fact_id, f"rejected by {order.word}", order.now)
        _record(tx, order, "rejected")
    _tell(app, order, Ruling.REJECTED, as_json=as_json)


def hold(
    ctx: typer.Context,
    ids: Ids = None,
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Let claims that would pass wait, and pending facts stay out of the next batch.

    They wait until they are approved or rejected.
    """
    app = app_of(ctx)
    with app.ready_db().begin() as tx:
        order = _order(tx, ids, "", reason)
        for claim_id in order.claims:
            claims.hold(tx, claim_id, order.word, order.now)
        for fact_id in order.facts:
            facts.hold(tx, fact_id, f"held by {order.word}", order.now)
        _record(tx, order, "held")
    _tell(app, order, Ruling.HELD, as_json=as_json)


def revoke(
    ctx: typer.Context,
    ids: FactIds,
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Take facts out of service for good; all others stay.

    The next cycle makes a version without them; what they had replaced stands again.  Until
    servers have that version they still answer with the facts, and `kdpo status` says so.
    """
    app = app_of(ctx)
    numbers = tuple(dict.fromkeys(_fact(one) for one in ids))
    revoke_stage.run(app.ready_db(), numbers, actor(), reason, clock)
    with app.db.begin() as tx:
        taught = revocations.taught_by(tx)
        rows = [
            _row(f"fact:{one.id}", one.status.value, revocations.told(one, taught))
            for one in (facts.get_fact(tx, number) for number in numbers)
        ]
    show.rows(console, rows, as_json=as_json, empty="")


def _order(tx: Session, ids: list[str] | None, feed: str, reason: str) -> _Order:
    parsed = [_parsed(one) for one in dict.fromkeys(ids or [])]
    claim_ids = [number for kind, number in parsed if kind == "claim"]
    if feed:
        claim_ids += claims.waiting_from(tx, feed)
    if not parsed and not feed:
        raise typer.BadParameter("name a claim or a fact", param_hint="ID")
    return _Order(
        claims=tuple(dict.fromkeys(claim_ids)),
        facts=tuple(number for kind, number in parsed if kind == "fact"),
        by=actor(),
        reason=reason,
        now=clock(),
    )


def _parsed(said: str) -> tuple[str, int]:
    kind, _, number = said.rpartition(":")
    if kind not in ("", "claim", "fact") or not number.isdecimal():
        raise SettingsError("is no number of a claim or a fact", subject=said, hint=_IDS)
    return kind or "claim", int(number)


def _fact(said: str) -> int:
    kind, number = _parsed(said if ":" in said else f"fact:{said}")
    if kind != "fact":
        raise SettingsError("is a claim; only facts are revoked", subject=said, hint=_FACT_IDS)
    return number


def _record(tx: Session, order: _Order, what: str) -> None:
    detail: dict[str, object] = {"reason": order.reason}
    for kind, ids in (("claim", order.claims), ("fact", order.facts)):
        for one in ids:
            audit.record(tx, order.by, f"{kind}.{what}", f"{kind}:{one}", detail, order.now)


def _tell(app: App, order: _Order, wanted: Ruling, *, as_json: bool) -> None:
    """Say what became of each; exit status 3 if that is not what was wanted."""
    with app.db.begin() as tx:
        decided = {one: claims.outcome(tx, one) for one in order.claims}
        moved = {one: facts.get_fact(tx, one) for one in order.facts}
    rows = [_row(f"claim:{one}", ruling.value, why) for one, (ruling, why) in decided.items()]
    rows += [_row(f"fact:{one}", fact.status.value, fact.reason) for one, fact in moved.items()]
    show.rows(console, rows, as_json=as_json, empty="No claim is held.")
    missed = [
        f"claim:{one}: {why}" for one, (ruling, why) in decided.items() if ruling is not wanted
    ]
    for problem in missed:
        complain(problem)
    if missed:
        raise typer.Exit(ATTENTION)


def _row(name: str, state: str, why: str) -> dict[str, object]:
    return {"id": name, "is": state, "because": why}
