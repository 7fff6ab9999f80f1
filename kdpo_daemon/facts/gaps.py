"""What a pack lacks: it can be used as it is, but judges or teaches less well than it might.

Pure.  What makes a pack unusable is an error of `relations.read_pack`, not a gap.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kdpo_daemon.facts.relations import Pack, Phrasings, Relation, SubjectType

#: So many phrasings of each form, so that one odd wording does not decide.
_TRAIN, _JUDGE = 2, 2
#: So many other subjects, so that a batch of facts does not use them up.
_SUBJECTS = 6


@dataclass(frozen=True)
class Gap:
    """Something that is missing, and where it goes."""

    where: str  #: the key in the pack: relations.mayor.stands_days
    missing: str


def gaps(pack: Pack) -> list[Gap]:
    """Give all that is missing, in the pack's order."""
    found = [gap for relation in pack.relations.values() for gap in _of_relation(relation)]
    return [*found, *(gap for kind in pack.subject_types.values() for gap in _of_subjects(kind))]


def _of_relation(relation: Relation) -> Iterator[Gap]:
    where = f"relations.{relation.name}"
    if not relation.object_type:
        yield Gap(f"{where}.object_type", "what kind of thing the object is: person, place, ...")
    if relation.stands_days is None:
        yield Gap(f"{where}.stands_days", "how many days a fact of this kind usually stands")
    yield from _of_phrasings(f"{where}.train", relation.train, _TRAIN)
    yield from _of_phrasings(f"{where}.judge", relation.judge, _JUDGE)


def _of_subjects(kind: SubjectType) -> Iterator[Gap]:
    where = f"subject_types.{kind.name}"
    for name, subjects in (
        ("keep_subjects", kind.keep_subjects),
        ("judge_subjects", kind.judge_subjects),
    ):
        if len(subjects) < _SUBJECTS:
            yield Gap(f"{where}.{name}", f"{len(subjects)} of at least {_SUBJECTS} subjects")
    yield from _of_phrasings(f"{where}.keep", kind.keep, _TRAIN)
    yield from _of_phrasings(f"{where}.judge", kind.judge, _JUDGE)


def _of_phrasings(where: str, phrasings: Phrasings, least: int) -> Iterator[Gap]:
    for name, templates in (("completion", phrasings.completion), ("chat", phrasings.chat)):
        if len(templates) < least:
            yield Gap(f"{where}.{name}", f"{len(templates)} of at least {least} phrasings")
