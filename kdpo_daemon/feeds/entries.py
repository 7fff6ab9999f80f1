"""A fetched document -> entries.  Pure: bytes in, records out.

feedparser reads RSS 0.9x to 2.0, RSS 1.0 and Atom, `jsonfeed` the rest.  feedparser is given
bytes, never a string: it would try a string as a file name or URL first.  Of HTML only the
sanitised text is kept.  The facts that entries may carry are described in docs/feed-format.md.
Does not clean values, and does not bound its own time: that is `parse`.
"""

import calendar
import html
import io
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urljoin

import feedparser

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.texts import (
    MAX_LINE,
    MAX_SUMMARY,
    clean,
    content_hash,
    readable,
    without_markup,
)
from kdpo_daemon.feeds.jsonfeed import PREFIX, flooded, is_json, items_of
from kdpo_daemon.records.intake import Entry, Fetched, RawFact

#: The namespace of the elements that carry a fact.
NAMESPACE = "urn:kdpo:facts:1"

#: Characters of a content's hash that tell entries with one id apart.
_MARK = 16
#: A document with so many times the entries that are read is refused before it is parsed.
_FAR_TOO_MANY = 100

# under any prefix, and in capitals: feedparser reads these too
_START_OF_ENTRY = re.compile(rb"<(?:[\w.-]{1,40}:)?(?:item|entry)[\s/>]", re.IGNORECASE)

_HINT = "check that its URL is that of an RSS, Atom or JSON Feed document"


def entries_of(feed_name: str, fetched: Fetched, max_entries: int) -> list[Entry]:
    """Give the entries of a document, in its order, at most `max_entries`, each with its own key.

    Entries that share an id are known by what they say as well: none may hide another.
    A document that is not well-formed gives what could be read of it, if that is any entry.

    Raises:
        SourceError: not a feed, or a document that declares entities or has far too many entries.

    """
    found, prefix = _found(feed_name, fetched, max_entries)
    return _told_apart([_entry(one, prefix, fetched.url) for one in found[:max_entries]])


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Give each entry a key of its own, which does not depend on the order of the document."""
    times = Counter(entry.key for entry in entries)
    seen: Counter[str] = Counter()
    apart: dict[str, Entry] = {}
    for entry in entries:
        key = entry.key
        if times[key] > 1:
            seen[entry.content_hash] += 1
            mark = f"{entry.content_hash[-_MARK:]} {seen[entry.content_hash]}"
            key = f"{key[: MAX_LINE - 2 * _MARK]} {mark}"
        apart.setdefault(key, replace(entry, key=key))
    return list(apart.values())


def _found(
    feed_name: str, fetched: Fetched, max_entries: int
) -> tuple[list[Mapping[str, object]], str | None]:
    """Give what feedparser, or our reader of JSON Feed, finds, and the prefix of facts in it."""
    body = fetched.body or b""
    if is_json(body):
        return items_of(feed_name, body, max_entries * _FAR_TOO_MANY), PREFIX
    _refuse_entities(feed_name, body)
    _refuse_floods(feed_name, body, max_entries * _FAR_TOO_MANY)
    # without a content-location: ids would be resolved against it, and change when the URL does
    headers = {"content-type": fetched.content_type}
    document = feedparser.parse(io.BytesIO(body), response_headers=headers)
    if not document.entries and (not document.get("version") or _is_broken(document)):
        raise SourceError(_why(document), subject=f"feed {feed_name}", hint=_HINT)
    return list(document.entries), _prefix(document.get("namespaces", {}))


def _refuse_entities(feed_name: str, body: bytes) -> None:
    # a few bytes of entities grow to many; NUL bytes stand between the letters of UTF-16
    text = body.replace(b"\0", b"").upper()
    if b"<!DOCTYPE" in text and b"<!ENTITY" in text:
        raise SourceError(
            "declares XML entities, which may grow without bound",
            subject=f"feed {feed_name}",
            hint="ask its publisher for a document without a DTD",
        )


def _refuse_floods(feed_name: str, body: bytes, most: int) -> None:
    # feedparser reads all entries before we can stop it: 0.15 ms for each
    entries = sum(1 for _ in _START_OF_ENTRY.finditer(body.replace(b"\0", b"")))
    if entries > most:
        raise flooded(feed_name, entries, most)


def _is_broken(document: Mapping[str, object]) -> bool:
    """Tell whether feedparser met more than a wrong content type or another encoding than said."""
    harmless = (feedparser.NonXMLContentType, feedparser.CharacterEncodingOverride)
    return bool(document.get("bozo")) and not isinstance(document.get("bozo_exception"), harmless)


def _why(document: Mapping[str, object]) -> str:
    error = document.get("bozo_exception")
    return f"is not a feed: {clean(str(error), 200)}" if error else "is not a feed"


def _prefix(namespaces: Mapping[str, str]) -> str | None:
    """Give the prefix that the document uses for our namespace: the start of feedparser's keys."""
    ours = [prefix for prefix, uri in namespaces.items() if uri == NAMESPACE and prefix]
    return ours[0].lower() if ours else None


def _entry(found: Mapping[str, object], prefix: str | None, base: str) -> Entry:
    title = readable(_text(found, "title"))
    summary = readable(_text(found, "summary"), MAX_SUMMARY)
    link = _link(found.get("link"), base)
    fact = _fact(found, prefix) if prefix else None
    key = _key(str(found.get("id") or "")) or link
    # an entry with neither id nor link is known by what it says
    key = key or content_hash("", title, link, summary, fact)
    return Entry(
        key=key,
        title=title,
        link=link,
        published_at=_date(found),
        summary=summary,
        fact=fact,
        content_hash=content_hash(key, title, link, summary, fact),
    )


def _key(raw: str) -> str:
    """Give an id that is fit to be stored; long ones that begin alike stay apart."""
    if len(raw) <= MAX_LINE:
        return clean(raw)
    return f"{clean(raw, MAX_LINE - 65)} {sha256(raw.encode()).hexdigest()}"


def _fact(found: Mapping[str, object], prefix: str) -> RawFact | None:
    def said(name: str) -> str:
        # publishers escape twice: no name has `&eacute;` in it
        return readable(html.unescape(str(found.get(f"{prefix}_{name}") or "")))

    subject, relation, new = said("subject"), said("relation"), said("new")
    if not (subject and relation and new):
        return None
    return RawFact(subject, relation, new, old=said("old"), valid_from=said("valid-from"))


def _text(found: Mapping[str, object], name: str) -> str:
    return without_markup(str(found.get(name) or ""))


def _link(value: object, base: str) -> str:
    try:
        link = urljoin(base, clean(str(value))) if value else ""
    except ValueError:  # brackets that are no address
        return ""
    return link if link.startswith(("http://", "https://")) else ""


def _date(found: Mapping[str, object]) -> datetime | None:
    for name in ("published_parsed", "updated_parsed"):
        # `in` first: feedparser warns when it puts one date in the place of another
        parsed = found[name] if name in found else None  # noqa: SIM401
        if isinstance(parsed, time.struct_time):
            try:
                return datetime.fromtimestamp(calendar.timegm(parsed), UTC)
            except (ValueError, OverflowError, OSError):
                continue
    return None
