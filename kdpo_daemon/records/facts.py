"""What holds: decisions on claims, facts, and the slots that keep them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kdpo_daemon.records.intake import Ruling


@dataclass(frozen=True)
class Decision:
    """What becomes of a claim, and why; `supersedes` is the standing fact it replaces."""

    ruling: Ruling
    reason: str
    supersedes: int | None = None
    beside: bool = False  #: the relation has several values: it stands beside other facts


class FactStatus(StrEnum):
    """Where a fact stands."""

    PENDING = "pending"  #: accepted; waits for a batch
    KNOWN = "known"  #: the served model already answers with it; nothing was edited
    PLANNED = "planned"  #: in a batch that is not finished
    LIVE = "live"  #: taught by the adapter that is wanted on the servers
    QUARANTINED = "quarantined"  #: failed too often, or put on hold; waits for a person
    SUPERSEDED = "superseded"  #: a newer fact took its slot, or a person rejected it
    ROLLED_BACK = "rolled_back"  #: its adapter was taken back; waits for a person
    REVOKED = "revoked"  #: a person took it back; no later version teaches it


#: Where a fact stands that a version teaches: until a server has that version it is still planned,
#: or rolled back.
TAUGHT = frozenset({FactStatus.PLANNED, FactStatus.LIVE, FactStatus.ROLLED_BACK})


@dataclass(frozen=True)
class Fact:
    """An accepted claim."""

    id: int
    subject: str
    relation: str
    role: str
    object: str
    old_object: str
    valid_from: datetime | None
    observed_at: datetime
    status: FactStatus
    reason: str
    attempts: int = 0
    not_before: datetime | None = None
    superseded_by: int | None = None
    together: int | None = None  #: its group: taught with these facts alone; None: with any


@dataclass(frozen=True)
class Said:
    """A claim that was made on a slot, by whom, and what became of it."""

    id: int
    object: str
    valid_from: datetime | None
    observed_at: datetime
    source: str
    publisher: str
    key: str
    ruling: Ruling
    current: bool  #: the entry still says so, as far as it was read
    extractor: str = ""  #: what read it from free text; "" where the entry itself states it
    aliases: tuple[str, ...] = ()  #: other names of the object
    revoked: bool = False  #: a person took back the fact that it became


@dataclass(frozen=True)
class Standing:
    """A fact that holds a slot, and the entry it came from."""

    fact: Fact
    source: str
    key: str
    aliases: tuple[str, ...] = ()  #: other names of the fact's object


@dataclass(frozen=True)
class Slot:
    """All that the rules need to know about a (subject, relation)."""

    standing: tuple[Standing, ...] = ()  #: one at most, unless the relation has several values
    said: tuple[Said, ...] = ()  #: the latest claims, oldest first
