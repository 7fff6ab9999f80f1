"""The audit log: append-only, each line sealed with the hash of the one before."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.serving import AuditEvent
from kdpo_daemon.store.db import AUDIT_LOCK, lock
from kdpo_daemon.store.rows import record_of
from kdpo_daemon.store.tables import AuditRow

FIRST = "0" * 64  # what the first line names as the hash before it


def record(
    tx: Session,
    actor: str,
    event: str,
    subject: str,
    detail: Mapping[str, object],
    now: datetime,
) -> None:
    """Append a line; `detail` must be fit for JSON.

    Call it last in a transaction: on PostgreSQL other writers to the log wait from here on.
    """
    lock(tx, AUDIT_LOCK)
    last = tx.exec(select(AuditRow.hash).order_by(col(AuditRow.id).desc()).limit(1)).first()
    row = AuditRow(
        at=now.astimezone(UTC),
        actor=actor,
        event=event,
        subject=subject,
        detail=json.dumps(detail, sort_keys=True, allow_nan=False),
        prev_hash=last or FIRST,
        hash="",
    )
    row.hash = _seal(row)
    tx.add(row)
    tx.flush()


def events(
    tx: Session, after: int = 0, limit: int | None = None, subject: str | None = None
) -> list[AuditEvent]:
    """Give the lines that follow line `after`, about one subject or all, oldest first."""
    query = select(AuditRow).where(AuditRow.id > after).order_by(col(AuditRow.id)).limit(limit)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    return [record_of(AuditEvent, row, detail=json.loads(row.detail)) for row in tx.exec(query)]


def verify(tx: Session) -> int:
    """Give how many lines there are; StoreError names the first one that was tampered with.

    Lines cut off at the end leave no trace here: compare the count, or the last hash, with one
    that was kept elsewhere.
    """
    before, count = FIRST, 0
    for row in tx.exec(select(AuditRow).order_by(col(AuditRow.id))):
        if row.prev_hash != before:
            raise _broken(row, "does not follow the line before it")
        if row.hash != _seal(row):
            raise _broken(row, "was changed after it was written")
        before, count = row.hash, count + 1
    return count


def _seal(row: AuditRow) -> str:
    line = [row.prev_hash, row.at.isoformat(), row.actor, row.event, row.subject, row.detail]
    return hashlib.sha256(json.dumps(line).encode()).hexdigest()


def _broken(row: AuditRow, message: str) -> StoreError:
    return StoreError(
        message,
        subject=f"audit line {row.id}",
        hint="Compare the database with a backup; lines up to here are as they were written",
    )
