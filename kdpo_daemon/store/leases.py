"""Leases: one daemon writes at a time, and a successor can tell its writes from the former's."""

from datetime import datetime, timedelta

from sqlmodel import Session

from kdpo_daemon.errors import LeaseHeldError
from kdpo_daemon.records.serving import Lease
from kdpo_daemon.store.db import LEASE_LOCK, lock
from kdpo_daemon.store.rows import record_of
from kdpo_daemon.store.tables import LeaseRow

NOBODY = ""


def acquire(tx: Session, name: str, holder: str, now: datetime, ttl_s: float) -> Lease:
    """Give the lease; LeaseHeldError while another holds it.

    `fencing` grows unless the holder still had it; `holder` must name one process only.
    """
    row = _row(tx, name) or LeaseRow(name=name, holder=NOBODY, expires_at=now, fencing=0)
    free = row.holder == NOBODY or row.expires_at <= now
    if not free and row.holder != holder:
        raise LeaseHeldError(
            f"held by {row.holder} until {row.expires_at.isoformat()}",
            subject=f"lease {name}",
            hint="Stop the other daemon, or wait until then",
        )
    row.fencing += free
    row.holder, row.expires_at = holder, now + timedelta(seconds=ttl_s)
    tx.add(row)
    tx.flush()
    return record_of(Lease, row)


def renew(tx: Session, lease: Lease, now: datetime, ttl_s: float) -> Lease:
    """Give the lease with a later end; LeaseHeldError when another took it meanwhile."""
    row = _row(tx, lease.name)
    if row is None or (row.holder, row.fencing) != (lease.holder, lease.fencing):
        raise LeaseHeldError(
            f"lost to {row.holder or 'nobody'}" if row else "lost",
            subject=f"lease {lease.name}",
            hint="Another daemon has taken over; this one must stop writing",
        )
    row.expires_at = now + timedelta(seconds=ttl_s)
    tx.flush()
    return record_of(Lease, row)


def release(tx: Session, lease: Lease) -> None:
    """Give the lease up, if it is still held; its fencing number is kept."""
    row = _row(tx, lease.name)
    if row and (row.holder, row.fencing) == (lease.holder, lease.fencing):
        row.holder = NOBODY


def _row(tx: Session, name: str) -> LeaseRow | None:
    lock(tx, LEASE_LOCK)
    return tx.get(LeaseRow, name)
