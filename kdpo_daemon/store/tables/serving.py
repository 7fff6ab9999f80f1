"""What is wanted, what servers answer with, who may write, and the audit log."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.store.columns import one_of, utc, words
from kdpo_daemon.store.rows import Row


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
