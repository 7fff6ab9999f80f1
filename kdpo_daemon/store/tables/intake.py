"""From a feed to claims."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, UniqueConstraint
from sqlmodel import Field

from kdpo_daemon.records.intake import ExtractionState, FeedKind, Ruling, Trust
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
