"""Facts as plain keys and texts -> entries: lines of JSONL, rows of CSV, posted JSON.

Pure.  All have the same six keys, see docs/feed-format.md.  What cannot be read is refused one by
one, each with its place and a remedy.  An entry is known by what it says, not by where it stands:
the same line in another file, or posted again, is the same entry.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from kdpo_daemon.errors import RefusedError
from kdpo_daemon.facts.dates import read_date
from kdpo_daemon.facts.texts import clean, content_hash, readable
from kdpo_daemon.records.intake import Entry, RawFact

KEYS = ("subject", "relation", "old", "new", "valid_from", "source")
_NEEDED = ("subject", "relation", "new")
#: Longest line, in characters; no fact is so long.
_LONGEST = 10_000
_CSV = (".csv", ".tsv")
_NAMES = (".jsonl", ".ndjson", *_CSV)
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Lines:
    """What a file or a post says, and what of it is refused."""

    entries: list[Entry] = field(default_factory=list)
    refused: list[RefusedError] = field(default_factory=list)


@dataclass(frozen=True)
class _Line:
    """One line, row or object, not yet read; `read` raises RefusedError, without a subject."""

    place: str
    evidence: str
    read: Callable[[], Mapping[str, object]]


def read_file(name: str, body: bytes, most: int) -> Lines:
    """Read the lines of a file: of CSV if its name says so, else of JSONL.

    Args:
        name: of the file; stands before each line's number.
        body: UTF-8, with or without a byte order mark.
        most: lines that are read; a file with more is refused.

    Raises:
        RefusedError: the file as a whole cannot be read.

    """
    text = _text(name, body)
    found = Lines()
    lines = _csv_lines if name.lower().endswith(_CSV) else _json_lines
    for count, line in enumerate(lines(name, text), 1):
        if count > most:
            hint = "split it, or raise [fetch] max_entries"
            raise RefusedError(f"has more than {most} lines", subject=name, hint=hint)
        _take(found, line)
    return found


def refuse_name(name: str) -> None:
    """Raise RefusedError for a file whose name does not say how to read it."""
    if not name.lower().endswith(_NAMES):
        why, hint = "has a name that does not say what it is", f"end it in {', '.join(_NAMES)}"
        raise RefusedError(why, subject=name, hint=hint)


def read_post(evidence: str, body: bytes, most: int) -> Lines:
    """Read posted JSON: one object, or a list of them.

    Args:
        evidence: what the post is called.
        body: UTF-8.
        most: objects; a list of more is refused.

    Raises:
        RefusedError: the body as a whole cannot be read.

    """
    read = _json(_text("", body))
    found = Lines()
    if not isinstance(read, list):
        _take(found, _Line("", evidence, partial(_table, read)))
        return found
    if len(read) > most:
        raise RefusedError(f"has more than {most} facts", hint="post them in several parts")
    for number, one in enumerate(read):
        _take(found, _Line(f"[{number}]", f"{evidence}[{number}]", partial(_table, one)))
    return found


def _take(found: Lines, line: _Line) -> None:
    try:
        found.entries.append(_entry(line.read(), line.evidence))
    except RefusedError as error:
        error.subject = line.place
        found.refused.append(error)


def _entry(table: Mapping[str, object], evidence: str) -> Entry:
    values = _values(table)
    fact = RawFact(
        subject=values["subject"],
        relation=values["relation"],
        new=values["new"],
        old=values.get("old", ""),
        valid_from=values.get("valid_from", ""),
    )
    if fact.valid_from and read_date(fact.valid_from) is None:
        raise _refused(
            "valid_from", f"{fact.valid_from[:40]!r} is no date", "write it as 2024-07-02"
        )
    link = values.get("source", "")
    title = f"{fact.subject}, {fact.relation}: {fact.new}"
    slot = json.dumps([fact.subject, fact.relation, fact.new, fact.valid_from])
    key = f"line:{sha256(slot.encode()).hexdigest()[:32]}"
    return Entry(
        key=key,
        title=title,
        link=link,
        published_at=read_date(fact.valid_from),
        summary=evidence,
        fact=fact,
        content_hash=content_hash(key, title, link, "", fact),  # wherever it stands
    )


def _values(table: Mapping[str, object]) -> dict[str, str]:
    for key, value in table.items():
        if key not in KEYS:
            raise _refused(clean(key, 40), "is no known key", f"keys are {', '.join(KEYS)}")
        if not isinstance(value, str):
            raise _refused(key, "is not a text", "put it in quotes")
    values = {
        key: (clean if key == "source" else readable)(str(value)) for key, value in table.items()
    }
    for key in _NEEDED:
        if not values.get(key):
            raise _refused(key, "is missing", f'add "{key}"')
    return values


def _refused(key: str, why: str, hint: str) -> RefusedError:
    return RefusedError(f"{key} {why}", hint=hint, field=key)


# ---------------------------------------------------------------- text, JSON, CSV


def _text(name: str, body: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark; RefusedError names the first bad byte."""
    hint = "save it as UTF-8"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in body:
        raise RefusedError("is UTF-16, or no text at all", subject=name, hint=hint)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        why = f"is not UTF-8 (byte {error.start + 1}, in line {line})"
        raise RefusedError(why, subject=name, hint=hint) from error


def _line(name: str, number: int, raw: str, read: Callable[[], Mapping[str, object]]) -> _Line:
    place = f"{name}:{number}"
    digest = sha256(raw.rstrip("\r\n").encode()).hexdigest()
    return _Line(place, f"{place}, SHA-256 {digest}", read if len(raw) <= _LONGEST else _too_long)


def _too_long() -> Mapping[str, object]:
    raise RefusedError(f"is longer than {_LONGEST} characters", hint="no fact is so long")


def _json_lines(name: str, text: str) -> Iterator[_Line]:
    # not splitlines: U+2028 and its like may stand inside a text
    for number, raw in enumerate(text.split("\n"), 1):
        if raw.strip():
            yield _line(name, number, raw, partial(_json_table, raw))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "write a JSON object with the keys of a fact"
        raise RefusedError(f"is not JSON: {clean(str(error), 200)}", hint=hint) from error


def _json_table(text: str) -> Mapping[str, object]:
    return _table(_json(text))


def _table(read: object) -> Mapping[str, object]:
    if not isinstance(read, dict):
        hint = 'write {"subject": ..., "relation": ..., "new": ...}'
        raise RefusedError("is not a JSON object", hint=hint)
    return read


def _csv_lines(name: str, text: str) -> Iterator[_Line]:
    lines = io.StringIO(text, newline="").readlines()
    columns, delimiter = _header(name, lines[0] if lines else "")
    rows = csv.reader(lines[1:], delimiter=delimiter, skipinitialspace=True, strict=True)
    end = 1
    while end < len(lines):
        read = partial(_cells, columns, _row(rows))
        begin, end = end, 1 + rows.line_num  # a quoted cell may go over several lines
        raw = "".join(lines[begin:end])
        if raw.strip():
            yield _line(name, begin + 1, raw, read)


def _header(name: str, line: str) -> tuple[list[str], str]:
    """Give the columns, and the delimiter under which the line names what is needed."""
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        columns = [cell.strip() for cell in cells]
        if set(_NEEDED) <= set(columns):
            if set(columns) <= set(KEYS) and len(set(columns)) == len(columns):
                return columns, delimiter
            break
    why = "its first line does not name the columns"
    hint = f"columns are {', '.join(KEYS)}, each once; {', '.join(_NEEDED)} are needed"
    raise RefusedError(why, subject=f"{name}:1", hint=hint)


def _row(rows: Iterator[list[str]]) -> list[str] | csv.Error:
    try:
        return next(rows)
    except csv.Error as error:
        return error


def _cells(columns: Sequence[str], row: list[str] | csv.Error) -> Mapping[str, object]:
    if isinstance(row, csv.Error):
        hint = "close what a quote opens, and write a quote in a cell twice"
        raise RefusedError(f"is not CSV: {row}", hint=hint)
    if len(row) != len(columns):
        why = f"has {len(row)} cells for {len(columns)} columns"
        raise RefusedError(why, hint="put a cell that holds the delimiter in quotes")
    return dict(zip(columns, row, strict=True))
