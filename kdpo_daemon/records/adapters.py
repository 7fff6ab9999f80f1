"""What a batch became: adapter versions, their scores and the verdict on them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class Adapter:
    """An immutable LoRA version.  `batch_id` is None for version 0, which changes nothing.

    From `deleted_at` on its files are gone; what is known of it stays.
    """

    id: int
    name: str
    path: str
    manifest_sha256: str
    batch_id: int | None
    parent_id: int | None
    deleted_at: datetime | None = None


@dataclass(frozen=True)
class KeptVersion:
    """A version whose files are there; `unused_since` None says that something needs it."""

    adapter: Adapter
    created_at: datetime
    unused_since: datetime | None
    deployed: bool  #: was ever wanted: a rollback may name it


@dataclass(frozen=True)
class Score:
    """One number of a candidate, with how many answers it rests on."""

    name: str
    value: float
    n: int


class VerdictRuling(StrEnum):
    """What the gate says about a candidate."""

    PROMOTE = "promote"
    REJECT = "reject"


@dataclass(frozen=True)
class Verdict:
    """The gate's word on a candidate, with every reason."""

    ruling: VerdictRuling
    reasons: tuple[str, ...]
