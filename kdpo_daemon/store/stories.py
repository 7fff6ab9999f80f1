"""All that is on record about a fact or a claim, from its evidence to the servers; only reads."""

from sqlmodel import Session, col, select

from kdpo_daemon.records.intake import Ruling
from kdpo_daemon.records.stories import AskedAnswer, Evidence, FactStory, Teaching
from kdpo_daemon.store import adapters, claims, deployments
from kdpo_daemon.store.facts import get_fact
from kdpo_daemon.store.rows import found, record_of
from kdpo_daemon.store.tables import (
    AdapterFactRow,
    AdapterRow,
    AnswerRow,
    ClaimRow,
    DocumentRow,
    EntryRow,
    FactRow,
    FeedRow,
    ProbeRow,
)


def claims_with_evidence(tx: Session) -> list[tuple[Ruling, Evidence]]:
    """Give every claim with what became of it and where it is from, oldest first."""
    rows = tx.exec(
        select(ClaimRow, EntryRow, FeedRow, DocumentRow)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .join(DocumentRow, col(EntryRow.document_id) == DocumentRow.id)
        .order_by(col(ClaimRow.id))
    )
    return [
        (claim.ruling, _evidence(claim, entry, feed, document))
        for claim, entry, feed, document in rows
    ]


def story(tx: Session, fact_id: int) -> FactStory:
    """Give all that is on record about a fact, from its evidence to the servers."""
    claim, entry, feed, document = _origin(tx, fact_id)
    taught_by = tx.exec(
        select(AdapterFactRow.adapter_id)
        .where(AdapterFactRow.fact_id == fact_id)
        .order_by(col(AdapterFactRow.adapter_id))
    )
    return FactStory(
        fact=get_fact(tx, fact_id),
        evidence=_evidence(claim, entry, feed, document),
        answers=_asked(tx, fact_id),
        teachings=tuple(_teaching(tx, adapter_id) for adapter_id in taught_by),
    )


def _origin(tx: Session, fact_id: int) -> tuple[ClaimRow, EntryRow, FeedRow, DocumentRow]:
    row = tx.exec(
        select(ClaimRow, EntryRow, FeedRow, DocumentRow)
        .join(FactRow, col(FactRow.claim_id) == ClaimRow.id)
        .join(EntryRow, col(ClaimRow.entry_id) == EntryRow.id)
        .join(FeedRow, col(EntryRow.feed_id) == FeedRow.id)
        .join(DocumentRow, col(EntryRow.document_id) == DocumentRow.id)
        .where(FactRow.id == fact_id)
    ).first()
    claim, entry, feed, document = found(row, f"fact:{fact_id}")
    return claim, entry, feed, document


def _evidence(claim: ClaimRow, entry: EntryRow, feed: FeedRow, document: DocumentRow) -> Evidence:
    return record_of(
        Evidence,
        claim,
        feed=feed.name,
        url=document.url,
        fetched_at=document.fetched_at,
        sha256=document.sha256,
        key=entry.key,
        title=entry.title,
        link=entry.link,
        published_at=entry.published_at,
        claim=claims.claim_of(claim),
    )


def _asked(tx: Session, fact_id: int) -> tuple[AskedAnswer, ...]:
    rows = tx.exec(
        select(AnswerRow, ProbeRow, AdapterRow)
        .join(ProbeRow, col(AnswerRow.probe_id) == ProbeRow.id)
        .join(AdapterRow, col(AnswerRow.adapter_id) == AdapterRow.id, isouter=True)
        .where(ProbeRow.fact_id == fact_id)
        .order_by(col(AnswerRow.asked_at), col(AnswerRow.id))
    )
    return tuple(
        record_of(
            AskedAnswer,
            answer,
            kind=probe.kind,
            form=probe.form,
            prompt=probe.prompt,
            adapter=adapter.name if adapter else "",
        )
        for answer, probe, adapter in rows
    )


def _teaching(tx: Session, adapter_id: int) -> Teaching:
    adapter = adapters.get_adapter(tx, adapter_id)
    wanted = [d for d in deployments.list_deployments(tx) if d.adapter.id == adapter_id]
    intervals = [one for one in deployments.served(tx) if one.adapter == adapter.name]
    return Teaching(
        adapter=adapter,
        scores=tuple(adapters.scores_of(tx, adapter_id)),
        verdict=adapters.verdict_of(tx, adapter_id),
        deployments=tuple(reversed(wanted)),
        served=tuple(reversed(intervals)),
    )
