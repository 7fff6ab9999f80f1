"""What is asked about a fact before and after it is taught, and what training must leave alone.

Pure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kdpo_daemon.edits.pairs import PlanPolicy, kept
from kdpo_daemon.facts import relations
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Form, NewProbe, Probe, ProbeKind, Prompt

#: Taught phrasings of each form that tell whether a fact is known, beside those never taught.
_ASKED_FIRST = 3


@dataclass(frozen=True)
class Curriculum:
    """What may be asked and taught besides the facts themselves."""

    pack: Pack
    general_probes: tuple[NewProbe, ...]  #: judge only
    general_keep: tuple[Prompt, ...]  #: train only


def probes_for(
    fact: Fact, pack: Pack, policy: PlanPolicy, taken: frozenset[str]
) -> list[NewProbe]:
    """Give all probes of one fact; `taken` are subjects with facts of their own."""
    relation = pack.relations[fact.relation]
    right = (fact.object,)

    def made(
        kind: ProbeKind, prompts: Sequence[Prompt], expected: tuple[str, ...]
    ) -> list[NewProbe]:
        return [NewProbe(kind, prompt, expected, fact.id) for prompt in prompts]

    other = relations.same_subject(pack, relation, fact.subject, policy.same_subject)
    neighbours = relations.neighbours(
        pack, relation, fact.subject, fact.role, policy.neighbours, taken
    )
    return [
        *made(ProbeKind.EDIT, relations.taught(relation, fact.subject, fact.role), right),
        *made(ProbeKind.PARAPHRASE, relations.held_out(relation, fact.subject, fact.role), right),
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
    taken: frozenset[str],
    curriculum: Curriculum,
    policy: PlanPolicy,
) -> list[Prompt]:
    """Choose the prompts whose answers training must leave alone, for facts new and taught before.

    `taken` are subjects with facts of their own, whose answers may change.
    """
    special: list[Prompt] = []
    for fact in (*new, *replays):
        relation = curriculum.pack.relations[fact.relation]
        special += relations.keep_prompts(
            curriculum.pack, relation, fact.subject, fact.role, taken
        )
    subjects = [fact.subject for fact in new]
    return kept(special, curriculum.general_keep, subjects, policy, policy.seed)
