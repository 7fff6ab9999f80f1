"""Feeds, their documents and entries.  Fetching and parsing are done elsewhere."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import delete, exists, update
from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.facts.claims import still_name
from kdpo_daemon.records.intake import (
    Claim,
    Entry,
    Extract,
    Feed,
    FeedKind,
    Fetched,
    IngestCounts,
    Page,
    Trust,
    Waiting,
)
from kdpo_daemon.store import extractions
from kdpo_daemon.store.rows import folded, found, record_of
from kdpo_daemon.store.tables import (
    STANDING,
    ClaimRow,
    DocumentRow,
    EntryRow,
    FactRow,
    FeedRow,
    PageRow,
    WaitingRow,
)


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
    row.trust, row.every_s, row.allow_private = trust, every_s, allow_private
    row.options = dict(options or {})
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


def pages_of(tx: Session, feed_id: int) -> dict[str, Page]:
    """Give what is remembered of a feed's URLs, by URL."""
    waiting: dict[int, dict[str, Waiting]] = {}
    for row in tx.exec(select(WaitingRow).join(PageRow).where(PageRow.feed_id == feed_id)):
        waiting.setdefault(row.page_id, {})[row.key] = record_of(Waiting, row)
    pages = tx.exec(select(PageRow).where(PageRow.feed_id == feed_id).order_by(col(PageRow.id)))
    return {page.url: record_of(Page, page, waiting=waiting.get(page.id, {})) for page in pages}


def want_pages(tx: Session, feed_id: int, pages: Sequence[Page]) -> None:
    """Put down that pages are to be read; what is known of them stays."""
    for page in pages:
        row = _page_row(tx, feed_id, page.url)
        if row:
            row.wanted = True
        else:
            _remember(tx, feed_id, replace(page, wanted=True))


def forget_idle_pages(tx: Session, feed_id: int, before: datetime) -> None:
    """Drop followed pages that were read last before a time, and of which nothing waits."""
    idle = delete(PageRow).where(
        col(PageRow.feed_id) == feed_id,
        col(PageRow.looked_at) < before,
        ~col(PageRow.wanted),
        ~exists().where(col(WaitingRow.page_id) == PageRow.id),
    )
    tx.connection().execute(idle)


def record_poll(  # noqa: PLR0913 one argument per thing to put down
    tx: Session,
    feed_id: int,
    fetched: Fetched,
    entries: Sequence[tuple[Entry, Sequence[Claim]]],
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
        _remember(tx, feed_id, page)
    else:
        feed.etag, feed.last_modified = fetched.etag, fetched.last_modified
    feed.last_polled_at, feed.next_poll_at = now, next_poll_at
    feed.failures, feed.last_error = 0, None
    counts = {"new": 0, "changed": 0, "same": 0}
    document: DocumentRow | None = None
    for entry, claims in entries:
        news = _news(tx, feed_id, entry)
        counts[news] += 1
        if news != "same":
            document = document or _save_document(tx, feed_id, fetched, now)
            taken_back = _taken_back(tx, feed_id, entry, claims) if news == "changed" else []
            row = _save_entry(tx, document, entry, [*claims, *taken_back])
            if record_of(Feed, feed).extract is Extract.MODEL and not entry.fact:
                extractions.enqueue(tx, row, now)
    return IngestCounts(**counts)


def record_failure(
    tx: Session, feed_id: int, error: str, now: datetime, next_poll_at: datetime, disable: bool
) -> None:
    """Put down a poll that failed and when to try again; `disable` stops polling for good."""
    feed = _row(tx, feed_id)
    feed.last_error, feed.last_polled_at, feed.next_poll_at = error, now, next_poll_at
    feed.failures += 1
    feed.enabled = feed.enabled and not disable


def complain(tx: Session, feed_id: int, error: str) -> None:
    """Put down that a poll, which went well, refused something; the next one clears it."""
    _row(tx, feed_id).last_error = error


def forget_pages(tx: Session, feed_id: int, urls: Collection[str]) -> None:
    """Forget what was read of URLs that a feed has no longer."""
    gone = col(PageRow.feed_id) == feed_id, col(PageRow.url).in_(urls)
    waiting = col(WaitingRow.page_id).in_(select(PageRow.id).where(*gone))
    tx.connection().execute(delete(WaitingRow).where(waiting))
    tx.connection().execute(delete(PageRow).where(*gone))


def pause(tx: Session, feed_ids: Sequence[int], until: datetime) -> int:
    """Poll none of these feeds before `until`; give how many would have been."""
    later = update(FeedRow).where(col(FeedRow.id).in_(feed_ids), col(FeedRow.next_poll_at) < until)
    return tx.connection().execute(later.values(next_poll_at=until)).rowcount


def _by_name(tx: Session, name: str) -> FeedRow | None:
    return tx.exec(select(FeedRow).where(FeedRow.name == name)).first()


def _row(tx: Session, feed_id: int) -> FeedRow:
    return found(tx.get(FeedRow, feed_id), f"feed:{feed_id}")


def _remember(tx: Session, feed_id: int, page: Page) -> None:
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


def _news(tx: Session, feed_id: int, entry: Entry) -> str:
    """Compare with the wording seen last: an entry that goes back to an earlier one is news."""
    last = tx.exec(
        select(EntryRow.content_hash)
        .where(EntryRow.feed_id == feed_id, EntryRow.key == entry.key)
        .order_by(col(EntryRow.id).desc())
        .limit(1)
    ).first()
    if last == entry.content_hash:
        return "same"
    return "changed" if last else "new"


def _taken_back(
    tx: Session, feed_id: int, entry: Entry, claims: Sequence[Claim]
) -> Iterator[Claim]:
    """Give a claim for each standing fact that an entry does not assert any more.

    It says that what the fact replaced holds again.  Not so if only the subject has another
    name by now, as a country that was renamed: then the entry names the fact's value still.
    """
    slots = {(folded(claim.subject), claim.relation) for claim in claims}
    gave = tx.exec(
        select(FactRow)
        .join(ClaimRow, col(FactRow.claim_id) == ClaimRow.id)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .where(EntryRow.feed_id == feed_id, EntryRow.key == entry.key, STANDING)
        # that a headline reads otherwise by now is no retraction
        .where(ClaimRow.extractor == "")
    )
    for fact in gave:
        said = (fact.subject_key, fact.relation) in slots
        if not said and not still_name(claims, fact.relation, fact.object):
            before = tx.exec(select(FactRow).where(FactRow.superseded_by == fact.id)).first()
            yield Claim(
                subject=fact.subject,
                relation=fact.relation,
                role=fact.role,
                object=fact.old_object,
                old_object=fact.object,
                valid_from=before.valid_from if before else None,
                quote="",
                note="taken back by its entry",
            )


def _save_document(tx: Session, feed_id: int, fetched: Fetched, now: datetime) -> DocumentRow:
    body = fetched.body or b""
    row = DocumentRow(
        feed_id=feed_id,
        url=fetched.url,
        fetched_at=now,
        sha256=hashlib.sha256(body).hexdigest(),
        content_type=fetched.content_type,
        body=body,
    )
    tx.add(row)
    tx.flush()
    return row


def _save_entry(
    tx: Session, document: DocumentRow, entry: Entry, claims: Sequence[Claim]
) -> EntryRow:
    row = EntryRow(
        document_id=document.id,
        feed_id=document.feed_id,
        key=entry.key,
        content_hash=entry.content_hash,
        title=entry.title,
        link=entry.link,
        published_at=entry.published_at,
        summary=entry.summary,
        fact=asdict(entry.fact) if entry.fact else None,
    )
    tx.add(row)
    tx.flush()
    for claim in claims:
        tx.add(ClaimRow(entry_id=row.id, subject_key=folded(claim.subject), **asdict(claim)))
        tx.flush()  # one by one, so that ids follow the order of the entry
    return row
