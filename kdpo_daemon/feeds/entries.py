"""A fetched document -> entries.  Pure: bytes in, records out.

feedparser reads RSS 0.9x to 2.0, RSS 1.0 and Atom.  It is given bytes, never a string: it would
try a string as a file name or URL first.  Of HTML only the sanitised text is kept.  The facts that
entries may carry are described in docs/feed-format.md.  Does not clean values, and does not bound
its own time: that is `parse`.
"""

import calendar
import html
import io
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urljoin

import feedparser

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.texts import MAX_SUMMARY, clean, content_hash
from kdpo_daemon.records import Entry, Fetched, RawFact

#: The namespace of the elements that carry a fact.
NAMESPACE = "urn:kdpo:facts:1"

_HINT = "check that its URL is that of an RSS or Atom document"


def entries_of(feed_name: str, fetched: Fetched, max_entries: int) -> list[Entry]:
    """Give the entries of a document, in its order, at most `max_entries`, each key once.

    A document that is not well-formed gives what could be read of it, if that is any entry.

    Raises:
        SourceError: not a feed, or a document that declares entities.

    """
    body = fetched.body or b""
    _refuse_entities(feed_name, body)
    # without a content-location: ids would be resolved against it, and change when the URL does
    headers = {"content-type": fetched.content_type}
    document = feedparser.parse(io.BytesIO(body), response_headers=headers)
    if not document.entries and (not document.get("version") or _is_broken(document)):
        raise SourceError(_why(document), subject=f"feed {feed_name}", hint=_HINT)
    prefix = _prefix(document.get("namespaces", {}))
    entries: dict[str, Entry] = {}
    for found in document.entries[:max_entries]:
        entry = _entry(found, prefix, fetched.url)
        entries.setdefault(entry.key, entry)
    return list(entries.values())


def _refuse_entities(feed_name: str, body: bytes) -> None:
    # a few bytes of entities grow to many; NUL bytes stand between the letters of UTF-16
    text = body.replace(b"\0", b"").upper()
    if b"<!DOCTYPE" in text and b"<!ENTITY" in text:
        raise SourceError(
            "declares XML entities, which may grow without bound",
            subject=f"feed {feed_name}",
            hint="ask its publisher for a document without a DTD",
        )


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
    title = clean(_plain(found.get("title")))
    summary = clean(_plain(found.get("summary")), MAX_SUMMARY)
    link = _link(found.get("link"), base)
    fact = _fact(found, prefix) if prefix else None
    key = clean(str(found.get("id") or "")) or link
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


def _fact(found: Mapping[str, object], prefix: str) -> RawFact | None:
    def said(name: str) -> str:
        return clean(str(found.get(f"{prefix}_{name}") or ""))

    subject, relation, new = said("subject"), said("relation"), said("new")
    if not (subject and relation and new):
        return None
    return RawFact(subject, relation, new, old=said("old"), valid_from=said("valid-from"))


def _plain(value: object) -> str:
    """Give the text of sanitised HTML."""
    return html.unescape(re.sub(r"<[^<>]*>", " ", str(value or "")))


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
