"""The tables, in pipeline order.  Rows never leave `store/`; docs/database.md explains each."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.intake import ExtractionState, FeedKind, Ruling, Trust
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.records.teaching import AnswerPurpose, BatchStatus, Form, ProbeKind
from kdpo_daemon.store.columns import json, one_of, utc, words
from kdpo_daemon.store.rows import Row


class FeedRow(Row, table=True):
    """A feed, and an imported file as a feed that is not polled."""

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    url: str
    trust: Trust = one_of(Trust, "trust")
    every_s: int
    allow_private: bool
    enabled: bool
    etag: str | None = words(default=None)
    last_modified: str | None = words(default=None)
    next_poll_at: datetime = utc()
    last_polled_at: datetime | None = utc(default=None)
    failures: int = 0
    last_error: str | None = words(default=None)
    kind: str = FeedKind.FEED
    options: dict[str, Any] = json(default_factory=dict, nullable=False)
    moved_to: str | None = words(default=None)
    interval_s: int | None = None


class PageRow(Row, table=True):
    """One URL of a feed that has several or remembers values: its last state, no history."""

    __table_args__ = (UniqueConstraint("feed_id", "url"),)

    id: int = Field(default=None, primary_key=True)
    feed_id: int = Field(foreign_key="feed.id")
    url: str = words()
    etag: str | None = words(default=None)
    last_modified: str | None = words(default=None)
    values: dict[str, str] = json(default_factory=dict, nullable=False)
    before: str = words(default="")
    wanted: bool = False
    looked_at: datetime | None = utc(default=None)


class WaitingRow(Row, table=True):
    """A change on a page that counts if it still stands at a time to come."""

    __table_args__ = (UniqueConstraint("page_id", "key"),)

    id: int = Field(default=None, primary_key=True)
    page_id: int = Field(foreign_key="page.id")
    key: str = words()
    value: str = words()
    stands_at: datetime = utc()


class DeliveryRow(Row, table=True):
    """One post to a webhook that was taken; a repeat is answered from here."""

    __table_args__ = (UniqueConstraint("feed_id", "key"), Index(None, "feed_id", "received_at"))

    id: int = Field(default=None, primary_key=True)
    feed_id: int = Field(foreign_key="feed.id")
    key: str
    body_sha256: str
    answer: dict[str, int] = json()
    received_at: datetime = utc()


class DocumentRow(Row, table=True):
    """The bytes of a feed as they were fetched; kept when they brought an entry."""

    __table_args__ = (Index(None, "feed_id", "sha256"),)

    id: int = Field(default=None, primary_key=True)
    feed_id: int = Field(foreign_key="feed.id")
    url: str = words()
    fetched_at: datetime = utc()
    sha256: str
    content_type: str = words()
    body: bytes = Field(sa_type=LargeBinary)


class EntryRow(Row, table=True):
    """One wording of one entry; a changed entry is a further row with the same key.

    Wordings may repeat: an entry can go back to what it said before.
    """

    __table_args__ = (Index(None, "feed_id", "key"),)

    id: int = Field(default=None, primary_key=True)
    document_id: int = Field(foreign_key="document.id", index=True)
    feed_id: int = Field(foreign_key="feed.id")
    key: str = words()
    content_hash: str
    title: str = words()
    link: str = words()
    published_at: datetime | None = utc(default=None)
    summary: str = words()
    fact: dict[str, Any] | None = json(default=None)


class ExtractionRow(Row, table=True):
    """What became of an entry that a model reads; made with the entry, so that none is missed."""

    __table_args__ = (Index("ix_extraction_state", "state", "not_before"),)

    entry_id: int = Field(foreign_key="entry.id", primary_key=True)
    state: ExtractionState = one_of(ExtractionState, "state", default=ExtractionState.WAITING)
    attempts: int = 0
    not_before: datetime = utc()
    error: str = words(default="")
    extractor: str = words(default="")
    refused: list[str] = json(default_factory=list, nullable=False)
    ended_at: datetime | None = utc(default=None)


class ClaimRow(Row, table=True):
    """What an entry asserts, and what became of it."""

    __table_args__ = (Index(None, "subject_key", "relation"), Index(None, "ruling", "decided_at"))

    id: int = Field(default=None, primary_key=True)
    entry_id: int = Field(foreign_key="entry.id", index=True)
    subject: str = words()
    subject_key: str = words()
    relation: str = words()
    role: str = words()
    object: str = words()
    old_object: str = words()
    valid_from: datetime | None = utc(default=None)
    quote: str = words()
    note: str = words(default="")
    extractor: str = words(default="")
    aliases: list[str] = json(default_factory=list, nullable=False)
    old_aliases: list[str] = json(default_factory=list, nullable=False)
    ruling: Ruling = one_of(Ruling, "ruling", default=Ruling.OPEN, index=True)
    reason: str = words(default="")
    decided_at: datetime | None = utc(default=None)
    approved_by: str = words(default="")
    approved_at: datetime | None = utc(default=None)
    held_by: str = words(default="")


STANDING = text("status <> 'superseded'")


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


class DeploymentRow(Row, table=True):
    """Which adapter is wanted from when on; the newest row wins."""

    id: int = Field(default=None, primary_key=True)
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    actor: str
    reason: str = words()
    fencing: int = Field(sa_type=BigInteger)
    created_at: datetime = utc()
    pinned: bool = False


class ReplicaRow(Row, table=True):
    """One vLLM server as it was last seen."""

    id: int = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    url: str
    state: ReplicaStatus = one_of(ReplicaStatus, "state")
    deployment_id: int | None = Field(default=None, foreign_key="deployment.id")
    error: str = words(default="")
    checked_at: datetime = utc()


OPEN_INTERVAL = text("live_until IS NULL")


class ServedRow(Row, table=True):
    """One interval in which a replica answered with an adapter."""

    # A replica answers with one adapter at a time.
    __table_args__ = (
        Index(
            "ix_served_open",
            "replica",
            unique=True,
            sqlite_where=OPEN_INTERVAL,
            postgresql_where=OPEN_INTERVAL,
        ),
    )

    id: int = Field(default=None, primary_key=True)
    replica: str = Field(foreign_key="replica.name")
    deployment_id: int = Field(foreign_key="deployment.id")
    adapter_id: int = Field(foreign_key="adapter.id", index=True)
    live_from: datetime = utc()
    live_until: datetime | None = utc(default=None)


class AuditRow(Row, table=True):
    """One line of the audit log; triggers refuse to change or delete it."""

    id: int = Field(default=None, primary_key=True)
    at: datetime = utc()
    actor: str
    event: str
    subject: str = Field(index=True)
    # JSON as text: the hash rests on the very characters that are stored.
    detail: str = words()
    prev_hash: str
    hash: str


class LeaseRow(Row, table=True):
    """Who may write, until when."""

    name: str = Field(primary_key=True)
    holder: str
    expires_at: datetime = utc()
    fencing: int = Field(sa_type=BigInteger)
