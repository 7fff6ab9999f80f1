"""All that is on record about one fact, from its evidence to the servers."""

from dataclasses import dataclass
from datetime import datetime

from kdpo_daemon.records.adapters import Adapter, Score, Verdict
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.intake import Claim
from kdpo_daemon.records.serving import Deployment, Served
from kdpo_daemon.records.teaching import AnswerPurpose, Form, ProbeKind


@dataclass(frozen=True)
class Evidence:
    """Where a fact comes from: the entry that says so, in the document as it was fetched."""

    feed: str
    url: str
    fetched_at: datetime
    sha256: str  #: of the document's bytes
    key: str
    title: str
    link: str
    published_at: datetime | None
    claim: Claim
    reason: str
    decided_at: datetime | None
    approved_by: str


@dataclass(frozen=True)
class AskedAnswer:
    """One answer with when, why and of which model it was asked; `adapter` "" is the base."""

    kind: ProbeKind
    form: Form
    prompt: str
    adapter: str
    replica: str
    purpose: AnswerPurpose
    text: str
    asked_at: datetime


@dataclass(frozen=True)
class Teaching:
    """One adapter that teaches a fact, with how it did and where it was served."""

    adapter: Adapter
    scores: tuple[Score, ...]
    verdict: Verdict | None
    deployments: tuple[Deployment, ...]
    served: tuple[Served, ...]


@dataclass(frozen=True)
class FactStory:
    """All that is on record about one fact, from its evidence to the servers."""

    fact: Fact
    evidence: Evidence
    answers: tuple[AskedAnswer, ...]
    teachings: tuple[Teaching, ...]
