"""Decided claims, and facts.  The rules are in `facts/acceptance.py`."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func
from sqlmodel import Session, col, or_, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import Decision, Fact, FactStatus
from kdpo_daemon.records.intake import Ruling
from kdpo_daemon.store import deployments
from kdpo_daemon.store.rows import folded, found, record_of
from kdpo_daemon.store.tables import ClaimRow, DocumentRow, EntryRow, FactRow

#: Where a fact stays in its group: what a person lets go once more did harm among others.
_GROUPED = frozenset({FactStatus.PENDING, FactStatus.PLANNED, FactStatus.QUARANTINED})


def decide(tx: Session, claim_id: int, decision: Decision, now: datetime) -> int | None:
    """Put down a decision; give the id of the fact that an accepted claim became.

    Accepted and rejected are final: a further decision changes nothing.
    """
    row = tx.get(ClaimRow, claim_id, populate_existing=True, with_for_update=True)
    claim = found(row, f"claim:{claim_id}")
    if claim.ruling in (Ruling.ACCEPTED, Ruling.REJECTED):
        return tx.exec(select(FactRow.id).where(FactRow.claim_id == claim_id)).first()
    if (claim.ruling, claim.reason) == (decision.ruling, decision.reason):
        return None
    claim.ruling, claim.reason, claim.decided_at = decision.ruling, decision.reason, now
    return _make_fact(tx, claim, decision, now) if decision.ruling is Ruling.ACCEPTED else None


def get_fact(tx: Session, fact_id: int) -> Fact:
    """Give a fact; StoreError when there is none."""
    return record_of(Fact, found(tx.get(FactRow, fact_id), f"fact:{fact_id}"))


def list_facts(
    tx: Session, status: FactStatus | None = None, limit: int | None = None
) -> list[Fact]:
    """Give the newest facts, of one status or of all."""
    query = select(FactRow).order_by(col(FactRow.id).desc()).limit(limit)
    if status is not None:
        query = query.where(FactRow.status == status)
    return [record_of(Fact, row) for row in tx.exec(query)]


def slots(tx: Session) -> frozenset[tuple[str, str]]:
    """Give every subject and relation of which there are facts."""
    return frozenset(tx.exec(select(FactRow.subject, FactRow.relation).distinct()))


def count_by_status(tx: Session) -> dict[FactStatus, int]:
    """Give how many facts there are of each status; a status without facts is left out."""
    query = select(FactRow.status, func.count()).group_by(col(FactRow.status))
    return {FactStatus(status): number for status, number in tx.exec(query)}


def facts_with(tx: Session, status: FactStatus) -> list[Fact]:
    """Give all facts of one status, oldest first."""
    return _facts(tx, FactRow.status == status)


def pending_facts(tx: Session, now: datetime, limit: int) -> list[Fact]:
    """Give the facts that may go into a batch now, oldest first."""
    not_before = col(FactRow.not_before)
    may_go = and_(
        col(FactRow.status) == FactStatus.PENDING, or_(not_before.is_(None), not_before <= now)
    )
    return _facts(tx, may_go, limit)


def group(tx: Session, fact_ids: Sequence[int]) -> None:
    """Have these facts taught together, and with no others, until that has worked."""
    number = (tx.exec(select(func.max(FactRow.together))).one() or 0) + 1
    _put(tx, fact_ids, number)


def ungroup(tx: Session, fact_ids: Sequence[int]) -> None:
    """Let these facts be taught with any others again."""
    _put(tx, fact_ids, None)


def set_fact_status(  # noqa: PLR0913 one argument per column
    tx: Session,
    fact_ids: Sequence[int],
    status: FactStatus,
    reason: str,
    now: datetime,
    *,
    not_before: datetime | None = None,
    failed_attempt: bool = False,
) -> None:
    """Move facts to a status, with the reason; `failed_attempt` counts one attempt more.

    Superseded and revoked facts stay so, and a fact that is so already is not counted twice.
    Only a fact that may be taught again stays in its group.
    """
    after = (status, reason, not_before)
    for row in tx.exec(select(FactRow).where(col(FactRow.id).in_(fact_ids))):
        same = after == (row.status, row.reason, row.not_before)
        if same or row.status in _ENDED:
            continue
        row.status, row.reason, row.not_before = after
        row.changed_at = now
        row.attempts += failed_attempt
        if status not in _GROUPED:
            row.together = None
    tx.flush()


def hold(tx: Session, fact_id: int, reason: str, now: datetime) -> None:
    """Keep a pending fact out of the next batches.  StoreError if it has got further."""
    _move(tx, fact_id, (FactStatus.PENDING,), FactStatus.QUARANTINED, reason, now)


def release(tx: Session, fact_id: int, reason: str, now: datetime) -> None:
    """Let a fact that waits for a person into the next batch.  StoreError if it does not wait."""
    waits = (FactStatus.QUARANTINED, FactStatus.ROLLED_BACK)
    _move(tx, fact_id, waits, FactStatus.PENDING, reason, now)


def end(tx: Session, fact_id: int, reason: str, now: datetime) -> None:
    """End a fact that no server answers with; what it had replaced stands again, and is pending.

    Raises:
        StoreError: it is in a batch or served.

    """
    taken_back = (
        FactStatus.PENDING,
        FactStatus.KNOWN,
        FactStatus.QUARANTINED,
        FactStatus.ROLLED_BACK,
    )
    _move(tx, fact_id, taken_back, FactStatus.SUPERSEDED, reason, now)
    stand_again(tx, fact_id, now)


def stand_again(tx: Session, fact_id: int, now: datetime) -> None:
    """Let what a fact had replaced stand again, now that the fact has ended.

    What the wanted version teaches still is live, and has to be taught again with the others; the
    rest is pending.
    """
    tx.flush()  # first, so that the slot is free
    taught = deployments.facts_wanted(tx)
    for row in tx.exec(select(FactRow).where(FactRow.superseded_by == fact_id)):
        row.status = FactStatus.LIVE if row.id in taught else FactStatus.PENDING
        row.superseded_by, row.changed_at = None, now
        row.reason, row.not_before = f"fact {fact_id} was taken back", None
    tx.flush()


def _put(tx: Session, fact_ids: Sequence[int], number: int | None) -> None:
    for row in tx.exec(select(FactRow).where(col(FactRow.id).in_(fact_ids))):
        row.together = number
    tx.flush()


def _facts(
    tx: Session, wanted: ColumnElement[bool] | bool, limit: int | None = None
) -> list[Fact]:
    rows = tx.exec(select(FactRow).where(wanted).order_by(col(FactRow.id)).limit(limit))
    return [record_of(Fact, row) for row in rows]


def _move(
    tx: Session,
    fact_id: int,
    out_of: Sequence[FactStatus],
    to: FactStatus,
    reason: str,
    now: datetime,
) -> None:
    fact = get_fact(tx, fact_id)
    if fact.status not in out_of:
        raise StoreError(
            f"is {fact.status.value}; this can be done while it is {' or '.join(out_of)}",
            subject=f"fact:{fact_id}",
            hint=_REMEDY.get(fact.status, "See `kdpo facts show`"),
        )
    set_fact_status(tx, [fact_id], to, reason, now)


#: What a fact stays, whatever becomes of the batches and versions that it is in.
_ENDED = (FactStatus.SUPERSEDED, FactStatus.REVOKED)

_REMEDY = {
    FactStatus.PLANNED: "Wait until its batch is through, or revoke it: `kdpo facts revoke`",
    FactStatus.LIVE: "Revoke it: `kdpo facts revoke`; or take its whole version back first:"
    " `kdpo rollback`",
    FactStatus.REVOKED: "That is for good; `kdpo facts add` tells it anew",
}


def _make_fact(tx: Session, claim: ClaimRow, decision: Decision, now: datetime) -> int:
    old = tx.get(FactRow, decision.supersedes) if decision.supersedes else None
    if old:  # first, so that the slot is free
        old.status, old.reason, old.changed_at = FactStatus.SUPERSEDED, decision.reason, now
        old.together = None
        tx.flush()
    fact = FactRow(
        claim_id=claim.id,
        subject=claim.subject,
        subject_key=folded(claim.subject),
        relation=claim.relation,
        role=claim.role,
        object=claim.object,
        object_key=folded(claim.object) if decision.beside else "",
        old_object=claim.old_object or (old.object if old else ""),
        valid_from=claim.valid_from,
        observed_at=_observed_at(tx, claim),
        status=FactStatus.PENDING,
        reason=decision.reason,
        changed_at=now,
    )
    tx.add(fact)
    tx.flush()
    if old:
        old.superseded_by = fact.id
    return fact.id


def _observed_at(tx: Session, claim: ClaimRow) -> datetime:
    return tx.exec(
        select(DocumentRow.fetched_at)
        .join(EntryRow, col(EntryRow.document_id) == DocumentRow.id)
        .where(EntryRow.id == claim.entry_id)
    ).one()
