"""What feeds say: feeds, their documents and entries, and the claims read from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Trust(StrEnum):
    """What it takes to believe a feed."""

    AUTO = "auto"  #: its claims are accepted when the rules allow
    MANUAL = "manual"  #: its claims are held for a person


class FeedKind(StrEnum):
    """How a feed's documents are read; a plug-in may bring kinds of other names."""

    FEED = "feed"  #: RSS, Atom or JSON Feed: entries that carry facts
    SNAPSHOT = "snapshot"  #: JSON that says how things are; its changes are the facts
    WIKIDATA = "wikidata"  #: entities of a Wikibase; changed best-rank statements are the facts
    FILE = "file"  #: a folder; the lines of its files are the facts
    WEBHOOK = "webhook"  #: facts are posted to the daemon; nothing is polled


class Extract(StrEnum):
    """How facts are found in the text of entries that carry none."""

    PATTERNS = "patterns"  #: by the patterns of the relations, without any model
    MODEL = "model"  #: by the model of `[extraction]`
    NONE = "none"  #: not at all


@dataclass(frozen=True)
class Feed:
    """A URL or folder that is polled, or a name that is posted to, and what is known of it."""

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
    moved_to: str | None = None  #: where permanent redirects alone led
    interval_s: int | None = None  #: seconds between polls as its changes suggest; None: `every_s`

    @property
    def pace_s(self) -> int:
        """Seconds between polls that go well."""
        return self.interval_s or self.every_s

    @property
    def address(self) -> str:
        """Where it is asked first: where it has moved, unless the poll before failed."""
        return self.url if self.failures else self.moved_to or self.url

    @property
    def extract(self) -> Extract:
        """How facts are found in the text of its entries; ValueError if the option says nonsense.

        Entries of other kinds than `feed` are made of facts, and have no text.
        """
        said = self.options.get("extract", Extract.NONE)
        return Extract(str(said)) if self.kind == FeedKind.FEED else Extract.NONE


@dataclass(frozen=True)
class Waiting:
    """A change that has not stood for long enough to count."""

    value: str  #: what the value changed to; "": it is gone
    stands_at: datetime  #: if it is still so then, it counts


@dataclass(frozen=True)
class Page:
    """One URL of a feed: what to ask its server with again, and what was read of it last."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    #: by an entry's key, the last value that named something
    values: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)  #: by an entry's key
    before: str = ""  #: URL of what it said earlier, which is to be read first; "": nothing is
    wanted: bool = False  #: another page of the feed says that it is to be read
    looked_at: datetime | None = None  #: when it was read because another page says so


@dataclass(frozen=True)
class Fetched:
    """One answer of a feed's server.  `body` is None when it said 304 Not Modified."""

    url: str  #: after redirects
    body: bytes | None
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None
    max_age: float | None = None  #: seconds that the publisher asks us to wait
    moved_to: str | None = None  #: `url`, if permanent redirects alone led there


@dataclass(frozen=True)
class RawFact:
    """The fact an entry carries, in the publisher's own words (see docs/feed-format.md)."""

    subject: str
    relation: str
    new: str
    old: str = ""
    valid_from: str = ""
    aliases: tuple[str, ...] = ()  #: other names of what is now
    old_aliases: tuple[str, ...] = ()  #: other names of what was before


@dataclass(frozen=True)
class Entry:
    """One entry of a feed, as parsed."""

    key: str  #: the publisher's id, or the link
    title: str
    link: str
    published_at: datetime | None
    summary: str
    fact: RawFact | None
    content_hash: str  #: of all above but the date, and of a line but the place where it stands


class ExtractionState(StrEnum):
    """Where an entry stands that a model reads."""

    WAITING = "waiting"  #: for its turn, or for another try
    DONE = "done"  #: read; what was found and what was refused is put down
    GIVEN_UP = "given_up"  #: no usable answer, or its entry changed first


@dataclass(frozen=True)
class WaitingEntry:
    """An entry that a model is to read, and how many answers about it could not be used."""

    id: int  #: of the wording
    entry: Entry
    attempts: int


@dataclass(frozen=True)
class Quoted:
    """A fact as a model reports it, before anything of it is checked."""

    subject: str
    relation: str
    new: str
    old: str  #: "" when the model gives none
    valid_from: str  #: likewise
    quote: str  #: the sentence that says so
    confidence: float  #: 0 to 1, the model's own word


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
    extractor: str = ""  #: what read it from free text; "" where the entry itself states it
    aliases: tuple[str, ...] = ()  #: other names of the object
    old_aliases: tuple[str, ...] = ()  #: other names of the old object


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
    held: str = ""  #: why it has waited until now; "": it is new


@dataclass(frozen=True)
class Delivery:
    """One post to a webhook that was taken, and what was answered."""

    key: str  #: the publisher's idempotency key
    body_sha256: str
    answer: Mapping[str, int]
    received_at: datetime


@dataclass(frozen=True)
class IngestCounts:
    """What one poll brought, in entries: never seen, seen with other words, seen as they are."""

    new: int
    changed: int
    same: int
