"""A publisher's raw value as a clean object, role and date; and when two values are the same.

Pure.  Written for the CIA World Factbook, whose office holders look like
`Prime Minister Dick SCHOOF (since 2 July 2024); note - ...`: first the titles, then the name
with its family name in capitals, then the date.  What does not read like that gives an empty
object and a note, so that the claim is held instead of guessed.  Does not know relations.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

from kdpo_daemon.facts.dates import date_in
from kdpo_daemon.facts.spelling import PARTICLE, nearly, same_spelling, same_value, words_of
from kdpo_daemon.facts.titles import APOSTROPHES, MARKS, MODIFIERS, is_title_word, split_titles


@dataclass(frozen=True)
class Reading:
    """What a raw value says.  `object` is "" when it names nobody, or nobody for sure."""

    object: str
    role: str = ""  #: "prime minister"; "" when the value carries no title
    since: datetime | None = None
    note: str = ""  #: "acting", "vacant", "several holders", "cannot be read as a name", ...
    also: str = ""  #: the same name as others spell it; "" when the value does not say


# The first holder's part of the value ends here.
_REST = re.compile(
    r";|\((?=[^()]*\d)| [-\u2013\u2014] "
    r"|,?\s*\(?\b(?:note\b|represented by|resigned\b|in caretaker"
    r"|is the\b|is effectively\b|serv(?:ing|es) as|since\b)"
)
# Dates that are not when the office began.
_ELSEWHEN = re.compile(r"\b(?:born|until|till|through|expires|ending) [^;,()]*")
# Of the first holder, not of those in the notes.
_ALSO = re.compile(r"^([^;(]*?)\s*[;,(]?\s*\balso spelled ([^;,()]+)[,)]?")
_SEVERAL = re.compile(r"\bco-?(?:chiefs?|princes?)\b", re.IGNORECASE)
_NOT_YET = re.compile(r"\w[- ](?:elect|designate)\b", re.IGNORECASE)
_FORMER = re.compile(r"(?:formerly|previously|former)\b", re.IGNORECASE)
_NO_LONGER = "says what held before"
# Of the holder, so at the beginning or in the parenthesis; notes tell of others.
_OUT = re.compile(
    r"(?:^|[^()]*\((?:\w+ )?)(?:suspended|impeached|deposed|ousted|overthrown|dismissed)\b",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"(?:t\.?b\.?[acd]\.?|to be \w+|n/?a|unknown|disputed|nobody|no one)\.?", re.IGNORECASE
)
# `SCHOOF, Dick`; `Bolt, Jamaica` looks alike, but for the capitals
_FAMILY_FIRST = re.compile(r"([^\s,]+), ((?:[A-Z][\w.'-]*)(?: [A-Z][\w.'-]*){0,2})$")
# Another holder of the same rank; the first one's part has dates and representatives of its own.
_ANOTHER = re.compile(r"[;,]? and (?=(?:\w+ )?co-?princes?\b)", re.IGNORECASE)
# A name in two languages, `Chisinau in Romanian (Kishinev in Russian)`.
_IN_LANGUAGES = re.compile(r"(.+) in [A-Z]\w+ \([^()]+ in [A-Z]\w+\)$")
# What a sentence has and a value has not.
_VERB = re.compile(r"\b(?:is|are|was|were|does|do|did|has|have|had|will)\b")
_NOTHING = re.compile(
    r"none|n/?a|vacant|unknown|not (?:available|applicable)|t\.?b\.?[acd]|to be \w+|nobody|no one"
    r"|free agent|retired|unattached|disputed",
    re.IGNORECASE,
)
# `Nusantara (since 17 August 2024)`, but not in a note on what was so before
_SINCE = re.compile(r"[^;()]*\((?:[^()]*\b)?since ([^()]*)\)")
# A comma that parts no values: `Amazon.com, Inc.`, `Washington, D.C.`
_SUFFIX = re.compile(
    r",(?= (?:Inc|Corp|Co|Ltd|LLC|L\.?L\.?C|L\.?P|plc|PLC|GmbH|AG|S\.A|N\.V|B\.V|D\.? ?C)\b)"
)
# An abbreviation keeps its full stop.
_ABBREVIATED = re.compile(r".*(?:\b(?:Inc|Corp|Ltd|Co|Bros|Jr|Sr)|\.\w)")
_UNSURE = re.compile(rf"\b(?:{MODIFIERS})\b", re.IGNORECASE)
# `Tu'ipelehake` and `Sa'ar` go on small, `O'Neill`, `N'Diaye` and `Dell'Utri` do not.
_WITHIN = re.compile(rf"(?!ll)\w{{2}}[{APOSTROPHES}](?:\w[{APOSTROPHES}])*$", re.IGNORECASE)
_NUMERAL = re.compile(r"[IVX]+")
# `de la Guardia`; in capitals behind `de` only, for else it begins a name, `LA GRENADE`.
_ARTICLE = re.compile("las?|los?|les?")


def read_holder(raw: str) -> Reading:
    """Give the first holder of an office as clean words, "Dick SCHOOF" as "Dick Schoof".

    Several who hold it together are one object, "Denise Bronzetti and Italo Righi".
    """
    text, also = _plain(raw), _ALSO.match(raw)
    heads = [
        _REST.split(one, maxsplit=1)[0].strip(" ,").rstrip(" (") for one in _ANOTHER.split(text)
    ]
    first = text.split(";")[0]
    since = _since(first[first.find("since") :]) or _since(first)
    role, name = _holders(heads)
    why = _nobody(heads[0], first)
    if why or not name:
        several = " and " in heads[0] or _SEVERAL.search(heads[0])
        unread = "several holders" if several else "cannot be read as a name"
        return Reading("", role, since, why or unread)
    modifiers = {m.lower() for m in _UNSURE.findall(first)}
    others = " ".join(_name_words(also[2])) if also else ""
    return Reading(name, role, since, ", ".join(sorted(modifiers)), others)


def _nobody(head: str, first: str) -> str:
    """Say why a value names nobody who is in office; "" if it may.

    `head` is the name with its titles, `first` also what is said of it.
    """
    if re.search(r"\b(?:vacant|none)\b", head, re.IGNORECASE):
        return "vacant"
    if _UNKNOWN.fullmatch(head):
        return "not known"
    if _OUT.match(first):
        return "says that its holder is out of office"
    if _NOT_YET.search(head):
        return "not in office yet"
    return _NO_LONGER if _FORMER.match(head) else ""


def _holders(heads: Sequence[str]) -> tuple[str, str]:
    """Give role and name of one holder, or of all who hold an office together."""
    role, name = split_titles(heads[0])
    words = _name_words(name)
    if len(heads) == 1 and words and not _SEVERAL.search(heads[0]):
        return role, " ".join(words)
    each = heads if len(heads) > 1 else heads[0].split(" and ")
    names = [_name_words(split_titles(one)[1]) for one in each]
    if len(names) > 1 and all(len(words) > 1 for words in names):
        return "", " and ".join(map(" ".join, names))
    return role, ""


def read_plain(raw: str) -> Reading:
    """Give a value that is no office holder: what stands before notes and parentheses."""
    text = re.sub(r"\s*[;:,(]?\s*\bnote\b.*", "", _plain(raw))
    text = re.sub(r"\([^()]*\)?", "", _IN_LANGUAGES.sub(r"\1", text))
    if _FORMER.match(text):
        return Reading("", note=_NO_LONGER)
    if _NOTHING.fullmatch(text.strip(" ;,.")):
        return Reading("", note="says that there is none")
    said = _SUFFIX.sub("\0", f"{text} ")
    parts = [part.strip() for part in re.split(r"[;,] | or | / | = ", said) if part.strip(" ;,")]
    # what begins small is a remark; `Nay Pyi Taw is the administrative capital` names another one
    values = [part for part in parts if not (_VERB.search(part) and part[0].islower())]
    if len(values) > 1 or not parts:
        return Reading("", note="several values" if values else "empty")
    if not values or _VERB.search(values[0]):
        return Reading("", note="reads like a sentence")
    value = _fold_spaces(values[0].replace("\0", ",")).strip(" ;,")
    since = _SINCE.match(raw)
    whole = value if _ABBREVIATED.fullmatch(value.rstrip(".")) else value.rstrip(".")
    return Reading(whole, since=date_in(f"since {since[1]}") if since else None)


def read_changed_part(new: str, old: str) -> tuple[Reading, Reading] | None:
    """Give the one part in which two descriptions of several parts differ; None if there is none.

    `parliamentary democracy; a Commonwealth realm`, then `parliamentary republic; a Commonwealth
    realm`: the form of government changed, and the rest did not.
    """
    came, went = (
        [part for part in mine if not any(same_spelling(part, one) for one in theirs)]
        for mine, theirs in ((_parts(new), _parts(old)), (_parts(old), _parts(new)))
    )
    if len(came) != 1 or len(went) != 1 or not len(_parts(new)) == len(_parts(old)) > 1:
        return None
    return read_plain(came[0]), read_plain(went[0])


def _parts(raw: str) -> list[str]:
    text = re.sub(r"\s*[;:,(]?\s*\bnote\b.*", "", _plain(raw))
    return [part.strip() for part in text.split(";") if part.strip()]


def _fold_spaces(text: str) -> str:
    return " ".join(text.split())


def _plain(raw: str) -> str:
    """Drop what may stand in every kind of value: a label, nicknames, other spellings."""
    text = _fold_spaces(raw).removeprefix("name: ").replace(", Jr", " Jr").replace(" & ", " and ")
    text = _ALSO.sub(r"\1 ", text)
    return _fold_spaces(re.sub(r'["“][^"“”]*["”]|\((?:also|aka|formerly) [^()]*\)', "", text))


def _since(text: str) -> datetime | None:
    return date_in(_ELSEWHEN.sub("", text))


def _name_words(name: str) -> list[str]:
    """Give the words of a name in usual case; none if it does not look like a name."""
    name = name.strip(" ,:")
    inverted = _FAMILY_FIRST.match(name)
    if inverted and not split_titles(inverted[2])[0]:
        if not inverted[1].isupper() or inverted[2].isupper():
            return []
        name = f"{inverted[2]} {inverted[1]}"
    words = re.sub(r" of (?:the )?[A-Z].*|, .*|(?<!Jr)\.$", "", name).split()
    if not words or any(map(is_title_word, words)):
        return []
    cased = [_cased(word, before) for before, word in zip(["", *words], words, strict=False)]
    named = [_starts_like_a_name(word) for word in cased]
    small = [PARTICLE.fullmatch(word) or _ARTICLE.fullmatch(word) for word in cased]
    good = all(map(any, zip(named, small, strict=True)))
    return cased if good and any(named) else []


def _starts_like_a_name(word: str) -> bool:
    # `al-Asad`, `al-'Abadi`, `d'Arc` and `'Akilisi` too
    start = re.sub(rf"^(?:[a-z]{{1,3}}[{MARKS}])?[{MARKS}]?", "", word)
    return start[:1].isupper() and not re.search(rf"[^{MARKS}.\w]|[\d_]", start)


def _cased(word: str, before: str) -> str:
    """`SCHOOF` -> `Schoof`, `O'NEILL` -> `O'Neill`, `DE LA` -> `de la`; `XIV` stays.

    `before` is the word before it; "": there is none, and so neither particle nor number.
    """
    article = before.lower() == "de" and _ARTICLE.fullmatch(word.lower())
    if word.isupper() and before and (article or PARTICLE.fullmatch(word.lower())):
        return word.lower()
    if _NUMERAL.fullmatch(word) and before:
        return word
    return re.sub(r"[^\W\d_]+", lambda piece: _cased_piece(piece[0], word[: piece.start()]), word)


def _cased_piece(piece: str, before: str) -> str:
    if piece.isupper() and _WITHIN.search(before):
        return piece.lower()
    scots = re.fullmatch(r"(Mac|Mc|De|Le|La)([A-Z]{2,})", piece)
    if scots:
        return scots[1] + scots[2].capitalize()
    return piece.capitalize() if piece.isupper() else piece


_SAME_WEEK = timedelta(days=7)


def same_holder(one: Reading, other: Reading) -> bool:
    """True when two readings are of one holder: `same_value`, or alike and since the same week.

    Publishers correct a name beyond what `same_value` knows (`Juan Antonio Briceno`, then `John
    Briceno`), and at times the day; of two who follow each other the second came much later.
    """
    if not (one.object and other.object):
        return False
    mine, theirs = (filter(None, (reading.object, reading.also)) for reading in (one, other))
    if any(same_value(*pair) for pair in product(mine, theirs)):
        return True
    if not (one.since and other.since) or abs(one.since - other.since) > _SAME_WEEK:
        return False
    short, long = sorted((words_of(one.object), words_of(other.object)), key=len)
    alike = [at for at, word in enumerate(short) if any(nearly(word, one) for one in long)]
    # who share nothing but a given name are two: `Michael Strong`, then `Michael Ratney`
    namesakes = alike == [0] and len(short) > 1 and nearly(short[0], long[0])
    return 2 * len(alike) >= len(short) and not namesakes
