"""What is asked about a fact before and after it is taught, and what training must leave alone.

Pure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kdpo_daemon.edits.pairs import PlanPolicy, kept
from kdpo_daemon.facts import asking
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Form, NewProbe, Probe, ProbeKind, Prompt

#: Subjects with relations.
Slots = frozenset[tuple[str, str]]

#: Taught phrasings of each form that tell whether a fact is known, beside those never taught.
_ASKED_FIRST = 3


@dataclass(frozen=True)
class Curriculum:
    """What may be asked and taught besides the facts themselves."""

    pack: Pack
    general_probes: tuple[NewProbe, ...]  #: judge only
    general_keep: tuple[Prompt, ...]  #: train only


def probes_for(fact: Fact, pack: Pack, policy: PlanPolicy, taken: Slots) -> list[NewProbe]:
    """Give all probes of one fact; `taken` are slots with facts of their own."""
    relation = pack.relations[fact.relation]
    right = (fact.object,)

    def made(
        kind: ProbeKind, prompts: Sequence[Prompt], expected: tuple[str, ...]
    ) -> list[NewProbe]:
        return [NewProbe(kind, prompt, expected, fact.id) for prompt in prompts]

    subject, role = fact.subject, fact.role
    other = asking.same_subject(
        pack, relation, subject, role, policy.same_subject, _of(subject, taken)
    )
    neighbours = asking.neighbours(
        pack, relation, subject, role, policy.neighbours, _subjects(taken)
    )
    return [
        *made(ProbeKind.EDIT, asking.taught(relation, subject, role), right),
        *made(ProbeKind.PARAPHRASE, asking.held_out(relation, subject, role), right),
        *made(ProbeKind.SAME_SUBJECT, other, ()),
        *made(ProbeKind.SAME_RELATION, neighbours, ()),
    ]


def few_taught(asked: Sequence[Probe]) -> list[Probe]:
    """Leave out most taught phrasings: a few of each fact and form tell whether it is known."""
    count: Counter[tuple[int | None, Form]] = Counter()
    chosen = []
    for probe in asked:
        key = probe.fact_id, probe.prompt.form
        count[key] += probe.kind is ProbeKind.EDIT
        if probe.kind is not ProbeKind.EDIT or count[key] <= _ASKED_FIRST:
            chosen.append(probe)
    return chosen


def keep_prompts(
    new: Sequence[Fact],
    replays: Sequence[Fact],
    taken: Slots,
    curriculum: Curriculum,
    policy: PlanPolicy,
) -> list[Prompt]:
    """Choose the prompts whose answers training must leave alone, for facts new and taught before.

    `taken` are slots with facts of their own, whose answers may change.
    """
    special = [one for fact in (*new, *replays) for one in left_by(fact, curriculum.pack, taken)]
    subjects = [fact.subject for fact in new]
    return kept(special, curriculum.general_keep, subjects, policy, policy.seed)


def left_by(fact: Fact, pack: Pack, taken: Slots) -> list[Prompt]:
    """Give the prompts whose answers teaching one fact must leave alone; `taken` as above."""
    subject, own = fact.subject, _of(fact.subject, taken)
    relation, others = pack.relations[fact.relation], _subjects(taken)
    return asking.keep_prompts(pack, relation, subject, fact.role, others, own)


def _subjects(taken: Slots) -> frozenset[str]:
    return frozenset(subject for subject, _ in taken)


def _of(subject: str, taken: Slots) -> frozenset[str]:
    """Give the relations of which a subject has facts."""
    return frozenset(relation for one, relation in taken if one == subject)
