"""Probes and what models answered to them.  Nothing here is ever deleted."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.records.teaching import Answer, AnswerPurpose, NewProbe, Probe, ProbeKind, Prompt
from kdpo_daemon.store.columns import plain
from kdpo_daemon.store.tables import AnswerRow, ProbeRow


def save_probes(tx: Session, probes: Sequence[NewProbe], now: datetime) -> list[Probe]:
    """Give a row for each probe, in the same order; what is there already stays as it is."""
    return [_probe(_saved(tx, probe, now)) for probe in probes]


def probes_of(tx: Session, fact_ids: Sequence[int]) -> list[Probe]:
    """Give the probes of some facts, oldest first."""
    query = select(ProbeRow).where(col(ProbeRow.fact_id).in_(fact_ids)).order_by(col(ProbeRow.id))
    return [_probe(row) for row in tx.exec(query)]


def general_probes(tx: Session) -> list[Probe]:
    """Give the probes of general knowledge, oldest first."""
    query = select(ProbeRow).where(ProbeRow.kind == ProbeKind.GENERAL).order_by(col(ProbeRow.id))
    return [_probe(row) for row in tx.exec(query)]


def save_answers(
    tx: Session,
    answers: Sequence[Answer],
    adapter_id: int | None,
    replica: str,
    purpose: AnswerPurpose,
    now: datetime,
) -> None:
    """Put down what a model said; `adapter_id` None is the base model.

    An answer that only repeats the latest one is not put down again.
    """
    for answer in answers:
        latest = tx.exec(
            select(AnswerRow.text)
            .where(
                AnswerRow.probe_id == answer.probe_id,
                AnswerRow.adapter_id == adapter_id,
                AnswerRow.replica == replica,
                AnswerRow.purpose == purpose,
            )
            .order_by(col(AnswerRow.asked_at).desc(), col(AnswerRow.id).desc())
        ).first()
        text = plain(answer.text)
        if latest != text:
            tx.add(
                AnswerRow(
                    probe_id=answer.probe_id,
                    adapter_id=adapter_id,
                    replica=replica,
                    purpose=purpose,
                    text=text,
                    asked_at=now,
                )
            )
    tx.flush()


def answers(
    tx: Session,
    probe_ids: Sequence[int],
    adapter_id: int | None,
    purpose: AnswerPurpose | None = None,
) -> dict[int, str]:
    """Give the latest answer of an adapter (None: the base model) by probe id."""
    query = select(AnswerRow.probe_id, AnswerRow.text).where(
        col(AnswerRow.probe_id).in_(probe_ids), AnswerRow.adapter_id == adapter_id
    )
    if purpose is not None:
        query = query.where(AnswerRow.purpose == purpose)
    return dict(tx.exec(query.order_by(col(AnswerRow.asked_at), col(AnswerRow.id))).all())


def all_answers(
    tx: Session, probe_ids: Sequence[int], adapter_id: int | None, purpose: AnswerPurpose
) -> dict[int, list[str]]:
    """Give every different answer that was put down, by probe id, oldest first."""
    query = select(AnswerRow.probe_id, AnswerRow.text).where(
        col(AnswerRow.probe_id).in_(probe_ids),
        AnswerRow.adapter_id == adapter_id,
        AnswerRow.purpose == purpose,
    )
    found: dict[int, list[str]] = {}
    for probe_id, text in tx.exec(query.order_by(col(AnswerRow.asked_at), col(AnswerRow.id))):
        found.setdefault(probe_id, []).append(text)
    return found


def _saved(tx: Session, probe: NewProbe, now: datetime) -> ProbeRow:
    digest = _digest(probe)
    row = tx.exec(select(ProbeRow).where(ProbeRow.digest == digest)).first()
    if row is None:
        row = ProbeRow(
            digest=digest,
            fact_id=probe.fact_id,
            kind=probe.kind,
            form=probe.prompt.form,
            prompt=probe.prompt.text,
            expected=list(probe.expected),
            created_at=now,
        )
        tx.add(row)
        tx.flush()
    return row


def _digest(probe: NewProbe) -> str:
    identity = [probe.fact_id, probe.kind, probe.prompt.form, probe.prompt.text]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _probe(row: ProbeRow) -> Probe:
    return Probe(
        id=row.id,
        kind=row.kind,
        prompt=Prompt(row.form, row.prompt),
        expected=tuple(row.expected),
        fact_id=row.fact_id,
    )
