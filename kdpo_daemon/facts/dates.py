"""The day that a text names.

Pure.  dateutil reads what people write, CLDR (by babel) knows the names of months in other
languages.  A date that may be two is none: `02/07/2024` is read by nobody the same way.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache

from babel.dates import get_month_names
from dateutil import parser

#: No text that is only a date is longer.
_LONGEST = 60
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
# `2 July 2024`, `2nd of July 2024`, `July 2, 2024`, `July 2024`, `since 2024`
_DATE = re.compile(
    r"(?:(?:(\d{1,2})(?:st|nd|rd|th)? (?:of )?)?"
    rf"\b({'|'.join(_MONTHS)})[a-z]*\.?(?: (\d{{1,2}})(?:st|nd|rd|th)?,)?,?|since) (\d{{4}})\b"
)
_LANGUAGES = (
    *("de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb", "fi", "is", "pl", "cs", "sk", "sl"),
    *("hr", "hu", "ro", "bg", "el", "ru", "uk", "tr", "ar", "fa", "he", "hi", "id", "vi", "sw"),
)
# Two that differ in year, month and day: what the text leaves out shows.
_FILLERS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2004, 2, 2, tzinfo=UTC))


def read_date(text: str) -> datetime | None:
    """Give the day that a text names and nothing else; None if it names none, or may name two.

    `2 July 2024`, `July 2024`, ISO 8601, `Tue, 02 Jul 2024 10:00 GMT`, `2. Juli 2024`.  Without
    a time zone it is meant in UTC; a month means its first day, a year its first of January.
    """
    plain = text.strip()
    try:
        day = datetime.fromisoformat(plain)
    except ValueError:
        english = date_in(plain) if _DATE.fullmatch(plain) else None
        return english or _first_day(plain) or date_in(plain)
    return day.replace(tzinfo=UTC) if day.tzinfo is None else day.astimezone(UTC)


def date_in(text: str) -> datetime | None:
    """Give the first day that stands within an English text, or None."""
    found = _DATE.search(text)
    if found is None:
        return None
    day, month, late_day, year = found.groups()
    month_number = _MONTHS.index(month or "Jan") + 1
    try:
        return datetime(int(year), month_number, int(day or late_day or 1), tzinfo=UTC)
    except ValueError:
        return None


def _first_day(text: str) -> datetime | None:
    if not text or len(text) > _LONGEST or not any(c.isdigit() for c in text):
        return None
    if re.fullmatch(r"\d{4}", text):
        return datetime(int(text), 1, 1, tzinfo=UTC) if int(text) else None
    # a year at the beginning is followed by the month everywhere
    orders = (False,) if re.match(r"\d{4}\D", text) else (False, True)
    readings = {_parsed(text, filler, day_first=one) for filler in _FILLERS for one in orders}
    if len(readings) == 1:
        return readings.pop()
    # the filler's day, in one month of one year: a month as a whole
    months = {one.replace(day=1) if one else None for one in readings}
    return months.pop() if len(months) == 1 else None


def _parsed(text: str, filler: datetime, *, day_first: bool) -> datetime | None:
    try:
        found = _parser().parse(text, default=filler, dayfirst=day_first, tzinfos=_zone)
        return found.astimezone(UTC) if isinstance(found, datetime) else None
    except (ValueError, OverflowError, ArithmeticError, TypeError, IndexError, AttributeError):
        return None


def _zone(_name: str | None, offset: int | None) -> tzinfo:
    return timezone(timedelta(seconds=offset)) if offset else UTC


@cache
def _parser() -> parser.parser:
    """Give dateutil's parser, with the names of months in other languages than English too."""
    numbers = _month_numbers()

    months = [
        (*english, *(name for name, number in numbers.items() if number == at))
        for at, english in enumerate(parser.parserinfo.MONTHS, 1)
    ]
    words = [*parser.parserinfo.JUMP, "de", "del", "den", "der", "el", "le", "er", "\u00ba"]
    info = type("_Info", (parser.parserinfo,), {"JUMP": words, "MONTHS": months})
    return parser.parser(info())


def _month_numbers() -> Mapping[str, int]:
    """Give the number of each month's name that means one month in all languages that have it."""
    found: dict[str, set[int]] = {}
    for language in _LANGUAGES:
        for width in ("wide", "abbreviated"):
            for context in ("format", "stand-alone"):
                for number, name in get_month_names(width, context, language).items():
                    found.setdefault(name.casefold().rstrip("."), set()).add(number)
    return {name: min(numbers) for name, numbers in found.items() if len(numbers) == 1}
