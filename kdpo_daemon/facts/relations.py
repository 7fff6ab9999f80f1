"""Relations and subject types: how a fact is asked, taught and judged.

Pure; reads TOML text.  The held-out rule lives here: what judges an edit, phrasings and subjects
alike, is never trained on, and a pack that breaks this is refused.  Does not know models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kdpo_daemon.facts.tables import (
    Table,
    as_flag,
    as_number,
    as_property,
    as_table,
    as_templates,
    as_text,
    as_texts,
    named_tables,
    refused,
)
from kdpo_daemon.facts.templates import Template, patterns_of


class ValueKind(StrEnum):
    """How a relation's raw values are read."""

    HOLDER = "holder"  #: titles, a name and a date; the name counts
    PLAIN = "plain"  #: what stands before notes and parentheses
    QUANTITY = "quantity"  #: a number with its unit, of the last year that is given
    VERSION = "version"  #: of a program, without its name
    PHRASE = "phrase"  #: as plain; a description, which other words may say as well


@dataclass(frozen=True)
class Phrasings:
    """Templates with {subject} and {role}: text to be continued, and questions to a chat model."""

    completion: tuple[str, ...]
    chat: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """What a slot is about, and how it is asked."""

    name: str
    label: str
    role: str  #: the words for {role} where the publisher gives none
    subject_type: str
    value: ValueKind
    max_object_chars: int  #: a longer object is taken for an error of the publisher
    train: Phrasings
    judge: Phrasings
    functional: bool = True  #: one value at a time: a new one supersedes the old
    property: str = ""  #: Wikidata's property; "" where there is none
    object_type: str = ""  #: what kind of thing the object is: person, place, quantity, ...
    stands_days: int | None = None  #: how long a fact of the kind usually stands
    patterns: tuple[Template, ...] = ()  #: sentences that say that the value is new
    also: tuple[str, ...] = ()  #: more words for {role} where other facts must not change it


@dataclass(frozen=True)
class SubjectType:
    """What else is asked about an edited subject, and which other subjects are asked about."""

    name: str
    keep_subjects: tuple[str, ...]
    judge_subjects: tuple[str, ...]
    keep: Phrasings
    judge: Phrasings


@dataclass(frozen=True)
class Pack:
    """All relations and subject types, by name."""

    relations: Mapping[str, Relation]
    subject_types: Mapping[str, SubjectType]


def read_pack(texts: Sequence[str], patterns: Mapping[str, Sequence[str]] | None = None) -> Pack:
    """Read packs from TOML texts; a later one adds tables and overrides keys of earlier ones.

    `patterns` come on top of those of the packs, by the relation's name.

    Raises:
        SettingsError: naming the table and the key, or the pack by its place.

    """
    read: dict[str, dict[str, dict[str, object]]] = {"relations": {}, "subject_types": {}}
    for place, text in enumerate(texts, 1):
        for section, name, table in named_tables(text, f"pack {place}", tuple(read)):
            read[section].setdefault(name, {}).update(table)
    for name, more in (patterns or {}).items():
        if name not in read["relations"]:
            raise refused(f"extraction.patterns.{name}", f"there is no [relations.{name}]")
        own = read["relations"][name].get("patterns", [])
        read["relations"][name]["patterns"] = [*own, *more] if isinstance(own, list) else own
    pack = Pack(
        {name: _relation(name, table) for name, table in read["relations"].items()},
        {name: _subject_type(name, table) for name, table in read["subject_types"].items()},
    )
    for relation in pack.relations.values():
        if relation.subject_type not in pack.subject_types:
            where = f"relations.{relation.name}.subject_type"
            raise refused(where, f"there is no [subject_types.{relation.subject_type}]")
    _check_held_out(pack)
    return pack


def _relation(name: str, table: Table) -> Relation:
    where = f"relations.{name}"
    keys = (
        "label role subject_type value max_object_chars train judge functional"
        " property object_type stands_days titles patterns also"
    )
    as_table(where, table, frozenset(keys.split()))
    label = as_text(f"{where}.label", table.get("label", name.replace("_", " ")))
    chars = as_number(f"{where}.max_object_chars", table.get("max_object_chars", 60), 200)
    stands = table.get("stands_days")
    value = as_text(f"{where}.value", table.get("value", ValueKind.PLAIN))
    if value not in list(ValueKind):
        raise refused(f"{where}.value", f"must be one of {', '.join(ValueKind)}")
    return Relation(
        name=name,
        label=label,
        role=as_text(f"{where}.role", table.get("role", label)),
        subject_type=as_text(f"{where}.subject_type", table.get("subject_type")),
        value=ValueKind(value),
        max_object_chars=chars,
        train=_phrasings(f"{where}.train", table.get("train"), frozenset({"subject", "role"})),
        judge=_phrasings(f"{where}.judge", table.get("judge"), frozenset({"subject", "role"})),
        functional=as_flag(f"{where}.functional", table.get("functional", True)),
        property=as_property(f"{where}.property", table.get("property", "")),
        object_type=str(table.get("object_type", "")),
        stands_days=(
            None if stands is None else as_number(f"{where}.stands_days", stands, 100_000)
        ),
        patterns=patterns_of(where, table, holder=value == ValueKind.HOLDER),
        also=as_texts(f"{where}.also", table["also"]) if "also" in table else (),
    )


def _subject_type(name: str, table: Table) -> SubjectType:
    where = f"subject_types.{name}"
    as_table(where, table, frozenset({"keep_subjects", "judge_subjects", "keep", "judge"}))
    return SubjectType(
        name=name,
        keep_subjects=as_texts(f"{where}.keep_subjects", table.get("keep_subjects")),
        judge_subjects=as_texts(f"{where}.judge_subjects", table.get("judge_subjects")),
        keep=_phrasings(f"{where}.keep", table.get("keep"), frozenset({"subject"})),
        judge=_phrasings(f"{where}.judge", table.get("judge"), frozenset({"subject"})),
    )


def _phrasings(where: str, value: object, fields: frozenset[str]) -> Phrasings:
    table = as_table(where, value, frozenset({"completion", "chat"}))
    return Phrasings(
        completion=as_templates(f"{where}.completion", table.get("completion"), fields),
        chat=as_templates(f"{where}.chat", table.get("chat"), fields),
    )


def _check_held_out(pack: Pack) -> None:
    """Refuse a pack in which something that judges is also trained on."""
    relations, kinds = pack.relations.values(), pack.subject_types.values()
    trained = {
        key for r in relations for said in (r.role, *r.also) for key in _skeletons(r.train, said)
    }
    trained |= {key for kind in kinds for key in _skeletons(kind.keep, "")}
    judging = [(f"relations.{r.name}.judge", _skeletons(r.judge, r.role)) for r in relations]
    judging += [(f"subject_types.{k.name}.judge", _skeletons(k.judge, "")) for k in kinds]
    for where, skeletons in judging:
        leaked = trained & skeletons.keys()
        if leaked:
            template = skeletons[min(leaked)]
            raise refused(where, f"{template!r} is also trained on", _HELD_OUT)
    for kind in kinds:
        keep = {_skeleton(subject) for subject in kind.keep_subjects}
        both = [subject for subject in kind.judge_subjects if _skeleton(subject) in keep]
        if both:
            where = f"subject_types.{kind.name}.judge_subjects"
            raise refused(where, f"{both[0]!r} is also in keep_subjects", _HELD_OUT)


_HELD_OUT = "what judges an edit must never be trained on: take it out of one of the two"


def _skeletons(phrasings: Phrasings, role: str) -> dict[str, str]:
    """Give each template by what is left of it without case and marks, with and without role."""
    templates = [*phrasings.completion, *phrasings.chat]
    bare = {_skeleton(template): template for template in templates}
    return bare | {_skeleton(t.replace("{role}", role)): t for t in templates}


def _skeleton(text: str) -> str:
    return " ".join(re.findall(r"[\w{}]+", text.casefold()))
