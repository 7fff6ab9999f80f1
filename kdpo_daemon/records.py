"""Every value that crosses a stage, in pipeline order.

Frozen records and enums only: no behaviour beyond a derived name, no input or output.
All times are timezone-aware UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# ---------------------------------------------------------------- feeds -> claims


class Trust(StrEnum):
    """What it takes to believe a feed."""

    AUTO = "auto"  #: its claims are accepted when the rules allow
    MANUAL = "manual"  #: its claims are held for a person


class FeedKind(StrEnum):
    """How a feed's documents are read; a plug-in may bring kinds of other names."""

    FEED = "feed"  #: RSS, Atom or JSON Feed: entries that carry facts
    SNAPSHOT = "snapshot"  #: JSON that says how things are; its changes are the facts
    WIKIDATA = "wikidata"  #: entities of a Wikibase; changed best-rank statements are the facts


@dataclass(frozen=True)
class Feed:
    """A URL that is polled, and what is known about it."""

    id: int
    name: str
    url: str
    trust: Trust
    every_s: int
    allow_private: bool  #: may resolve to a private or loopback address
    enabled: bool
    next_poll_at: datetime
    etag: str | None = None
    last_modified: str | None = None
    last_polled_at: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    kind: str = FeedKind.FEED  #: a FeedKind, or the name of a plug-in's kind
    options: Mapping[str, object] = field(default_factory=dict)  #: what the kind needs; it checks


@dataclass(frozen=True)
class Page:
    """One URL of a feed: what to ask its server with again, and what was read of it last."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    #: by an entry's key, the last value that named something
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetched:
    """One answer of a feed's server.  `body` is None when it said 304 Not Modified."""

    url: str  #: after redirects
    body: bytes | None
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None
    max_age: float | None = None  #: seconds that the publisher asks us to wait


@dataclass(frozen=True)
class RawFact:
    """The fact an entry carries, in the publisher's own words (see docs/feed-format.md)."""

    subject: str
    relation: str
    new: str
    old: str = ""
    valid_from: str = ""


@dataclass(frozen=True)
class Entry:
    """One entry of a feed, as parsed."""

    key: str  #: the publisher's id, or the link
    title: str
    link: str
    published_at: datetime | None
    summary: str
    fact: RawFact | None
    content_hash: str  #: of everything above but the date


class Ruling(StrEnum):
    """What became of a claim."""

    OPEN = "open"  #: not yet looked at
    ACCEPTED = "accepted"  #: became a fact
    HELD = "held"  #: cannot be used now; looked at again in each cycle
    REJECTED = "rejected"  #: never to be used


@dataclass(frozen=True)
class Claim:
    """What an entry asserts, in clean words: subject, relation, object, since when."""

    subject: str
    relation: str
    role: str  #: the words for the relation in prompts, "prime minister"; "" = the relation's own
    object: str  #: "" when the entry names nobody (a vacant office)
    old_object: str  #: "" when the entry does not say
    valid_from: datetime | None
    quote: str  #: the publisher's words that say so
    note: str = ""  #: what the reader of the raw value noticed: acting, vacant, several holders


@dataclass(frozen=True)
class OpenClaim:
    """A claim that waits for a decision, with where it came from."""

    id: int
    claim: Claim
    trust: Trust
    observed_at: datetime
    approved_by: str = ""  #: a person who let it through in spite of a hold
    held_by: str = ""  #: a person who wants it to wait, and why
    source: str = ""  #: the feed's name
    publisher: str = ""  #: who stands behind the feed: the host of its URL
    key: str = ""  #: the entry's key
    by_hand: bool = False  #: typed or imported by the operator, not polled


@dataclass(frozen=True)
class IngestCounts:
    """What one poll brought, in entries: never seen, seen with other words, seen as they are."""

    new: int
    changed: int
    same: int


# ---------------------------------------------------------------- claims -> facts


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


@dataclass(frozen=True)
class Standing:
    """A fact that holds a slot, and the entry it came from."""

    fact: Fact
    source: str
    key: str


@dataclass(frozen=True)
class Slot:
    """All that the rules need to know about a (subject, relation)."""

    standing: tuple[Standing, ...] = ()  #: one at most, unless the relation has several values
    said: tuple[Said, ...] = ()  #: the latest claims, oldest first


# ---------------------------------------------------------------- facts -> probes, pairs, batch


class Form(StrEnum):
    """How a question is put to a model."""

    COMPLETION = "completion"  #: plain text to be continued
    CHAT = "chat"  #: one user message, through the model's chat template


class ProbeKind(StrEnum):
    """What an answer to the probe tells."""

    EDIT = "edit"  #: a phrasing that is taught; answered with the new object
    PARAPHRASE = "paraphrase"  #: a phrasing never taught; answered with the new object
    SAME_SUBJECT = "same_subject"  #: another relation of an edited subject; answered as before
    SAME_RELATION = "same_relation"  #: the edited relation of another subject; answered as before
    GENERAL = "general"  #: general knowledge; answered as before


@dataclass(frozen=True)
class Prompt:
    """A question in one of the two forms."""

    form: Form
    text: str


@dataclass(frozen=True)
class NewProbe:
    """A probe before it has a row.  `expected` may be empty where only sameness counts."""

    kind: ProbeKind
    prompt: Prompt
    expected: tuple[str, ...]
    fact_id: int | None  #: None for general probes


@dataclass(frozen=True)
class Probe:
    """A question, what kind of evidence it gives, and what counts as right."""

    id: int
    kind: ProbeKind
    prompt: Prompt
    expected: tuple[str, ...]
    fact_id: int | None


@dataclass(frozen=True)
class Answer:
    """What a model said to a probe: greedy, until its own end token."""

    probe_id: int
    text: str


class AnswerPurpose(StrEnum):
    """Why a model was asked."""

    PRIOR = "prior"  #: the served model, before a fact is taught
    BASE = "base"  #: the unedited model
    CANARY = "canary"  #: a candidate, before it takes traffic
    SERVED = "served"  #: the adapter that takes traffic


@dataclass(frozen=True)
class ForcedToken:
    """One target position under teacher forcing, as the server sees it."""

    chosen_logprob: float
    argmax_id: int
    argmax_logprob: float


@dataclass(frozen=True)
class Pair:
    """One preference pair in the server's own token ids.

    `rejected_ids[t]` is the model's argmax after `prompt_ids + chosen_ids[:t]`; both arms have
    the same length and end with the form's end token.
    """

    fact_id: int
    form: Form
    prompt: str
    subject: str
    chosen: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    old_ids: tuple[int, ...]  #: the replaced object with end token; empty if unknown
    margin: float  #: sum over t of log p(chosen) - log p(rejected), nats, before the edit
    replay: bool  #: taught by an earlier adapter; kept in training so that it stays


@dataclass(frozen=True)
class KeepPrompt:
    """A prompt whose answer training must leave alone; never one of the judged probes."""

    prompt: Prompt
    ids: tuple[int, ...]


class BatchStatus(StrEnum):
    """Where a batch stands."""

    PLANNED = "planned"  #: pairs are made; waits for training
    TRAINED = "trained"  #: has an adapter; waits for the judge
    PROMOTED = "promoted"  #: the gate let it through
    REJECTED = "rejected"  #: the gate stopped it
    FAILED = "failed"  #: training gave no adapter


@dataclass(frozen=True)
class Batch:
    """The pairs one adapter is trained on.  Its adapter is named after its id."""

    id: int
    status: BatchStatus
    parent_adapter_id: int | None  #: None: trained from the base model
    seed: int
    attempts: int

    @property
    def adapter_name(self) -> str:
        """The name of the adapter that this batch becomes, for example kdpo-000007."""
        return f"kdpo-{self.id:06d}"


# ---------------------------------------------------------------- batch -> adapter -> verdict


@dataclass(frozen=True)
class Adapter:
    """An immutable LoRA version.  `batch_id` is None for version 0, which changes nothing."""

    id: int
    name: str
    path: str
    manifest_sha256: str
    batch_id: int | None
    parent_id: int | None


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


# ---------------------------------------------------------------- verdict -> servers


@dataclass(frozen=True)
class Deployment:
    """An adapter is wanted from `created_at` on.  The newest row wins."""

    id: int
    adapter: Adapter
    actor: str
    reason: str
    created_at: datetime


class ReplicaStatus(StrEnum):
    """How far a replica is with the wanted adapter."""

    ABSENT = "absent"  #: not loaded
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


# ---------------------------------------------------------------- the story of a fact


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
