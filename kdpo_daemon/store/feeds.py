"""Feeds, and what becomes of their polls.  Fetching and parsing are done elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.intake import (
    Claim,
    Entry,
    Feed,
    FeedKind,
    Fetched,
    IngestCounts,
    Page,
    Trust,
)
from kdpo_daemon.store import entries, pages
from kdpo_daemon.store.rows import found, record_of
from kdpo_daemon.store.tables import FeedRow


def add_feed(  # noqa: PLR0913 one argument per column
    tx: Session,
    name: str,
    url: str,
    trust: Trust,
    every_s: int,
    allow_private: bool,
    now: datetime,
    kind: str = FeedKind.FEED,
    options: Mapping[str, object] | None = None,
) -> Feed:
    """Give the feed, made or brought to these settings; due at once if new.

    Where it has moved is forgotten: who adds it again means the URL that is given.
    StoreError when the name belongs to another URL or kind.
    """
    row = _by_name(tx, name)
    if row is None:
        row = FeedRow(
            name=name,
            url=url,
            trust=trust,
            every_s=every_s,
            allow_private=allow_private,
            enabled=True,
            next_poll_at=now,
            kind=str(kind),
        )
    elif (row.url, row.kind) != (url, kind):
        raise StoreError(
            f"the name belongs to {row.url}, of kind {row.kind}",
            subject=f"feed {name}",
            hint="Choose another name for another URL or kind",
        )
    if row.every_s != every_s:
        row.interval_s = None
    row.trust, row.every_s, row.allow_private = trust, every_s, allow_private
    row.options, row.moved_to = dict(options or {}), None
    tx.add(row)
    tx.flush()
    return record_of(Feed, row)


def import_feed(tx: Session, name: str, trust: Trust, now: datetime) -> Feed:
    """Give the feed that stands for an imported file: it is never polled."""
    feed = add_feed(tx, name, f"file:{name}", trust, 0, False, now)
    row = _row(tx, feed.id)
    row.enabled = False
    tx.flush()
    return record_of(Feed, row)


def list_feeds(tx: Session) -> list[Feed]:
    """Give all feeds by name."""
    rows = tx.exec(select(FeedRow).order_by(FeedRow.name))
    return [record_of(Feed, row) for row in rows]


def get_feed(tx: Session, name: str) -> Feed:
    """Give a feed; StoreError, with the names that exist, when there is none."""
    row = _by_name(tx, name)
    if row is None:
        names = ", ".join(feed.name for feed in list_feeds(tx))
        raise StoreError(
            "no such feed", subject=f"feed {name}", hint=f"Known feeds: {names or 'none'}"
        )
    return record_of(Feed, row)


def lock_webhook(tx: Session, name: str) -> Feed | None:
    """Give a feed that is posted to, held for this transaction; None if there is none."""
    row = tx.exec(
        select(FeedRow)
        .where(FeedRow.name == name, FeedRow.kind == FeedKind.WEBHOOK, col(FeedRow.enabled))
        .with_for_update()
    ).first()
    return record_of(Feed, row) if row else None


def due_feeds(tx: Session, now: datetime) -> list[Feed]:
    """Give the feeds whose time to be polled has come, the longest waiting first."""
    rows = tx.exec(
        select(FeedRow)
        .where(
            col(FeedRow.enabled),
            FeedRow.next_poll_at <= now,
            FeedRow.kind != FeedKind.WEBHOOK,  # it is posted to
        )
        .order_by(col(FeedRow.next_poll_at), col(FeedRow.id))
    )
    return [record_of(Feed, row) for row in rows]


def record_poll(  # noqa: PLR0913 one argument per thing to put down
    tx: Session,
    feed_id: int,
    fetched: Fetched,
    said: Sequence[tuple[Entry, Sequence[Claim]]],
    now: datetime,
    next_poll_at: datetime,
    page: Page | None = None,
) -> IngestCounts:
    """Put down a poll that went well: new wordings with their claims, and when to poll again.

    The document is kept if an entry is new or reads otherwise than before.  `page` is what to
    remember of one of the feed's URLs, validators included; without it they are the feed's own.
    Gives how many entries were new, changed and the same.
    """
    feed = _row(tx, feed_id)
    if page:
        pages.remember(tx, feed_id, page)
    else:
        feed.etag, feed.last_modified = fetched.etag, fetched.last_modified
    feed.last_polled_at, feed.next_poll_at = now, next_poll_at
    feed.failures, feed.last_error = 0, None
    return entries.save(tx, record_of(Feed, feed), fetched, said, now)


def record_failure(
    tx: Session, feed_id: int, error: str, now: datetime, next_poll_at: datetime, disable: bool
) -> None:
    """Put down a poll that failed and when to try again; `disable` stops polling for good."""
    feed = _row(tx, feed_id)
    feed.last_error, feed.last_polled_at, feed.next_poll_at = error, now, next_poll_at
    feed.failures += 1
    feed.enabled = feed.enabled and not disable


def set_pace(tx: Session, feed_id: int, interval_s: int, next_poll_at: datetime) -> None:
    """Put down how often a feed is polled from now on, and when next."""
    feed = _row(tx, feed_id)
    feed.interval_s, feed.next_poll_at = interval_s, next_poll_at


def move(tx: Session, feed_id: int, to: str | None) -> bool:
    """Put down where a feed has moved for good, None: nowhere; tell whether that is new."""
    feed = _row(tx, feed_id)
    before, feed.moved_to = feed.moved_to, None if to == feed.url else to
    return before != feed.moved_to


def complain(tx: Session, feed_id: int, error: str) -> None:
    """Put down that a poll, which went well, refused something; the next one clears it."""
    _row(tx, feed_id).last_error = error


def pause(tx: Session, feed_ids: Sequence[int], until: datetime) -> int:
    """Poll none of these feeds before `until`; give how many would have been."""
    later = update(FeedRow).where(col(FeedRow.id).in_(feed_ids), col(FeedRow.next_poll_at) < until)
    return tx.connection().execute(later.values(next_poll_at=until)).rowcount


def _by_name(tx: Session, name: str) -> FeedRow | None:
    return tx.exec(select(FeedRow).where(FeedRow.name == name)).first()


def _row(tx: Session, feed_id: int) -> FeedRow:
    return found(tx.get(FeedRow, feed_id), f"feed:{feed_id}")
