"""From a fact to the verdict on the adapter that was taught it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, UniqueConstraint, text
from sqlmodel import Field

from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.teaching import AnswerPurpose, BatchStatus, Form, ProbeKind
from kdpo_daemon.store.columns import json, one_of, utc, words
from kdpo_daemon.store.rows import Row

STANDING = text("status NOT IN ('superseded', 'revoked')")


class FactRow(Row, table=True):
    """An accepted claim."""

    # A slot (subject, relation) has one standing fact: the database refuses a second.  Only where
    # a relation has several values is `object_key` not empty.
    __table_args__ = (
        Index(
            "ix_fact_standing",
            "subject_key",
            "relation",
            "object_key",
            unique=True,
            sqlite_where=STANDING,
            postgresql_where=STANDING,
        ),
    )

    id: int = Field(default=None, primary_key=True)
    claim_id: int = Field(foreign_key="claim.id", unique=True)
    subject: str = words()
    subject_key: str = words()
    relation: str = words()
    role: str = words()
    object: str = words()
    object_key: str = words(default="")
    old_object: str = words()
    valid_from: datetime | None = utc(default=None)
    observed_at: datetime = utc()
    status: FactStatus = one_of(FactStatus, "status", index=True)
    reason: str = words()
    changed_at: datetime = utc()
    attempts: int = 0
    not_before: datetime | None = utc(default=None)
    superseded_by: int | None = Field(default=None, foreign_key="fact.id", index=True)
    together: int | None = None


class ProbeRow(Row, table=True):
    """A question that is put to the models; never deleted."""

    id: int = Field(default=None, primary_key=True)
    # Of (fact_id, kind, form, prompt): a unique constraint would take two NULL facts as distinct,
    # and PostgreSQL cannot index a long prompt.
    digest: str = Field(unique=True)
    fact_id: int | None = Field(default=None, foreign_key="fact.id", index=True)
    kind: ProbeKind = one_of(ProbeKind, "kind")
    form: Form = one_of(Form, "form")
    prompt: str = words()
    expected: list[str] = json()
    created_at: datetime = utc()


class BatchRow(Row, table=True):
    """The pairs one adapter is trained on, and how that went."""

    id: int = Field(default=None, primary_key=True)
    status: BatchStatus = one_of(BatchStatus, "status")
    # Batch and adapter name each other: one of the two keys is added when both tables are there.
    parent_adapter_id: int | None = Field(
        default=None, sa_column=Column(ForeignKey("adapter.id", use_alter=True))
    )
    seed: int = Field(sa_type=BigInteger)
    attempts: int = 0
    error: str = words(default="")
    created_at: datetime = utc()
    finished_at: datetime | None = utc(default=None)


class PairRow(Row, table=True):
    """One preference pair of a batch; never deleted."""

    id: int = Field(default=None, primary_key=True)
    batch_id: int = Field(foreign_key="batch.id", index=True)
    fact_id: int = Field(foreign_key="fact.id", index=True)
    form: Form = one_of(Form, "form")
    prompt: str = words()
    subject: str = words()
    chosen: str = words()
    prompt_ids: list[int] = json()
    chosen_ids: list[int] = json()
    rejected_ids: list[int] = json()
    old_ids: list[int] = json()
    margin: float
    replay: bool


class KeepPromptRow(Row, table=True):
    """One prompt whose answer training had to leave alone."""

    id: int = Field(default=None, primary_key=True)
    batch_id: int = Field(foreign_key="batch.id", index=True)
    form: Form = one_of(Form, "form")
    prompt: str = words()
    ids: list[int] = json()


class AdapterRow(Row, table=True):
    """One immutable LoRA version."""

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    path: str
    batch_id: int | None = Field(default=None, foreign_key="batch.id", unique=True)
    parent_id: int | None = Field(default=None, foreign_key="adapter.id")
    manifest: dict[str, Any] = json()
    manifest_sha256: str
    created_at: datetime = utc()
    unused_since: datetime | None = utc(default=None)
    deleted_at: datetime | None = utc(default=None)


class AdapterFactRow(Row, table=True):
    """Which facts an adapter answers for."""

    adapter_id: int = Field(foreign_key="adapter.id", primary_key=True)
    fact_id: int = Field(foreign_key="fact.id", primary_key=True, index=True)


class AnswerRow(Row, table=True):
    """What a model said to a probe; never deleted."""

    __table_args__ = (Index(None, "probe_id", "adapter_id"),)

    id: int = Field(default=None, primary_key=True)
    probe_id: int = Field(foreign_key="probe.id")
    adapter_id: int | None = Field(default=None, foreign_key="adapter.id")
    replica: str
    purpose: AnswerPurpose = one_of(AnswerPurpose, "purpose")
    text: str = words()
    asked_at: datetime = utc()


class ScoreRow(Row, table=True):
    """One number of an adapter."""

    __table_args__ = (UniqueConstraint("adapter_id", "name"),)

    id: int = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id")
    name: str
    value: float
    n: int


class VerdictRow(Row, table=True):
    """The gate's word on an adapter, with the thresholds it used."""

    id: int = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id", unique=True)
    ruling: VerdictRuling = one_of(VerdictRuling, "ruling")
    reasons: list[str] = json()
    policy: dict[str, float] = json()
    decided_by: str
    decided_at: datetime = utc()
