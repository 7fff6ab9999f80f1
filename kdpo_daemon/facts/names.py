"""A publisher's raw value as a clean object, role and date; and when two values are the same.

Pure.  Written for the CIA World Factbook, whose office holders look like
`Prime Minister Dick SCHOOF (since 2 July 2024); note - ...`: first the titles, then the name
with its family name in capitals, then the date.  What does not read like that gives an empty
object and a note, so that the claim is held instead of guessed.  Does not know relations.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Reading:
    """What a raw value says.  `object` is "" when it names nobody, or nobody for sure."""

    object: str
    role: str = ""  #: "prime minister"; "" when the value carries no title
    since: datetime | None = None
    note: str = ""  #: "acting", "vacant", "several holders", "cannot be read as a name", ...


_MARKS = "-'`\u2018\u2019"  # hyphen and apostrophes: what a word of a name may be joined with
# What may stand before a name.  An office gives the role; the first one counts.
_OFFICES = (
    "prime minister|vice president|president of the government|(?:president|chairman|chairperson)"
    " of (?:the )?(?:council of ministers|presidency|executive council|territorial council"
    "|territorial assembly)|president|premier|chief minister|first minister|minister of state"
    "|secretary of state|chief executive officer|chief executive|taoiseach|federal chancellor"
    "|chancellor|king|queen|emperor|empress|sultan|amir|emir|grand duke|crown prince|prince|pope"
    "|governor[ -]general|governor|high commissioner|administrator|ambassador|charg[eé] d'affaires"
    "|chairperson|chairman|speaker|lord mayor|mayor|(?:secretary|director)[ -]general"
    "|head of government|foreign minister|minister for foreign affairs"
    "|minister of (?:foreign affairs|(?:the )?interior|defense|finance)"
)
# An officer who is not the real thing: noted, and left out of the role.
_MODIFIERS = "acting|interim|caretaker|transitional|transition"
# Ranks and courtesies, which people leave out when they ask for somebody.
_HONOURS = (
    r"(?:sr|lt|brig|maj|gen|col|cdre|adm|capt|cmdr|dr|mr|mrs|ms|hon|ret|prof)\.|\(ret\.?\)"
    "|(?:major |lieutenant |brigadier )?general|colonel|air commodore|air vice[ -]marshall?"
    "|captain|commander|sir|dame|lady|sheikh|shaykh|sayyid|cardinal|ratu|tuanku|dato'?|datuk"
    "|tan sri"
)
_TITLE = re.compile(
    rf"(?:(?P<office>{_OFFICES})|{_MODIFIERS}|{_HONOURS}|and\b)(?:,|\b|(?<=[.)]))\s*(?![{_MARKS}])",
    re.IGNORECASE,
)
# Words that only a title has.  Left in a name, they say that the title was not understood.
_TITLE_WORD = re.compile(
    "(?:vice-|co-vice-)?(?:president|minister|chair(?:man|person)?|leader|council|commissioner"
    "|prime|premier|chief|executive|secretary|director|head|deputy|vice|co-vice|speaker|marshal|government|state)",
    re.IGNORECASE,
)
# The first holder's part of the value ends here.
_REST = re.compile(
    r";|\((?=[^()]*\d)|,?\s*\(?\b(?:note\b|also spelled|represented by|resigned\b|in caretaker"
    r"|is the\b|serving as|since\b)"
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DATE = re.compile(rf"(?:(?:(\d{{1,2}}) )?\b({'|'.join(_MONTHS)})[a-z]*\.?|since) (\d{{4}})\b")
_SEVERAL = re.compile(r"\bco-?(?:chiefs?|princes?)\b", re.IGNORECASE)
_NOT_YET = re.compile(r"\w[- ](?:elect|designate)\b", re.IGNORECASE)
_UNSURE = re.compile(rf"\b(?:{_MODIFIERS})\b", re.IGNORECASE)
# Words of a name that are written small.
_PARTICLE = re.compile(
    "a[ltnsd]|bint?|ibni?|bte|d[aeiou]|das|dos|del|della|de[rn]|van|von|te[nr]|[yei]|ould|zu|a[vf]"
)
_NUMERAL = re.compile(r"[IVX]+")


def read_holder(raw: str) -> Reading:
    """Give the first holder of an office as clean words, "Dick SCHOOF" as "Dick Schoof"."""
    text = _plain(raw)
    head = _REST.split(text, maxsplit=1)[0].strip(" ,")
    first = text.split(";")[0]
    since = _since(first[first.find("since") :]) or _since(first)
    modifiers = {m.lower() for m in _UNSURE.findall(first)}
    role, name = _split_titles(head)
    note = ", ".join(sorted(modifiers))
    if _SEVERAL.search(text.split(" of ")[0]) or " and " in f" {name} ":
        return Reading("", role, since, "several holders")
    if re.search(r"\b(?:vacant|none)\b", head, re.IGNORECASE):
        return Reading("", role, since, "vacant")
    if _NOT_YET.search(head):
        return Reading("", role, since, "not in office yet")
    words = _name_words(name)
    if not words:
        return Reading("", role, since, "cannot be read as a name")
    return Reading(" ".join(words), role, since, note)


def read_plain(raw: str) -> Reading:
    """Give a value that is no office holder: what stands before notes and parentheses."""
    text = re.sub(r"\s*[;:,(]?\s*\bnote\b.*", "", _plain(raw))
    text = re.sub(r"\([^()]*\)?", "", text)
    parts = [part.strip() for part in re.split(r"[;,] ", f"{text} ") if part.strip(" ;,")]
    if len(parts) != 1:
        return Reading("", note="several values" if parts else "empty")
    return Reading(_fold_spaces(parts[0]).strip(" ;,."))


def read_date(text: str) -> datetime | None:
    """Give the day that a text names, as `2 July 2024`, `July 2024` or an ISO 8601 date."""
    try:
        day = datetime.fromisoformat(text.strip())
    except ValueError:
        return _since(text)
    return day.replace(tzinfo=UTC) if day.tzinfo is None else day.astimezone(UTC)


def _fold_spaces(text: str) -> str:
    return " ".join(text.split())


def _plain(raw: str) -> str:
    """Drop what may stand in every kind of value: a label, nicknames, other spellings."""
    text = _fold_spaces(raw).removeprefix("name: ").replace(", Jr", " Jr")
    return _fold_spaces(re.sub(r'["“][^"“”]*["”]|\((?:also|aka|formerly) [^()]*\)', "", text))


def _since(text: str) -> datetime | None:
    found = _DATE.search(text)
    if found is None:
        return None
    day, month, year = found.groups()
    try:
        return datetime(int(year), _MONTHS.index(month or "Jan") + 1, int(day or 1), tzinfo=UTC)
    except ValueError:
        return None


def _split_titles(head: str) -> tuple[str, str]:
    """`Acting Prime Minister Dr. X` -> ("prime minister", "X")."""
    # A gloss after the title, `Taoiseach (Prime Minister)`, is the role that others understand.
    gloss = re.match(rf"\w+ \(({_OFFICES})\)\s*", head, re.IGNORECASE)
    if gloss:
        return gloss[1].lower(), head[gloss.end() :]
    head = _fold_spaces(
        re.sub(r"\((?!ret\b|vacant)[^()]*\)|\[.*?\]", " ", head, flags=re.IGNORECASE)
    )
    role = ""
    while match := _TITLE.match(head):
        role = role or (match["office"] or "").lower()
        head = head[match.end() :]
    return role, head


def _name_words(name: str) -> list[str]:
    """Give the words of a name in usual case; none if it does not look like a name."""
    words = re.sub(r" of (?:the )?[A-Z].*|, .*|(?<!Jr)\.$", "", name.strip(" ,:")).split()
    if not words or any(_TITLE_WORD.fullmatch(w) and not w.isupper() for w in words):
        return []
    cased = [_cased(word, first=n == 0) for n, word in enumerate(words)]
    named = [_starts_like_a_name(word) for word in cased]
    good = all(n or _PARTICLE.fullmatch(w) for n, w in zip(named, cased, strict=True))
    return cased if good and any(named) else []


def _starts_like_a_name(word: str) -> bool:
    # `al-Asad`, `d'Arc` and `'Akilisi` too
    start = re.sub(rf"^(?:[a-z]{{1,3}}[{_MARKS}]|[{_MARKS}])", "", word)
    return start[:1].isupper() and not re.search(rf"[^{_MARKS}.\w]|[\d_]", start)


def _cased(word: str, *, first: bool) -> str:
    """`SCHOOF` -> `Schoof`, `O'NEILL` -> `O'Neill`, `DE` -> `de`; `XIV` stays unless first."""
    if word.isupper() and not first and _PARTICLE.fullmatch(word.lower()):
        return word.lower()
    if _NUMERAL.fullmatch(word) and not first:
        return word
    pieces = re.split(f"([{_MARKS}])", word)
    return "".join(_cased_piece(piece) for piece in pieces)


def _cased_piece(piece: str) -> str:
    scots = re.fullmatch(r"(Mac|Mc|De|Le|La)([A-Z]{2,})", piece)
    if scots:
        return scots[1] + scots[2].capitalize()
    return piece.capitalize() if piece.isupper() else piece


# How alike two words are (difflib ratio) to count as one word respelled.  Measured on the 584
# changes of name among the Factbook's heads of state and government, 2014 to 2026, of which 72
# are respellings of the same person: at 0.85 it finds 50 of them and takes no change of holder
# for a respelling; at 0.80 it finds 58, but Li Keqiang and Li Qiang become one.  A respelling
# that is missed costs a needless edit, a change that is missed is lost: so the strict value.
_NEARLY = 0.85
_LETTERS = str.maketrans("øłđðıŀ", "olddil", "'`\u2018\u2019\u02bb\u02bc")


def same_value(one: str, other: str) -> bool:
    """True when two names are spellings of one: as `same_spelling`, and near-spellings.

    The first names must be nearly equal, and every further word of the shorter name must have
    its like in the longer one, in the same order: a middle name may come and go.
    """
    if same_spelling(one, other):
        return True
    short, long = sorted((_folded_words(one), _folded_words(other)), key=len)
    return len(short) >= 2 and _nearly(short[0], long[0]) and _all_in_order(short[1:], long[1:])


def same_spelling(one: str, other: str) -> bool:
    """True when two values differ in case, accents, hyphens, particles and marks at most."""
    mine, theirs = _folded_words(one), _folded_words(other)
    numbers = any(c.isdigit() for c in one + other)  # 1.2 is not 12
    return mine == theirs if numbers else "".join(mine) == "".join(theirs)


def _folded_words(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    words = re.findall(r"\w+", letters)
    return [word for word in words if not _PARTICLE.fullmatch(word)] or words


def _nearly(one: str, other: str) -> bool:
    return one == other or SequenceMatcher(None, one, other).ratio() >= _NEARLY


def _all_in_order(short: Sequence[str], long: Sequence[str]) -> bool:
    """Say whether each word of `short` is found in `long`, in the same order."""
    rest = iter(long)
    return all(any(_nearly(word, candidate) for candidate in rest) for word in short)
