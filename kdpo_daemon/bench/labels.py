"""Random samples of changes, labelled by hand, and how far a replay agrees with them.

Does not replay anything.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from kdpo_daemon.bench.factbook import RELATIONS
from kdpo_daemon.facts.relations import Pack, ValueKind
from kdpo_daemon.facts.spelling import same_spelling, same_value
from kdpo_daemon.records.intake import Ruling
from kdpo_daemon.records.stories import Evidence

#: Samples of 200 changes each, without one in common.
SAMPLES = ("open", "fresh")


@dataclass(frozen=True)
class Label:
    """One change of a sample, and what it is by hand."""

    sample: str  #: open: looked at while the rules were made; fresh: not
    date: str
    path: str
    country: str
    relation: str
    old: str
    new: str
    change: bool  #: another holder, place, name or form than before
    object: str  #: the value that then holds; "" for no change, and for "none"
    kind: str


@dataclass(frozen=True)
class Outcome:
    """What became of a labelled change."""

    label: Label
    ruling: str  #: of its claim; "unseen" if the documents gave none
    object: str
    reason: str
    verdict: str  #: right, missed, wrong (accepted, but no change or another value)


@dataclass(frozen=True)
class Agreement:
    """How one sample came out."""

    changes: int  #: labelled as changes, to a value that can be taught
    right: int
    missed: int
    wrong: int
    precision: float  #: right / (right + wrong)
    recall: float  #: right / changes
    by_relation: Mapping[str, Mapping[str, int]]


def read_labels() -> list[Label]:
    """Give the labelled samples of the changes from 2021 to 2026."""
    folder = files(__package__).joinpath("data")
    texts = (folder.joinpath(f"factbook_{name}.jsonl").read_text("utf-8") for name in SAMPLES)
    return [Label(**json.loads(line)) for text in texts for line in text.splitlines()]


def outcome_of(label: Label, claims: Sequence[tuple[Ruling, Evidence]], pack: Pack) -> Outcome:
    """Find the claim that a labelled change led to, and judge it."""
    for ruling, said in claims:
        if (
            str(said.fetched_at.date()) == label.date
            and said.url.endswith(f"/{label.path}")
            and said.claim.relation == label.relation
        ):
            holder = pack.relations[label.relation].value is ValueKind.HOLDER
            verdict = verdict_on(label, ruling, said.claim.object, holder=holder)
            return Outcome(label, ruling.value, said.claim.object, said.reason, verdict)
    return Outcome(label, "unseen", "", "", "missed" if label.object else "right")


def verdict_on(label: Label, ruling: str, read: str, *, holder: bool) -> str:
    """Say whether a claim was treated as its label wants: right, missed or wrong."""
    if ruling != Ruling.ACCEPTED:
        return "missed" if label.object else "right"
    same = same_value if holder else same_spelling
    return "right" if label.change and same(read, label.object) else "wrong"


def agreement(outcomes: Sequence[Outcome], sample: str) -> Agreement:
    """Count the outcomes of one sample."""
    ours = [one for one in outcomes if one.label.sample == sample]
    changes = [one for one in ours if one.label.object]
    right = sum(one.verdict == "right" for one in changes)
    wrong = sum(one.verdict == "wrong" for one in ours)
    return Agreement(
        changes=len(changes),
        right=right,
        missed=sum(one.verdict == "missed" for one in changes),
        wrong=wrong,
        precision=right / max(right + wrong, 1),
        recall=right / max(len(changes), 1),
        by_relation={
            relation: dict(
                Counter(
                    one.verdict if one.label.object or one.verdict == "wrong" else "no change"
                    for one in ours
                    if one.label.relation == relation
                )
            )
            for relation in RELATIONS.values()
        },
    )
