"""Adapters (LoRA versions), their scores and verdicts.  The files are not touched here."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Adapter, KeptVersion, Score, Verdict
from kdpo_daemon.records.facts import TAUGHT, Fact
from kdpo_daemon.records.teaching import BatchStatus
from kdpo_daemon.store.rows import found, record_of
from kdpo_daemon.store.tables import (
    AdapterFactRow,
    AdapterRow,
    BatchRow,
    DeploymentRow,
    FactRow,
    ScoreRow,
    VerdictRow,
)


def save_adapter(  # noqa: PLR0913 one argument per column
    tx: Session,
    name: str,
    path: str,
    manifest_json: str,
    manifest_sha256: str,
    batch_id: int | None,
    parent_id: int | None,
    fact_ids: Sequence[int],
    now: datetime,
) -> Adapter:
    """Give the adapter, made if it is not there; its planned batch moves to TRAINED.

    StoreError when the name is there with another manifest: adapters never change.
    """
    row = _by_name(tx, name)
    if row is None:
        row = AdapterRow(
            name=name,
            path=path,
            batch_id=batch_id,
            parent_id=parent_id,
            manifest=json.loads(manifest_json),
            manifest_sha256=manifest_sha256,
            created_at=now,
        )
        tx.add(row)
        tx.flush()
        tx.add_all(
            AdapterFactRow(adapter_id=row.id, fact_id=fact_id)
            for fact_id in dict.fromkeys(fact_ids)
        )
    elif row.manifest_sha256 != manifest_sha256:
        raise StoreError(
            "is on record with another manifest",
            subject=f"adapter {name}",
            hint="Its directory was changed: put the original files back, or train a new batch",
        )
    batch = tx.get(BatchRow, batch_id) if batch_id is not None else None
    if batch and batch.status is BatchStatus.PLANNED:
        batch.status, batch.error = BatchStatus.TRAINED, ""
    tx.flush()
    return record_of(Adapter, row)


def adapter_by_name(tx: Session, name: str) -> Adapter:
    """Give an adapter; StoreError, with the names that exist, when there is none."""
    row = _by_name(tx, name)
    if row is None:
        names = ", ".join(adapter.name for adapter in list_adapters(tx))
        raise StoreError(
            "no such adapter", subject=f"adapter {name}", hint=f"Known adapters: {names or 'none'}"
        )
    return record_of(Adapter, row)


def list_adapters(tx: Session) -> list[Adapter]:
    """Give all adapters, oldest first."""
    return [
        record_of(Adapter, row) for row in tx.exec(select(AdapterRow).order_by(col(AdapterRow.id)))
    ]


def version_0(tx: Session, like: int) -> Adapter:
    """Give the version that changes nothing, of the model that another was made for."""
    return record_of(Adapter, found(_version_0(tx, like), "version 0"))


def folded(tx: Session, like: int) -> list[Fact]:
    """Give the facts that the model says by itself that a version was made for."""
    row = _version_0(tx, like)
    return facts_in(tx, row.id) if row else []


def base_of(tx: Session, adapter_id: int) -> str:
    """Give the sha256 of the model that a version was made for."""
    return str(manifest_of(tx, adapter_id).get("base_sha256", ""))


def _version_0(tx: Session, like: int) -> AdapterRow | None:
    base = base_of(tx, like)
    rows = tx.exec(select(AdapterRow).where(col(AdapterRow.batch_id).is_(None)))
    return next((one for one in rows if base_of(tx, one.id) == base), None)


def adapter_of_batch(tx: Session, batch_id: int) -> Adapter | None:
    """Give the adapter that a batch became, if it has."""
    row = tx.exec(select(AdapterRow).where(AdapterRow.batch_id == batch_id)).first()
    return record_of(Adapter, row) if row else None


def kept(tx: Session) -> list[KeptVersion]:
    """Give the versions whose files were not deleted, oldest first."""
    deployed = set(tx.exec(select(DeploymentRow.adapter_id).distinct()))
    rows = tx.exec(
        select(AdapterRow).where(col(AdapterRow.deleted_at).is_(None)).order_by(col(AdapterRow.id))
    )
    return [
        record_of(KeptVersion, row, adapter=record_of(Adapter, row), deployed=row.id in deployed)
        for row in rows
    ]


def deleted(tx: Session) -> list[Adapter]:
    """Give the versions whose files are deleted, or are to be, oldest first."""
    rows = select(AdapterRow).where(col(AdapterRow.deleted_at).is_not(None))
    return [record_of(Adapter, row) for row in tx.exec(rows.order_by(col(AdapterRow.id)))]


def set_unused(tx: Session, adapter_id: int, since: datetime | None) -> None:
    """Put down since when nothing needs a version; None: something does."""
    found(tx.get(AdapterRow, adapter_id), f"adapter:{adapter_id}").unused_since = since
    tx.flush()


def mark_deleted(tx: Session, adapter_id: int, now: datetime) -> None:
    """Put down that a version's files are deleted, before they are."""
    found(tx.get(AdapterRow, adapter_id), f"adapter:{adapter_id}").deleted_at = now
    tx.flush()


def facts_in(tx: Session, adapter_id: int) -> list[Fact]:
    """Give the facts that an adapter answers for, oldest first."""
    rows = tx.exec(
        select(FactRow)
        .join(AdapterFactRow, col(AdapterFactRow.fact_id) == FactRow.id)
        .where(AdapterFactRow.adapter_id == adapter_id)
        .order_by(col(FactRow.id))
    )
    return [record_of(Fact, row) for row in rows]


def taught_again(tx: Session, adapter_id: int) -> list[Fact]:
    """Give those of an adapter's facts that a version which builds on it has to teach too."""
    return [fact for fact in facts_in(tx, adapter_id) if fact.status in TAUGHT]


def save_scores(tx: Session, adapter_id: int, scores: Sequence[Score]) -> None:
    """Put down the scores of an adapter in place of any that it had."""
    known = {row.name: row for row in _scores(tx, adapter_id)}
    for score in scores:
        row = known.pop(score.name, None) or ScoreRow(adapter_id=adapter_id, **asdict(score))
        row.value, row.n = score.value, score.n
        tx.add(row)
    for row in known.values():
        tx.delete(row)
    tx.flush()


def scores_of(tx: Session, adapter_id: int) -> list[Score]:
    """Give the scores of an adapter in the order they were put down in."""
    return [record_of(Score, row) for row in _scores(tx, adapter_id)]


def save_verdict(
    tx: Session,
    adapter_id: int,
    verdict: Verdict,
    decided_by: str,
    policy: dict[str, float],
    now: datetime,
) -> None:
    """Put down the verdict on an adapter, with the thresholds behind it; the last word counts."""
    after: dict[str, Any] = {
        "ruling": verdict.ruling,
        "reasons": list(verdict.reasons),
        "decided_by": decided_by,
        "policy": policy,
    }
    row = _verdict(tx, adapter_id)
    if row is None:
        row = VerdictRow(adapter_id=adapter_id, decided_at=now, **after)
    elif after != row.model_dump(include=set(after)):
        row.sqlmodel_update({**after, "decided_at": now})
    tx.add(row)
    tx.flush()


def verdict_of(tx: Session, adapter_id: int) -> Verdict | None:
    """Give the verdict on an adapter, if there is one."""
    row = _verdict(tx, adapter_id)
    return Verdict(row.ruling, tuple(row.reasons)) if row else None


def get_adapter(tx: Session, adapter_id: int) -> Adapter:
    """Give an adapter; StoreError when there is none."""
    return record_of(Adapter, found(tx.get(AdapterRow, adapter_id), f"adapter:{adapter_id}"))


def manifest_of(tx: Session, adapter_id: int) -> dict[str, Any]:
    """Give the manifest of an adapter; StoreError when there is none."""
    return found(tx.get(AdapterRow, adapter_id), f"adapter:{adapter_id}").manifest


def _by_name(tx: Session, name: str) -> AdapterRow | None:
    return tx.exec(select(AdapterRow).where(AdapterRow.name == name)).first()


def _scores(tx: Session, adapter_id: int) -> list[ScoreRow]:
    query = select(ScoreRow).where(ScoreRow.adapter_id == adapter_id).order_by(col(ScoreRow.id))
    return list(tx.exec(query))


def _verdict(tx: Session, adapter_id: int) -> VerdictRow | None:
    return tx.exec(select(VerdictRow).where(VerdictRow.adapter_id == adapter_id)).first()
