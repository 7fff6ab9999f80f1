"""What is served where: deployments, replicas, leases, and the audit log."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kdpo_daemon.records.adapters import Adapter


@dataclass(frozen=True)
class Deployment:
    """An adapter is wanted from `created_at` on.  The newest row wins.

    `pinned`: the gate promotes nothing until an operator lets it.
    """

    id: int
    adapter: Adapter
    actor: str
    reason: str
    created_at: datetime
    pinned: bool


class ReplicaStatus(StrEnum):
    """How far a replica is with the wanted adapter."""

    ABSENT = "absent"  #: nothing is loaded, or the server itself is no longer there
    LOADING = "loading"  #: told to load it
    CANARY = "canary"  #: loaded and being asked, without traffic
    LIVE = "live"  #: takes traffic
    DRAINING = "draining"  #: the adapter before it is still finishing requests
    FAILED = "failed"  #: did not get there; `error` says why


@dataclass(frozen=True)
class ReplicaState:
    """What is known about one vLLM server; `deployment_id` is the last one that went live."""

    name: str
    url: str
    state: ReplicaStatus
    deployment_id: int | None
    error: str
    checked_at: datetime


@dataclass(frozen=True)
class Served:
    """One interval in which a replica answered with an adapter; `live_until` None: still does."""

    replica: str
    deployment_id: int
    adapter: str
    live_from: datetime
    live_until: datetime | None


@dataclass(frozen=True)
class Lease:
    """The right to write until `expires_at`; `fencing` grows with each new holder."""

    name: str
    holder: str
    expires_at: datetime
    fencing: int


@dataclass(frozen=True)
class ModelCard:
    """One line of a server's `/v1/models`: for an adapter, `root` is its path."""

    id: str
    root: str
    parent: str | None


@dataclass(frozen=True)
class AuditEvent:
    """One line of the append-only audit log."""

    id: int
    at: datetime
    actor: str
    event: str
    subject: str  #: "fact:12", "adapter:kdpo-000003", ...
    detail: dict[str, object] = field(default_factory=dict)
