"""What is asked and taught: probes, answers, pairs and batches."""

from dataclasses import dataclass
from enum import StrEnum


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
    """What a model said to a probe: greedy, to its own end token or as far as it is compared."""

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

    `rejected_ids[t]` is the model's argmax after `prompt_ids + chosen_ids[:t]`, before the edit;
    both arms have the same length and end with the form's end token.
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
