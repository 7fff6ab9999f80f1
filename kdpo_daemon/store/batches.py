"""Batches, their pairs and the prompts that training must leave alone."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.teaching import Batch, BatchStatus, KeepPrompt, Pair, ProbeKind, Prompt
from kdpo_daemon.store.facts import set_fact_status
from kdpo_daemon.store.rows import found, record_of
from kdpo_daemon.store.tables import BatchRow, KeepPromptRow, PairRow, ProbeRow

OPEN = (BatchStatus.PLANNED, BatchStatus.TRAINED)


def open_batch(tx: Session) -> Batch | None:
    """Give the oldest batch that waits for training or for the judge."""
    row = tx.exec(
        select(BatchRow).where(col(BatchRow.status).in_(OPEN)).order_by(col(BatchRow.id))
    ).first()
    return record_of(Batch, row) if row else None


def get_batch(tx: Session, batch_id: int) -> Batch:
    """Give a batch; StoreError when there is none."""
    return record_of(Batch, _row(tx, batch_id))


def save_batch(
    tx: Session,
    parent_adapter_id: int | None,
    seed: int,
    pairs: Sequence[Pair],
    keep: Sequence[KeepPrompt],
    now: datetime,
) -> Batch:
    """Make a batch and move its new facts to PLANNED; give the open one if it is the same."""
    standing = open_batch(tx)
    if standing and pairs_of(tx, standing.id) == list(pairs):
        return standing
    row = BatchRow(
        status=BatchStatus.PLANNED,
        parent_adapter_id=parent_adapter_id,
        seed=seed,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    tx.add_all(PairRow(batch_id=row.id, **asdict(pair)) for pair in pairs)
    tx.add_all(
        KeepPromptRow(
            batch_id=row.id, form=one.prompt.form, prompt=one.prompt.text, ids=list(one.ids)
        )
        for one in keep
    )
    taught = [pair.fact_id for pair in pairs if not pair.replay]
    set_fact_status(tx, taught, FactStatus.PLANNED, f"in batch {row.id}", now)
    return record_of(Batch, row)


def set_batch_status(
    tx: Session,
    batch_id: int,
    status: BatchStatus,
    now: datetime,
    error: str = "",
    failed_attempt: bool = False,
) -> None:
    """Move a batch to a status; `failed_attempt` counts one attempt more, each time."""
    row = _row(tx, batch_id)
    row.finished_at = None if status in OPEN else row.finished_at or now
    row.status, row.error = status, error
    row.attempts += failed_attempt


def pairs_of(tx: Session, batch_id: int) -> list[Pair]:
    """Give the pairs of a batch in the order they were planned in."""
    rows = tx.exec(select(PairRow).where(PairRow.batch_id == batch_id).order_by(col(PairRow.id)))
    return [
        record_of(
            Pair,
            row,
            prompt_ids=tuple(row.prompt_ids),
            chosen_ids=tuple(row.chosen_ids),
            rejected_ids=tuple(row.rejected_ids),
            old_ids=tuple(row.old_ids),
        )
        for row in rows
    ]


def teaches(tx: Session, batch_id: int, fact_ids: Collection[int]) -> bool:
    """Tell whether a batch teaches any of some facts, for the first time or again."""
    pairs = select(PairRow.id).where(PairRow.batch_id == batch_id)
    return tx.exec(pairs.where(col(PairRow.fact_id).in_(fact_ids)).limit(1)).first() is not None


def keep_of(tx: Session, batch_id: int) -> list[KeepPrompt]:
    """Give the prompts that training must leave alone, in the order they were planned in."""
    rows = tx.exec(
        select(KeepPromptRow)
        .where(KeepPromptRow.batch_id == batch_id)
        .order_by(col(KeepPromptRow.id))
    )
    return [KeepPrompt(Prompt(row.form, row.prompt), tuple(row.ids)) for row in rows]


def overlap(tx: Session, batch_id: int) -> list[str]:
    """Give the prompts of held-out probes that a batch trains on: none, if all is well.

    Held out is every kind of probe but `edit`; the same words in another form count too.
    """
    trained = (
        select(PairRow.prompt)
        .where(PairRow.batch_id == batch_id)
        .union(select(KeepPromptRow.prompt).where(KeepPromptRow.batch_id == batch_id))
    )
    query = (
        select(ProbeRow.prompt)
        .where(ProbeRow.kind != ProbeKind.EDIT, col(ProbeRow.prompt).in_(trained))
        .distinct()
        .order_by(ProbeRow.prompt)
    )
    return list(tx.exec(query))


def _row(tx: Session, batch_id: int) -> BatchRow:
    return found(tx.get(BatchRow, batch_id), f"batch:{batch_id}")
