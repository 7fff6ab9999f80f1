"""What is asked about a fact: to teach it, to judge it, and what training must leave alone.

Pure; by the packs' phrasings.  What judges is never trained on: packs are checked for it
(`relations`).
"""

from collections.abc import Collection, Sequence
from hashlib import sha256
from itertools import zip_longest
from typing import TypeVar

from kdpo_daemon.facts.relations import Pack, Phrasings, Relation
from kdpo_daemon.records.teaching import Form, Prompt

T = TypeVar("T")

_NEAR = 3  #: phrasings in which each other relation of a subject is kept


def taught(relation: Relation, subject: str, role: str) -> list[Prompt]:
    """Give the phrasings that teach a fact, and so are no evidence that it generalises."""
    return _prompts(relation.train, subject, role or relation.role)


def held_out(relation: Relation, subject: str, role: str) -> list[Prompt]:
    """Give the phrasings of a fact that are never taught."""
    return _prompts(relation.judge, subject, role or relation.role)


def neighbours(
    pack: Pack,
    relation: Relation,
    subject: str,
    role: str,
    count: int,
    exclude: Collection[str],
) -> list[Prompt]:
    """Ask at most `count` other subjects the same, in both forms by turns; to judge only.

    The choice depends on the subject's name alone.  `exclude`: subjects with facts of their own,
    whose answers may change.
    """
    others = set(pack.subject_types[relation.subject_type].judge_subjects) - {subject, *exclude}
    chosen = _shuffled(sorted(others), subject)[:count]
    prompts = [_by_turns(held_out(relation, other, role), other) for other in chosen]
    return [asked[n % len(asked)] for n, asked in enumerate(prompts)]


def same_subject(
    pack: Pack,
    relation: Relation,
    subject: str,
    role: str,
    count: int,
    own: Collection[str] = (),
) -> list[Prompt]:
    """Ask at most `count` other things about the subject, both forms by turns; to judge only.

    Half of them ask for what the pack's other relations are about: nothing is as near to a fact
    as its president is to a country's prime minister.  `own`: relations of which the subject has
    facts, whose answers may change.
    """
    kind = pack.subject_types[relation.subject_type]
    taken = set(held_out(relation, subject, ""))
    far = [one for one in _prompts(kind.judge, subject, "") if one not in taken]
    near = [
        _shuffled(held_out(other, subject, said), f"{subject} {said}")[0]
        for other, said in _others(pack, relation, role, own)
    ]
    (near_text, near_chat), (far_text, far_chat) = _by_form(near, subject), _by_form(far, subject)
    return _in_turn(_in_turn(near_text, far_text), _in_turn(far_chat, near_chat))[:count]


def keep_prompts(
    pack: Pack,
    relation: Relation,
    subject: str,
    role: str,
    exclude: Collection[str] = (),
    own: Collection[str] = (),
) -> list[Prompt]:
    """Give prompts whose answers training must leave alone.

    Other things about the subject; the same of other subjects; other things about those.
    `exclude`: subjects with facts of their own, whose answers may change; `own`: relations of
    which this subject has.
    """
    kind = pack.subject_types[relation.subject_type]
    others = _shuffled(sorted(set(kind.keep_subjects) - {subject, *exclude}), subject)
    same = [_by_turns(taught(relation, other, role), other) for other in others[:24]]
    about = [_by_turns(_prompts(kind.keep, other, ""), other) for other in others[:12]]
    near = [
        _shuffled(taught(other, subject, said), f"{subject} {said}")[:_NEAR]
        for other, said in _others(pack, relation, role, own)
    ]
    return [
        *_prompts(kind.keep, subject, ""),
        *(prompt for asked in near for prompt in asked),
        *(asked[n % len(asked)] for n, asked in enumerate(same)),
        *(asked[n % len(asked)] for n, asked in enumerate(about)),
    ]


def _others(
    pack: Pack, relation: Relation, role: str, own: Collection[str]
) -> list[tuple[Relation, str]]:
    """Give the other relations of such subjects, in the words for their roles.

    None of `own`, and none whose question a subject type asks, too: what judges there is on
    topics that training does not touch.  Nor in the words of the fact's own role: a president
    leads a state or a government.
    """
    kind = pack.subject_types[relation.subject_type]
    judging = {*kind.judge.completion, *kind.judge.chat}
    said = role or relation.role
    return [
        (other, words)
        for other in pack.relations.values()
        if other.subject_type == relation.subject_type
        and other.name not in {relation.name, *own}
        and judging.isdisjoint((*other.judge.completion, *other.judge.chat))
        for words in (other.role, *other.also)
        if words != said
    ]


def _prompts(phrasings: Phrasings, subject: str, role: str) -> list[Prompt]:
    return [
        Prompt(form, template.format(subject=subject, role=role))
        for form, templates in (
            (Form.COMPLETION, phrasings.completion),
            (Form.CHAT, phrasings.chat),
        )
        for template in templates
    ]


def _by_turns(prompts: Sequence[Prompt], seed: str) -> list[Prompt]:
    """Completion, chat, completion, ...; each form in an order that depends on the seed."""
    return _in_turn(*_by_form(prompts, seed))


def _by_form(prompts: Sequence[Prompt], seed: str) -> list[list[Prompt]]:
    return [_shuffled([one for one in prompts if one.form is form], seed) for form in Form]


def _in_turn(*many: Sequence[T]) -> list[T]:
    """The first of each, the second of each, and so on, as long as there are some."""
    return [one for some in zip_longest(*many) for one in some if one is not None]


def _shuffled(things: Sequence[T], seed: str) -> list[T]:
    return sorted(things, key=lambda one: sha256(f"{seed}\n{one}".encode()).digest())
