"""Which records are edited, and what else is asked about them.  Pure.

Edited subjects are distinct, as in the KDPO authors' sequence: what is asked to stay as it was
must not be another edit.  Where a file has no neighbours, they are made of records that were not
drawn: the same question about their subjects.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from kdpo_daemon.bench.edits.forms import ASKED
from kdpo_daemon.bench.edits.records import Question, Record, both_forms, by_turns
from kdpo_daemon.edits.scores import normalise
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.teaching import Prompt

#: Prompts to be left alone that a record brings, at most, where its form gives none.
_KEEP = 4


def draw(records: Sequence[Record], edits: int, seed: int) -> list[Record]:
    """Choose `edits` records, numbered from 1, with neighbours and prompts to keep.

    In the order of the data's authors, if there is one; else by chance, which `seed` decides.

    Raises:
        SettingsError: there are not so many.

    """
    ordered = sorted(
        (one for one in records if one.place is not None), key=lambda one: one.place or 0
    )
    if not ordered:
        ordered = list(records)
        Random(seed).shuffle(ordered)  # noqa: S311 - a choice of facts, not a secret
    usable = _distinct([one for one in ordered if normalise(one.new) != normalise(one.old)])
    if len(usable) < edits:
        raise SettingsError(
            f"has {len(usable)} usable edits of distinct subjects, not {edits}",
            subject="--edits",
            hint=f"ask for {len(usable)} at most, or name a larger file",
        )
    chosen = usable[:edits]
    subjects = {one.subject for one in chosen}
    rest = [one for one in records if one.subject not in subjects]
    by_relation = _by_relation(rest)
    return [
        _completed(replace(one, number=number), by_relation, subjects, seed)
        for number, one in enumerate(chosen, 1)
    ]


def batches(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Cut the sequence into batches of `size`; the last may be smaller."""
    return [list(records[start : start + size]) for start in range(0, len(records), size)]


def _distinct(records: Sequence[Record]) -> list[Record]:
    """Leave out records of a subject that came before."""
    first: dict[str, Record] = {}
    for one in records:
        first.setdefault(one.subject, one)
    return list(first.values())


def _by_relation(records: Sequence[Record]) -> Mapping[str, list[str]]:
    """Give the subjects of each relation that a template states."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for one in records:
        if "{}" in one.relation:
            found[one.relation][one.subject] = None
    return {relation: list(subjects) for relation, subjects in found.items()}


def _completed(
    record: Record, others: Mapping[str, list[str]], edited: set[str], seed: int
) -> Record:
    """Add neighbours and prompts to keep, of subjects that are not edited."""
    near = tuple(one for one in record.same_relation if not _mentions(one, edited))
    rng = Random(f"{seed} {record.subject}")  # noqa: S311 - a choice of subjects, not a secret
    pool = list(others.get(record.relation, []))
    rng.shuffle(pool)
    # what judges must not be kept by training, for any record: the subject's own name decides
    judging = [one for one in pool if len(one) % 2] if not record.same_relation else []
    keeping = [one for one in pool if one not in judging]
    if not record.same_relation:
        asked = [(record.relation.replace("{}", one), ()) for one in judging]
        near = by_turns([(text, tuple(right)) for text, right in asked], record.number, ASKED)
    if record.keep:
        keep = tuple(one for one in record.keep if not _states(one.text, edited - _own(record)))
    else:
        keep = _keep(record, [record.relation.replace("{}", one) for one in keeping])
    judged = {one.prompt for one in (*near, *record.same_subject)}
    keep = tuple(one for one in keep if one not in judged)
    return replace(record, same_relation=near, keep=keep)


def _own(record: Record) -> set[str]:
    return {record.subject}


def _keep(record: Record, same: Sequence[str]) -> tuple[Prompt, ...]:
    """Ask what the subject is, and the same question about subjects that judge nothing."""
    about = (*both_forms(f"{record.subject} is"), *both_forms(f"Tell me about {record.subject}."))
    near = [one.prompt for one in by_turns([(text, ()) for text in same], record.number, _KEEP)]
    return (*about, *near)


def _mentions(question: Question, subjects: set[str]) -> bool:
    return _states(question.prompt.text, subjects)


def _states(text: str, subjects: set[str]) -> bool:
    return any(subject in text for subject in subjects)
