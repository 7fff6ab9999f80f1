"""Entries that a model reads: which wait, and what became of each.  Asks no model."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.records.intake import (
    Claim,
    Entry,
    Extract,
    ExtractionState,
    FeedKind,
    RawFact,
    WaitingEntry,
)
from kdpo_daemon.store.rows import folded, found, record_of
from kdpo_daemon.store.tables import ClaimRow, EntryRow, ExtractionRow, FeedRow


def enqueue(tx: Session, entry: EntryRow, now: datetime) -> None:
    """Let a model read a wording of an entry; an earlier one that still waits is not read."""
    older = tx.exec(
        select(ExtractionRow)
        .join(EntryRow, col(ExtractionRow.entry_id) == EntryRow.id)
        .where(EntryRow.feed_id == entry.feed_id, EntryRow.key == entry.key)
        .where(ExtractionRow.state == ExtractionState.WAITING)
    )
    for row in older:
        row.state, row.error, row.ended_at = ExtractionState.GIVEN_UP, "its entry changed", now
    tx.add(ExtractionRow(entry_id=entry.id, not_before=now))
    tx.flush()


def waiting(tx: Session, now: datetime, limit: int) -> list[WaitingEntry]:
    """Give entries of feeds that a model reads whose time has come, the oldest first."""
    rows = tx.exec(
        select(ExtractionRow.attempts, EntryRow)
        .join(EntryRow, col(ExtractionRow.entry_id) == EntryRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .where(
            ExtractionRow.state == ExtractionState.WAITING,
            ExtractionRow.not_before <= now,
            FeedRow.kind == FeedKind.FEED,
            col(FeedRow.options)["extract"].as_string() == Extract.MODEL.value,
        )
        .order_by(col(ExtractionRow.not_before), col(ExtractionRow.entry_id))
        .limit(limit)
    )
    return [
        WaitingEntry(row.id, record_of(Entry, row, fact=_fact(row)), attempts)
        for attempts, row in rows
    ]


def last_error(tx: Session) -> str:
    """Give why the entry that waits longest was not read, or ""."""
    query = (
        select(ExtractionRow.error)
        .where(ExtractionRow.state == ExtractionState.WAITING, ExtractionRow.error != "")
        .order_by(col(ExtractionRow.entry_id))
    )
    return tx.exec(query.limit(1)).first() or ""


def put_off(tx: Session, entry_id: int, error: str, until: datetime, *, failed: bool) -> None:
    """Put down what went wrong, and when to try again; `failed` counts it as an answer."""
    row = _row(tx, entry_id)
    row.attempts += failed
    row.error, row.not_before = error, until


def give_up(tx: Session, entry_id: int, extractor: str, error: str, now: datetime) -> None:
    """Read an entry no more, and say why."""
    row = _row(tx, entry_id)
    row.attempts += 1
    row.state, row.extractor, row.error = ExtractionState.GIVEN_UP, extractor, error
    row.ended_at = now


def finish(
    tx: Session,
    entry_id: int,
    extractor: str,
    claims: Sequence[Claim],
    refused: Sequence[str],
    now: datetime,
) -> bool:
    """Put down what a model found in an entry; False, and nothing done, if it waits no more."""
    row = _row(tx, entry_id)
    if row.state is not ExtractionState.WAITING:
        return False
    row.attempts += 1
    row.state, row.extractor, row.error = ExtractionState.DONE, extractor, ""
    row.refused, row.ended_at = list(refused), now
    for claim in claims:
        tx.add(ClaimRow(entry_id=entry_id, subject_key=folded(claim.subject), **asdict(claim)))
        tx.flush()  # one by one, so that ids follow the order of the answer
    return True


def _row(tx: Session, entry_id: int) -> ExtractionRow:
    row = tx.get(ExtractionRow, entry_id, populate_existing=True, with_for_update=True)
    return found(row, f"entry:{entry_id}")


def _fact(row: EntryRow) -> RawFact | None:
    return RawFact(**row.fact) if row.fact else None
