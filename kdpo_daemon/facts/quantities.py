"""Numbers with units and years: `$2.603 billion (2019 est.)`, and when two are one.

Pure.  How numbers are written where is asked of CLDR (by babel): a number is read as English
writes it, and as another language does if only that one can have written it.  A range, a bound
(`more than 500`) or two values of one year are no value.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache, lru_cache

from babel.numbers import (
    NumberFormatError,
    format_decimal,
    get_currency_name,
    get_currency_symbol,
    is_currency,
    list_currencies,
    parse_decimal,
)

from kdpo_daemon.facts.dates import date_in
from kdpo_daemon.facts.names import Reading
from kdpo_daemon.facts.spelling import same_spelling, words_of

_LOCALES = ("en", "en_IN", "de", "fr", "de_CH")
_SCALES = {
    "thousand": 3,
    "k": 3,
    "lakh": 5,
    "million": 6,
    "mn": 6,
    "crore": 7,
    "billion": 9,
    "bn": 9,
    "trillion": 12,
    "tn": 12,
}
#: Digits from which a rounded number is still the same: 67.4 million, but not 9 %.
_TELLING = 3
_LONGEST_NUMBER = 20
# babel and rounding fail on more digits than that
_EXACT = Context(prec=60)
#: Longest measure of several units.
_COMPOSITE = 40
#: So many digits and more are written in groups; fewer may be a year.
_GROUPED = 5
_PARTS = re.compile(r"\s*(?:;| \+\+ | / )\s*")
_ABOUT = re.compile(
    r"(?:(?:total|about|approximately|approx\.?|around|circa|ca?\.|some|roughly|estimated"
    r"|(?:an )?estimate(?: of)?|~|\u2248)[\s:]*)+",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"(?:more|less|fewer|greater) than|over|under|above|below|at (?:least|most)|up to|nearly"
    r"|almost|[<>\u2264\u2265]",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:(?:none|n/?a|unknown|not (?:available|applicable))\b[%.\s]*)?(?:\([^()]*\))?",
    re.IGNORECASE,
)
_CLOCK = r"\d{1,3}(?::[0-5]\d){1,2}(?:[.,]\d{1,3})?"
_GROUPS = r"\d+(?:[.,'\u2019\u066b\u066c]\d+|[ \u00a0\u202f]\d{3}(?!\d))*"
_VALUE = re.compile(
    rf"(?P<sign>[-\u2212+]|minus )?\s*(?P<currency>US\$|[A-Z]{{3}}(?= ?\d)|[^\w\s])?\s*"
    rf"(?P<number>{_CLOCK}|{_GROUPS})(?P<rest>.*)"
)
_RANGE = re.compile(r"\s*(?:[-\u2013\u2014/\u00b1]|to|\+/-)\s*\W?\d", re.IGNORECASE)
_ASIDE = re.compile(r"\s*(?:\(|\[|,?\s*\bnote\b|,(?=\s)|\bas of\b|\bin (?=\d{4})|rank by).*")
# `(2023 est.)` names a year without `since`
_YEAR = re.compile(r"\b(?:FY)?((?:[A-Z][a-z]{2,8} )?\d{4})\b(?! dollars)")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|will)\b")


@dataclass(frozen=True)
class Quantity:
    """A number, and of what."""

    number: Decimal
    currency: str  #: `$`; "" without one
    unit: tuple[str, ...]  #: its words, `%` for percent


def read_quantity(raw: str) -> Reading:
    """Give a number with its unit as the publisher writes it, and the time that it is of.

    Of several years the last one counts.  Five digits and more are written in groups.
    """
    text = " ".join(raw.split())
    values = list(_values(text))
    if not values:
        return Reading("", note=_why_not(text))
    newest = max((since for _, since in values if since), default=None)
    chosen = [value for value, since in values if since == newest]
    if len(set(chosen)) > 1 or (newest is None and len(values) > 1):
        return Reading("", note="several values")
    return Reading(_grouped(chosen[0]), since=newest)


def same_quantity(one: str, other: str) -> bool:
    """True when two values are one number, perhaps rounded, of one unit where both name one."""
    mine, theirs = quantity_of(one), quantity_of(other)
    if not (mine and theirs):
        return same_spelling(one, other)
    units = _are_one(mine.unit, theirs.unit)
    currencies = mine.currency == theirs.currency or not (mine.currency and theirs.currency)
    return units and currencies and _equal(mine.number, theirs.number)


def same_currency(one: str, other: str) -> bool:
    """True when two names are of one currency: `euros`, `EUR`, `Euro`."""
    if same_spelling(one, other):
        return True
    mine, theirs = _code(one), _code(other)
    return bool(mine) and mine == theirs


@lru_cache(maxsize=4096)
def quantity_of(value: str) -> Quantity | None:
    """Give the number in a clean value; None if it is none, or one that may be two."""
    found = _VALUE.fullmatch(value.strip())
    if not found or _RANGE.match(found["rest"]) or not _is_currency(found["currency"]):
        return None
    number = _number(found["number"], bare=not found["rest"].strip())
    unit = re.sub(r"\bper ?cent\b", "%", found["rest"].casefold().strip())
    if number is None or any(c.isdigit() for c in unit):
        return None
    words = [*words_of(unit), *("%" for c in unit if c == "%")]
    if words and words[0] in _SCALES:
        number = number.scaleb(_SCALES[words.pop(0)])
    signed = -number if found["sign"] and found["sign"] != "+" else number
    return Quantity(signed, _symbol(found["currency"] or ""), tuple(words))


def _values(text: str) -> Iterator[tuple[str, datetime | None]]:
    """Give each number of a text with its time; what begins with a word is a label or a remark."""
    for part in _PARTS.split(text):
        about = _ABOUT.match(part)
        told = part[about.end() :] if about else part
        value = _ASIDE.sub("", told).strip(" .:")
        if (quantity_of(value) or _composite(value)) and not _VERB.search(value):
            yield value, _time(told[len(value) :])


def _composite(value: str) -> bool:
    """Tell a measure of several units, `1 h 59 min 40 s`, from a range and from a sentence."""
    found = _VALUE.fullmatch(value)
    if not found or _RANGE.match(found["rest"]) or len(value) > _COMPOSITE:
        return False
    return bool(re.match(r"\s*[^\W\d]+\.? \d", found["rest"]))


def _why_not(text: str) -> str:
    if _NOTHING.fullmatch(text):
        return "says that there is none"
    if _BOUND.match(text):
        return "a bound, and no value"
    found = _VALUE.match(text)
    if found and _RANGE.match(found["rest"]):
        return "a range, and no value"
    return "cannot be read as a number for sure"


def _time(told: str) -> datetime | None:
    """Give the first day of the month or year in the last parenthesis, `(July 2023 est.)`."""
    named = re.findall(r"\(([^()]*)\)", told) or [told]
    for aside in reversed(named):
        found = _YEAR.search(aside)
        if found:
            return date_in(aside) or date_in(found[1]) or date_in(f"since {found[1][-4:]}")
    return None


def _number(token: str, *, bare: bool) -> Decimal | None:
    """Give a number as English writes it, or as only one other language can."""
    if len(token) > _LONGEST_NUMBER:
        return None
    if ":" in token:
        return _seconds(token)
    digits = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in token)
    plain = digits.translate({0x66B: ".", 0x66C: ",", ord("'"): "\u2019"})
    read = _read(re.sub(r"[ \u00a0]", "\u202f", plain))
    # 5.300 may be 5300: of a bare number nobody can tell
    unsure = bare and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", plain)
    return None if unsure else read


def _read(token: str) -> Decimal | None:
    found: set[Decimal] = set()
    for locale in _LOCALES:
        try:
            number = parse_decimal(token, locale=locale, strict=True)
        except NumberFormatError:
            continue
        if locale == "en":
            return number
        found.add(number)
    if not found and re.fullmatch(r"\d+\.\d+", token):
        return Decimal(token)  # 7.10, which babel takes for an error
    return found.pop() if len(found) == 1 else None


def _seconds(clock: str) -> Decimal:
    total = Decimal(0)
    for part in clock.replace(",", ".").split(":"):
        total = total * 60 + Decimal(part)
    return total


def _equal(one: Decimal, other: Decimal) -> bool:
    if one == other:
        return True
    coarse, fine = sorted((one, other), key=_exponent, reverse=True)
    if _exponent(coarse) == _exponent(fine) or len(coarse.as_tuple().digits) < _TELLING:
        return False
    step = Decimal(1).scaleb(_exponent(coarse))
    return fine.quantize(step, ROUND_HALF_UP, _EXACT) == coarse


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def _are_one(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether two units are one: `s` and `seconds`, or one of them is left out."""
    pairs = zip(one, other, strict=False)
    return not (one and other) or (
        len(one) == len(other) and all(a.startswith(b) or b.startswith(a) for a, b in pairs)
    )


def _is_currency(mark: str | None) -> bool:
    return not mark or mark[-1].isalnum() or unicodedata.category(mark[-1]) == "Sc"


def _symbol(currency: str) -> str:
    """Give `$` for `US$` and `USD`."""
    if is_currency(currency, "en"):
        return str(get_currency_symbol(currency, locale="en"))
    return currency.removeprefix("US")


def _grouped(value: str) -> str:
    """`334002` -> `334,002`."""
    plain = value.isdecimal() and _GROUPED <= len(value) <= _LONGEST_NUMBER
    return str(format_decimal(int(value), locale="en")) if plain else value


def _code(currency: str) -> str:
    """Give the code of a currency by its code, or by its name in English; "" if it has none."""
    plain = currency.strip().upper()
    return plain if is_currency(plain, "en") else _codes().get(words_of(currency), "")


@cache
def _codes() -> Mapping[tuple[str, ...], str]:
    return {
        words_of(get_currency_name(code, count, "en")): code
        for code in list_currencies("en")
        for count in (None, 1, 2)
    }
