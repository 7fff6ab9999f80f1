"""Posts to webhooks that were taken, each known by its publisher's key."""

from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.records.intake import Delivery
from kdpo_daemon.store.rows import record_of
from kdpo_daemon.store.tables import DeliveryRow


def find(tx: Session, feed_id: int, key: str) -> Delivery | None:
    """Give the delivery of a key, if there was one."""
    row = tx.exec(
        select(DeliveryRow).where(DeliveryRow.feed_id == feed_id, DeliveryRow.key == key)
    ).first()
    return record_of(Delivery, row) if row else None


def put(tx: Session, feed_id: int, delivery: Delivery) -> None:
    """Put down a delivery of a new key."""
    tx.add(
        DeliveryRow(
            feed_id=feed_id,
            key=delivery.key,
            body_sha256=delivery.body_sha256,
            answer=dict(delivery.answer),
            received_at=delivery.received_at,
        )
    )
    tx.flush()


def nth_latest(tx: Session, feed_id: int, n: int) -> datetime | None:
    """Give when the n-th latest delivery of a feed came (1: the latest); None if fewer did."""
    return tx.exec(
        select(DeliveryRow.received_at)
        .where(DeliveryRow.feed_id == feed_id)
        .order_by(col(DeliveryRow.received_at).desc())
        .offset(n - 1)
        .limit(1)
    ).first()
