"""Claims that wait, what was said about their slots, and a person's word on them."""

from collections import Counter, defaultdict
from collections.abc import Set
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import and_, case, exists, func, tuple_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import Fact, FactStatus, Said, Slot, Standing
from kdpo_daemon.records.intake import Claim, OpenClaim, Ruling
from kdpo_daemon.store.rows import folded, found, record_of
from kdpo_daemon.store.tables import STANDING, ClaimRow, DocumentRow, EntryRow, FactRow, FeedRow

#: Folded subject and relation.
SlotKey = tuple[str, str]
#: Claims of one slot that the rules look back at.
_LOOK_BACK = 100
_FINAL = (Ruling.ACCEPTED, Ruling.REJECTED)


def open_claims(tx: Session, limit: int | None = None) -> list[OpenClaim]:
    """Give claims that wait for a decision, oldest first.

    Beyond `limit`, claims held without an approval give way: they have had their turn.
    """
    waiting = and_(col(ClaimRow.ruling) == Ruling.HELD, col(ClaimRow.approved_by) == "")
    rows = tx.exec(
        select(ClaimRow, EntryRow.key, FeedRow, DocumentRow.fetched_at)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(DocumentRow, col(EntryRow.document_id) == DocumentRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .where(col(ClaimRow.ruling).in_([Ruling.OPEN, Ruling.HELD]))
        .order_by(case((waiting, 1), else_=0), col(ClaimRow.id))
        .limit(limit)
    ).all()
    return sorted((_open(*row) for row in rows), key=lambda claim: claim.id)


def held_claims(tx: Session) -> list[tuple[OpenClaim, str]]:
    """Give the claims that are held, each with the reason, oldest first."""
    reasons = dict(
        tx.exec(select(ClaimRow.id, ClaimRow.reason).where(ClaimRow.ruling == Ruling.HELD)).all()
    )
    return [(one, reasons[one.id]) for one in open_claims(tx) if one.id in reasons]


def slot_of(tx: Session, subject: str, relation: str) -> Slot:
    """Give what stands in a slot and what was said about it of late."""
    [slot] = slots_of(tx, {slot_key(subject, relation)}).values()
    return slot


def slots_of(tx: Session, keys: Set[SlotKey]) -> dict[SlotKey, Slot]:
    """Give many slots at once: a few hundred, of which memory holds all."""
    standing, said = _standing(tx, keys), _said(tx, keys)
    return {key: Slot(tuple(standing[key]), tuple(said[key])) for key in keys}


def slot_key(subject: str, relation: str) -> SlotKey:
    """Give what a slot is found by."""
    return folded(subject), relation


def accepted_since(tx: Session, since: datetime) -> Counter[tuple[str, str]]:
    """Give how many claims the rules alone accepted from feeds, by feed and relation."""
    rows = tx.exec(
        select(FeedRow.name, ClaimRow.relation, func.count())
        .select_from(ClaimRow)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .where(
            col(ClaimRow.decided_at) >= since,
            ClaimRow.ruling == Ruling.ACCEPTED,
            ClaimRow.approved_by == "",
            FeedRow.every_s > 0,
        )
        .group_by(col(FeedRow.name), col(ClaimRow.relation))
    )
    return Counter({(source, relation): count for source, relation, count in rows})


def outcome(tx: Session, claim_id: int) -> tuple[Ruling, str]:
    """Give what became of a claim, and why."""
    row = found(tx.get(ClaimRow, claim_id), f"claim:{claim_id}")
    return row.ruling, row.reason


def waiting_from(tx: Session, feed: str) -> list[int]:
    """Give the claims of a feed that are held."""
    return [one.id for one, _ in held_claims(tx) if one.source == feed]


# ---------------------------------------------------------------- a person's word


def approve(tx: Session, claim_id: int, by: str, now: datetime) -> None:
    """Put down that a person lets a claim through; the next accept stage looks at it.

    Raises:
        StoreError: it is decided already.

    """
    row = _undecided(tx, claim_id)
    if row.approved_by != by:
        row.approved_by, row.approved_at, row.held_by = by, now, ""


def hold(tx: Session, claim_id: int, by: str, now: datetime) -> None:
    """Let a claim wait until a person approves or rejects it; `by` may say why.

    Raises:
        StoreError: it is decided already.

    """
    row = _undecided(tx, claim_id)
    row.held_by, row.approved_by, row.approved_at = by, "", None
    row.ruling, row.reason, row.decided_at = Ruling.HELD, f"held by {by}", now


def reject(tx: Session, claim_id: int, reason: str, now: datetime) -> None:
    """End a claim for good.  StoreError if it is decided already."""
    row = _undecided(tx, claim_id)
    row.ruling, row.reason, row.decided_at = Ruling.REJECTED, reason, now


def _undecided(tx: Session, claim_id: int) -> ClaimRow:
    row = tx.get(ClaimRow, claim_id, populate_existing=True, with_for_update=True)
    claim = found(row, f"claim:{claim_id}")
    if claim.ruling not in _FINAL:
        return claim
    fact = tx.exec(select(FactRow.id).where(FactRow.claim_id == claim_id)).first()
    raise StoreError(
        f"is {claim.ruling.value} already: {claim.reason}",
        subject=f"claim:{claim_id}",
        hint=f"it became fact:{fact}; name that" if fact else "its entry has to say so again",
    )


# ---------------------------------------------------------------- rows -> records


def claim_of(row: ClaimRow) -> Claim:
    """Give the claim of a row."""
    names = {"aliases": tuple(row.aliases), "old_aliases": tuple(row.old_aliases)}
    return record_of(Claim, row, **names)


def _open(row: ClaimRow, key: str, feed: FeedRow, observed_at: datetime) -> OpenClaim:
    return OpenClaim(
        id=row.id,
        claim=claim_of(row),
        trust=feed.trust,
        observed_at=observed_at,
        approved_by=row.approved_by,
        held_by=row.held_by,
        source=feed.name,
        publisher=_publisher(feed.name, feed.url),
        key=key,
        by_hand=feed.every_s == 0,
        held=row.reason if row.ruling is Ruling.HELD else "",
    )


def _publisher(name: str, url: str) -> str:
    """Two feeds of one host are one publisher; what has no host speaks for itself."""
    return urlsplit(url).hostname or name


def _standing(tx: Session, keys: Set[SlotKey]) -> dict[SlotKey, list[Standing]]:
    rows = tx.exec(
        select(FactRow, FeedRow.name, EntryRow.key, ClaimRow.aliases)
        .join(ClaimRow, col(FactRow.claim_id) == ClaimRow.id)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .where(tuple_(col(FactRow.subject_key), col(FactRow.relation)).in_(keys), STANDING)
        .order_by(col(FactRow.id))
    )
    found: dict[SlotKey, list[Standing]] = defaultdict(list)
    for row, source, key, aliases in rows:
        standing = Standing(record_of(Fact, row), source, key, tuple(aliases))
        found[row.subject_key, row.relation].append(standing)
    return found


def _said(tx: Session, keys: Set[SlotKey]) -> dict[SlotKey, list[Said]]:
    slot = (col(ClaimRow.subject_key), col(ClaimRow.relation))
    place = func.row_number().over(partition_by=slot, order_by=col(ClaimRow.id).desc())
    placed = select(ClaimRow.id, place.label("place")).where(tuple_(*slot).in_(keys)).subquery()
    rows = tx.exec(
        select(ClaimRow, EntryRow, FeedRow, DocumentRow.fetched_at)
        .join(placed, placed.c.id == ClaimRow.id)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(DocumentRow, col(EntryRow.document_id) == DocumentRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .where(placed.c.place <= _LOOK_BACK)
        .order_by(col(ClaimRow.id))
    ).all()
    reworded = _reworded(tx, {entry.id for _, entry, _, _ in rows})
    revoked = _revoked(tx, {claim.id for claim, _, _, _ in rows})
    found: dict[SlotKey, list[Said]] = defaultdict(list)
    for claim, entry, feed, seen in rows:
        found[claim.subject_key, claim.relation].append(
            record_of(
                Said,
                claim,
                observed_at=seen,
                source=feed.name,
                publisher=_publisher(feed.name, feed.url),
                key=entry.key,
                current=entry.id not in reworded,
                aliases=tuple(claim.aliases),
                revoked=claim.id in revoked,
            )
        )
    return found


def _revoked(tx: Session, claim_ids: set[int]) -> set[int]:
    """Give those claims whose facts a person took back."""
    ended = select(FactRow.claim_id).where(FactRow.status == FactStatus.REVOKED)
    return set(tx.exec(ended.where(col(FactRow.claim_id).in_(claim_ids))))


def _reworded(tx: Session, entry_ids: set[int]) -> set[int]:
    """Give those wordings of entries that are not the newest of theirs."""
    later = aliased(EntryRow)
    newer = exists().where(
        col(later.feed_id) == EntryRow.feed_id,
        col(later.key) == EntryRow.key,
        col(later.id) > EntryRow.id,
    )
    return set(tx.exec(select(EntryRow.id).where(col(EntryRow.id).in_(entry_ids), newer)))
