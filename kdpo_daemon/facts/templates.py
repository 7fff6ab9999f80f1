"""Readable templates of sentences, `{subject} names {new} as {title}`, and how they match.

A template becomes a regular expression in which every repetition is bounded and which is tried at
the start of a sentence only; fields never touch each other.  So the work on a sentence has a
limit that depends on the template alone, whatever a stranger writes.  Pure; knows no relations.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from kdpo_daemon.facts.sentences import doubt
from kdpo_daemon.facts.tables import Table, as_texts, refused

#: Characters of a sentence; no longer one is tried.
LONGEST = 400
#: Of a template: characters, and `[optional]` parts, each of which may double the work.
_TEMPLATE, _OPTIONAL = 200, 6
_FIELDS = ("subject", "new", "old", "title", "who")
_HINT = "write it like '{subject} (names|appoints) {new} [as] [its] {title}'"

_UPPER = "".join(chr(code) for code in range(0x41, 0x530) if chr(code).isupper())
_MARKS = ".'\u2019&-"
_CAPITALISED = rf"(?:[a-z]{{0,2}}[{_UPPER}][\w{_MARKS}]{{0,29}}|\d{{1,4}}&\d{{1,4}})"
_PARTICLE = "(?:a[lt]|bin|da|das|de|del|der|di|dos|du|el|la|le|van|von|y|zu)"
# A name that is written small by nobody; `of` and the like only within.
_NAME = rf"{_CAPITALISED}(?: (?:(?:of|for|the|and|&|{_PARTICLE}) ){{0,2}}{_CAPITALISED}){{0,5}}?"
_PERSON = rf"{_CAPITALISED}(?: (?:{_PARTICLE} ){{0,2}}{_CAPITALISED}){{1,4}}?"


class Shape(Enum):
    """What a field looks like; the value is its bounded regular expression."""

    PERSON = _PERSON  #: two or three names, initials and particles not counted
    NAME = _NAME  #: words with capitals: a company, a country, a team
    VERSION = r"\d{1,4}(?:\.\w{1,9}){1,4}"  #: with a point, for a bare number may be anything
    QUANTITY = r"\d{1,3}(?:[.,]\d{1,3}){0,4}(?: (?:thousand|million|billion|trillion))?"


# A label before the statement (`Mega-Deal: `), or where it was written (`LONDON (Reuters) - `).
_START = r"(?:[^:\u2013\u2014]{1,40}(?:: | [\u2013\u2014-] ))?(?:(?i:the) )?"
# What may follow: else `CEO` would match in `CEO of the Year`.
_FINISH = (
    r"(?=[.!\u2026]{0,3}$|[,;:] | [|(\u2013\u2014-]| (?i:after|amid|as|following|effective|from"
    r"|who|which|to (?:replace|succeed)|replacing|succeeding|today|yesterday|on [A-Z]\w{1,8}day"
    r"|with|f\u00fcr|mit|nach|ab)\b)"
)
# Agencies put the day before or after the verb.
_DAY = "(?: (?i:(?:on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day|today|yesterday))?"
_MODIFIER = "acting|interim|caretaker"
# What stands beside names in headlines that write every word with a capital.
_NO_NAME = re.compile(
    r"\w+['\u2019]s|veteran|maven|exec(?:utive)?|boss|insider|outsider|banker|lawyer|star|ally|aide"
    r"|rival|expert|specialist|analyst|engineer|scientist|professor|founder|partner|officer"
    r"|newcomer|alum\w*|longtime|its?|his|her|their|\w*\d\w*",
    re.IGNORECASE,
)
_UNIT = re.compile(r"\{(\w+)\}|\[([^\[\]{}()]+)\]|\(([^\[\]{}()]+)\)|([^\s{}\[\]()]+)")
_PIECE = re.compile(r"(?:\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)|[^\s{}\[\]()])+|\S")


@dataclass(frozen=True)
class Match:
    """What a template found in a sentence, in the sentence's words."""

    subject: str
    new: str
    old: str
    title: str  #: as the pack writes it
    modifier: str  #: acting, interim, caretaker


@dataclass(frozen=True)
class Template:
    """A template that can be used."""

    text: str
    pattern: re.Pattern[str]
    shapes: Mapping[str, Shape]
    titles: tuple[str, ...]

    def match(self, sentence: str) -> Match | None:
        """Give what the sentence says, or None if the template does not fit it."""
        found = self.pattern.match(sentence) if len(sentence) <= LONGEST else None
        if found is None:
            return None
        said = {name: _trimmed(value) for name, value in found.groupdict("").items()}
        for name, shape in self.shapes.items():
            if shape is Shape.PERSON and said.get(name) and not _is_person(said[name]):
                return None
        return Match(
            subject=said["subject"],
            new=said["new"],
            old=said.get("old", ""),
            title=self._title(said.get("title", "")),
            modifier=said.get("modifier", "").lower(),
        )

    def _title(self, said: str) -> str:
        return next((one for one in self.titles if one.lower() == said.lower()), "")


def patterns_of(where: str, table: Table, *, holder: bool) -> tuple[Template, ...]:
    """Give the patterns of a relation's table; `holder`: its values are names of persons.

    SettingsError if one cannot be used.
    """
    if "patterns" not in table:
        return ()
    titles = as_texts(f"{where}.titles", table["titles"]) if "titles" in table else ()
    kinds = {"version": Shape.VERSION, "quantity": Shape.QUANTITY}
    new = Shape.PERSON if holder else kinds.get(str(table.get("object_type")), Shape.NAME)
    subject = Shape.PERSON if table.get("subject_type") == "person" else Shape.NAME
    shapes = {"subject": subject, "new": new, "old": new, "who": Shape.NAME}
    return read_templates(f"{where}.patterns", table["patterns"], titles, shapes)


def read_templates(
    where: str, value: object, titles: Sequence[str], shapes: Mapping[str, Shape]
) -> tuple[Template, ...]:
    """Compile the templates of a relation; `shapes` of all fields but title.

    Raises:
        SettingsError: naming the template and what is wrong with it.

    """
    return tuple(_template(where, text, titles, shapes) for text in as_texts(where, value))


def _template(
    where: str, text: str, titles: Sequence[str], shapes: Mapping[str, Shape]
) -> Template:
    why = _unusable(text, titles) or _touching(text, shapes)
    if why:
        raise refused(where, f"{text!r} {why}", _HINT)
    regexes = [
        (_regex(piece, titles, shapes), piece.startswith("[")) for piece in _PIECE.findall(text)
    ]
    # the space that parts an optional piece from the others goes with it
    first = next(n for n, (_, optional) in enumerate(regexes) if not optional)
    before = "".join(f"(?:{regex} )?" for regex, _ in regexes[:first])
    after = "".join(
        f"(?:{_DAY} {regex})?" if optional else f"{_DAY} {regex}"
        for regex, optional in regexes[first + 1 :]
    )
    body = before + regexes[first][0] + after
    return Template(text, re.compile(_START + body + _FINISH), shapes, tuple(titles))


def _unusable(text: str, titles: Sequence[str]) -> str:
    """Say why a text is no template, or ""."""
    pieces = _PIECE.findall(text)
    fields = re.findall(r"\{(\w*)\}", text)
    wrong = [one for one in fields if one not in _FIELDS or fields.count(one) > 1]
    needed = [piece for piece in pieces if not piece.startswith("[")]
    words = re.sub(r"\{\w*\}", " ", text)
    always = re.sub(r"\[[^\[\]]*\]", " ", words)
    filled = re.sub(r"[\[\]()|]", " ", re.sub(r"\{\w*\}", "X", text))
    complaints = (
        (len(text) > _TEMPLATE, f"is longer than {_TEMPLATE} characters"),
        (wrong, f"has {{{wrong[0] if wrong else ''}}}: once each of {', '.join(_FIELDS)}"),
        (not {"subject", "new"} <= {*fields}, "must have {subject} and {new}"),
        ("title" in fields and not titles, "has {title}, but the relation has no `titles`"),
        (not all(map(_is_piece, pieces)), "has brackets that stand not alone or not closed"),
        (len(pieces) - len(needed) > _OPTIONAL, f"has more than {_OPTIONAL} [optional] parts"),
        (not re.search(r"[^\W\d_]{2}", always), "has no word of its own"),
        (doubt(filled), "has a word that makes a sentence doubtful, so it would never match"),
    )  # fmt: skip
    return next((why for is_so, why in complaints if is_so), "")


def _touching(text: str, shapes: Mapping[str, Shape]) -> str:
    """Say which fields have no word between; numbers may follow names, which they cannot be."""
    needed = [piece for piece in _PIECE.findall(text) if not piece.startswith("[")]
    for one, other in pairwise(needed):
        if one[-1] == "}" and other[0] == "{" and "{title}" not in (one, other):
            between = {shapes[one[one.rindex("{") + 1 : -1]], shapes[other[1 : other.index("}")]]}
            if not between & {Shape.VERSION, Shape.QUANTITY}:
                return f"has no word between {one} and {other} that is always there"
    return "has two fields with nothing between" if "}{" in text else ""


def _is_piece(piece: str) -> bool:
    """Tell whether a piece reads as one; an optional or grouped one has no field in it."""
    units = _UNIT.findall(piece)
    whole = "".join(unit.group(0) for unit in _UNIT.finditer(piece)) == piece
    return whole and (len(units) == 1 or not any(optional for _, optional, _, _ in units))


def _regex(piece: str, titles: Sequence[str], shapes: Mapping[str, Shape]) -> str:
    return "".join(
        _field(field, titles, shapes) if field else _words(optional or group or literal)
        for field, optional, group, literal in _UNIT.findall(piece)
    )


def _field(name: str, titles: Sequence[str], shapes: Mapping[str, Shape]) -> str:
    if name == "title":
        longest_first = sorted(titles, key=len, reverse=True)
        which = "|".join(_escaped(title) for title in longest_first)
        return rf"(?:(?P<modifier>(?i:{_MODIFIER})) )?(?:(?i:new) )?(?P<title>(?i:{which}))"
    shape = shapes[name]
    before = r"(?:[vV]\.?)?" if shape is Shape.VERSION else ""
    return f"{before}(?P<{name}>{shape.value})"


def _words(text: str) -> str:
    """Give words, or alternatives with `|`, in either case."""
    return f"(?i:{'|'.join(_escaped(' '.join(one.split())) for one in text.split('|'))})"


def _escaped(text: str) -> str:
    return re.escape(text).replace("'", "['\u2019]").replace(r"\ ", " ")


def _trimmed(value: str) -> str:
    """Drop the full stop of the sentence from a name, but not from `Inc.`, and its article."""
    if value.endswith(".") and not re.search(r"\b(?:Inc|Corp|Co|Ltd|Jr|Sr|[A-Z])\.$", value):
        value = value[:-1]
    return re.sub(r"^the ", "", value, flags=re.IGNORECASE)


def _is_person(name: str) -> bool:
    """Two or three names; more are a name with a description before it: `Veteran Banker ...`."""
    words = [
        word
        for word in name.split()
        if not re.fullmatch(rf"{_PARTICLE}|[A-Z]\.|(?:Jr|Sr)\.?|[IVX]+", word)
    ]
    return 2 <= len(words) <= 3 and not any(map(_NO_NAME.fullmatch, words))
