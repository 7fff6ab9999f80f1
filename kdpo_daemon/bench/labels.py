"""Random samples of changes, labelled by hand, and how far a replay agrees with them.

Does not replay anything.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kdpo_daemon.bench.factbook import RELATIONS
from kdpo_daemon.errors import SettingsError
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
    precision: float | None  #: right / (right + wrong); None: nothing was accepted
    recall: float | None  #: right / changes; None: there are none
    by_relation: Mapping[str, Mapping[str, int]]


def read_labels(further: Path | None = None) -> list[Label]:
    """Give the labelled samples of the changes from 2021 to 2026, and those of a further file.

    SettingsError if the file cannot be read.
    """
    folder = files(__package__).joinpath("data")
    texts = [folder.joinpath(f"factbook_{name}.jsonl").read_text("utf-8") for name in SAMPLES]
    try:
        if further:
            texts.append(further.read_text("utf-8"))
        return [Label(**json.loads(line)) for text in texts for line in text.splitlines()]
    except (OSError, ValueError, TypeError) as error:
        hint = "one JSON object a line, as in kdpo_daemon/bench/data/factbook_open.jsonl"
        raise SettingsError(
            f"holds no labels: {error}", subject=str(further), hint=hint
        ) from error


Change = tuple[str, str, str]  # day, path of the document, relation


def by_change(claims: Sequence[tuple[Ruling, Evidence]]) -> dict[Change, tuple[Ruling, Evidence]]:
    """Give the claim that each change of a document led to; of several the first."""
    found: dict[Change, tuple[Ruling, Evidence]] = {}
    for ruling, said in claims:
        path = "/".join(said.url.split("/")[-2:])
        found.setdefault((str(said.fetched_at.date()), path, said.claim.relation), (ruling, said))
    return found


def outcome_of(
    label: Label, found: Mapping[Change, tuple[Ruling, Evidence]], pack: Pack
) -> Outcome:
    """Judge the claim that a labelled change led to."""
    ruled = found.get((label.date, label.path, label.relation))
    if ruled is None:
        return Outcome(label, "unseen", "", "", "missed" if label.object else "right")
    ruling, said = ruled
    holder = pack.relations[label.relation].value is ValueKind.HOLDER
    verdict = verdict_on(label, ruling, said.claim.object, holder=holder)
    return Outcome(label, ruling.value, said.claim.object, said.reason, verdict)


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
        precision=right / (right + wrong) if right + wrong else None,
        recall=right / len(changes) if changes else None,
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
