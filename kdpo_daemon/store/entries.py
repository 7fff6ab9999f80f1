"""Entries as they were worded, each with the document that it came in and its claims."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.facts.claims import succeed
from kdpo_daemon.records.intake import Claim, Entry, Extract, Feed, Fetched, IngestCounts
from kdpo_daemon.store import extractions
from kdpo_daemon.store.rows import folded
from kdpo_daemon.store.tables import STANDING, ClaimRow, DocumentRow, EntryRow, FactRow


def save(
    tx: Session,
    feed: Feed,
    fetched: Fetched,
    said: Sequence[tuple[Entry, Sequence[Claim]]],
    now: datetime,
) -> IngestCounts:
    """Put down the entries that are new or read otherwise than before, and their document."""
    counts = {"new": 0, "changed": 0, "same": 0}
    document: DocumentRow | None = None
    for entry, claims in said:
        news = _news(tx, feed.id, entry)
        counts[news] += 1
        if news != "same":
            document = document or _save_document(tx, feed.id, fetched, now)
            taken_back = _taken_back(tx, feed.id, entry, claims) if news == "changed" else []
            row = _save_entry(tx, document, entry, [*claims, *taken_back])
            if feed.extract is Extract.MODEL and not entry.fact:
                extractions.enqueue(tx, row, now)
    return IngestCounts(**counts)


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
