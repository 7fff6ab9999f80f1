"""The tables, in pipeline order.  Rows never leave `store/`; docs/database.md explains each.

Here together, for a foreign key is found only if its table was imported too.
"""

from kdpo_daemon.store.tables.intake import (
    ClaimRow,
    DeliveryRow,
    DocumentRow,
    EntryRow,
    ExtractionRow,
    FeedRow,
    PageRow,
    WaitingRow,
)
from kdpo_daemon.store.tables.serving import (
    AuditRow,
    DeploymentRow,
    LeaseRow,
    ReplicaRow,
    ServedRow,
)
from kdpo_daemon.store.tables.teaching import (
    STANDING,
    AdapterFactRow,
    AdapterRow,
    AnswerRow,
    BatchRow,
    FactRow,
    KeepPromptRow,
    PairRow,
    ProbeRow,
    ScoreRow,
    VerdictRow,
)

__all__ = [
    "STANDING",
    "AdapterFactRow",
    "AdapterRow",
    "AnswerRow",
    "AuditRow",
    "BatchRow",
    "ClaimRow",
    "DeliveryRow",
    "DeploymentRow",
    "DocumentRow",
    "EntryRow",
    "ExtractionRow",
    "FactRow",
    "FeedRow",
    "KeepPromptRow",
    "LeaseRow",
    "PageRow",
    "PairRow",
    "ProbeRow",
    "ReplicaRow",
    "ScoreRow",
    "ServedRow",
    "VerdictRow",
    "WaitingRow",
]
