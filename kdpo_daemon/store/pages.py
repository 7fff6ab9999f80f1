"""What is remembered of each URL of a feed, and which are to be read.  No history."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import delete, exists
from sqlmodel import Session, col, select

from kdpo_daemon.records.intake import Page, Waiting
from kdpo_daemon.store.rows import record_of
from kdpo_daemon.store.tables import PageRow, WaitingRow


def pages_of(tx: Session, feed_id: int) -> dict[str, Page]:
    """Give what is remembered of a feed's URLs, by URL."""
    waiting: dict[int, dict[str, Waiting]] = {}
    for row in tx.exec(select(WaitingRow).join(PageRow).where(PageRow.feed_id == feed_id)):
        waiting.setdefault(row.page_id, {})[row.key] = record_of(Waiting, row)
    pages = tx.exec(select(PageRow).where(PageRow.feed_id == feed_id).order_by(col(PageRow.id)))
    return {page.url: record_of(Page, page, waiting=waiting.get(page.id, {})) for page in pages}


def want(tx: Session, feed_id: int, pages: Sequence[Page]) -> None:
    """Put down that pages are to be read; what is known of them stays."""
    for page in pages:
        row = _page_row(tx, feed_id, page.url)
        if row:
            row.wanted = True
        else:
            remember(tx, feed_id, replace(page, wanted=True))


def forget_idle(tx: Session, feed_id: int, before: datetime) -> None:
    """Drop followed pages that were read last before a time, and of which nothing waits."""
    idle = delete(PageRow).where(
        col(PageRow.feed_id) == feed_id,
        col(PageRow.looked_at) < before,
        ~col(PageRow.wanted),
        ~exists().where(col(WaitingRow.page_id) == PageRow.id),
    )
    tx.connection().execute(idle)


def forget(tx: Session, feed_id: int, urls: Collection[str]) -> None:
    """Forget what was read of URLs that a feed has no longer."""
    gone = col(PageRow.feed_id) == feed_id, col(PageRow.url).in_(urls)
    waiting = col(WaitingRow.page_id).in_(select(PageRow.id).where(*gone))
    tx.connection().execute(delete(WaitingRow).where(waiting))
    tx.connection().execute(delete(PageRow).where(*gone))


def remember(tx: Session, feed_id: int, page: Page) -> None:
    """Put down what was read of a URL, in the place of what was known of it."""
    row = _page_row(tx, feed_id, page.url) or PageRow(feed_id=feed_id, url=page.url)
    row.etag, row.last_modified, row.values = page.etag, page.last_modified, dict(page.values)
    row.before, row.wanted, row.looked_at = page.before, page.wanted, page.looked_at
    tx.add(row)
    tx.flush()
    tx.connection().execute(delete(WaitingRow).where(col(WaitingRow.page_id) == row.id))
    for key, waiting in page.waiting.items():
        tx.add(WaitingRow(page_id=row.id, key=key, **asdict(waiting)))
    tx.flush()


def _page_row(tx: Session, feed_id: int, url: str) -> PageRow | None:
    return tx.exec(select(PageRow).where(PageRow.feed_id == feed_id, PageRow.url == url)).first()
