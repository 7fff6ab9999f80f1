"""Entries as they were worded, each with the document that it came in and its claims."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlmodel import Session, SQLModel, col, func, select

from kdpo_daemon.facts.claims import succeed
from kdpo_daemon.records.intake import Claim, Entry, Extract, Feed, Fetched, IngestCounts
from kdpo_daemon.store import extractions
from kdpo_daemon.store.rows import folded
from kdpo_daemon.store.tables import STANDING, ClaimRow, DocumentRow, EntryRow, FactRow

#: Keys asked for at once; databases bound how many values a statement takes.
_KEYS = 500


def save(
    tx: Session,
    feed: Feed,
    fetched: Fetched,
    said: Sequence[tuple[Entry, Sequence[Claim]]],
    now: datetime,
) -> IngestCounts:
    """Put down the entries that are new or read otherwise than before, and their document."""
    last = _last_wordings(tx, feed.id, [entry.key for entry, _ in said])
    news: list[_News] = []
    for entry, claims in said:
        before = last.get(entry.key)
        if before != entry.content_hash:
            news.append(_News(entry, claims, changed=before is not None))
        last[entry.key] = entry.content_hash  # a key may come twice in one document
    if news:
        _save_news(tx, feed, _save_document(tx, feed.id, fetched, now), news, now)
    changed = sum(one.changed for one in news)
    return IngestCounts(new=len(news) - changed, changed=changed, same=len(said) - len(news))


@dataclass(frozen=True)
class _News:
    """An entry that reads otherwise than before, or was not there, with its claims."""

    entry: Entry
    claims: Sequence[Claim]
    changed: bool


def _save_news(
    tx: Session, feed: Feed, document: DocumentRow, news: Sequence[_News], now: datetime
) -> None:
    rows = [_entry_row(document, one.entry) for one in news]
    _flushed(tx, rows)
    told: list[ClaimRow] = []
    for row, one in zip(rows, news, strict=True):
        taken_back = _taken_back(tx, feed.id, one.entry, one.claims) if one.changed else ()
        told += [_claim_row(row, claim) for claim in (*one.claims, *taken_back)]
        if feed.extract is Extract.MODEL and not one.entry.fact:
            extractions.enqueue(tx, row, now)
    _flushed(tx, told)


def _last_wordings(tx: Session, feed_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Give the content hash seen last by key: one that goes back to an earlier one is news."""
    found: dict[str, str] = {}
    for start in range(0, len(keys), _KEYS):
        newest = (
            select(func.max(EntryRow.id))
            .where(EntryRow.feed_id == feed_id, col(EntryRow.key).in_(keys[start : start + _KEYS]))
            .group_by(col(EntryRow.key))
        )
        wordings = select(EntryRow.key, EntryRow.content_hash)
        found |= dict(tx.exec(wordings.where(col(EntryRow.id).in_(newest))).all())
    return found


def _taken_back(
    tx: Session, feed_id: int, entry: Entry, claims: Sequence[Claim]
) -> Iterator[Claim]:
    """Give a claim for each standing fact that an entry does not assert any more.

    It says that what the fact replaced holds again.  Not so if only the subject has another
    name by now, as a country that was renamed: then the fact's value is what the entry calls old.
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
        if not said and not succeed(claims, fact.relation, fact.object):
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
    _flushed(tx, [row])
    return row


def _entry_row(document: DocumentRow, entry: Entry) -> EntryRow:
    return EntryRow(
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


def _claim_row(entry: EntryRow, claim: Claim) -> ClaimRow:
    return ClaimRow(entry_id=entry.id, subject_key=folded(claim.subject), **asdict(claim))


def _flushed(tx: Session, rows: Sequence[SQLModel]) -> None:
    """Insert rows; their ids follow their order, as that of the document does."""
    tx.add_all(rows)
    tx.flush()
