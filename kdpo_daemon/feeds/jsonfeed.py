"""A JSON Feed (1.0, 1.1) -> its items, in feedparser's words, so that both are read alike.

Pure.  https://jsonfeed.org/version/1.1 says what an item holds; the extension `_kdpo`, which
carries a fact, is described in docs/feed-format.md.  Text is escaped here: what reads the items
takes them for HTML.
"""

import html
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from kdpo_daemon.errors import SourceError

#: The start of the keys that carry a fact, as if it were the prefix of our XML namespace.
PREFIX = "kdpo"

_VERSION = re.compile(r"https?://jsonfeed\.org/version/1(?:\.[01])?/?")
_ACTIVE = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)


def is_json(body: bytes) -> bool:
    """Tell whether a document can be JSON and nothing else: an object."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def items_of(feed_name: str, body: bytes, most: int) -> list[Mapping[str, object]]:
    """Give the items of a document, in its order.

    Raises:
        SourceError: not JSON, not a JSON Feed, or one of more than `most` items.

    """
    try:
        feed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refused(feed_name, f"is not a feed: not JSON: {error}") from error
    if not _VERSION.fullmatch(str(feed.get("version"))):
        raise _refused(feed_name, "is not a feed: JSON that does not say it is a JSON Feed")
    items = feed.get("items")
    if not isinstance(items, list):
        raise _refused(feed_name, "is not a feed: a JSON Feed without a list of items")
    if len(items) > most:
        raise flooded(feed_name, len(items), most)
    return [_item(item) for item in items if isinstance(item, dict)]


def _item(item: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {
        "id": _text(item, "id"),
        "title": html.escape(_text(item, "title")),
        "summary": _summary(item),
        "link": _text(item, "url") or _text(item, "external_url"),
        "published_parsed": _date(_text(item, "date_published") or _text(item, "date_modified")),
    }
    fact = item.get("_kdpo")
    if isinstance(fact, dict):
        for name in ("subject", "relation", "new", "old"):
            found[f"{PREFIX}_{name}"] = _text(fact, name)
        found[f"{PREFIX}_valid-from"] = _text(fact, "valid_from")
    return found


def _text(item: dict[str, object], key: str) -> str:
    value = item.get(key)
    # version 1.0 asks readers to take a number for an id
    return str(value) if isinstance(value, str | int | float) else ""


def _summary(item: dict[str, object]) -> str:
    plain = _text(item, "summary") or _text(item, "content_text")
    return html.escape(plain) if plain else _ACTIVE.sub(" ", _text(item, "content_html"))


def _date(text: str) -> object:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).utctimetuple()
    except (ValueError, OverflowError):
        return None


def flooded(feed_name: str, entries: int, most: int) -> SourceError:
    """Give the error for a document with far too many entries, of whatever format."""
    return SourceError(
        f"has about {entries} entries, more than {most}",
        subject=f"feed {feed_name}",
        hint="ask its publisher for a document with the newest ones only",
    )


def _refused(feed_name: str, why: str) -> SourceError:
    hint = "check that its URL is that of a feed; https://jsonfeed.org/version/1.1 is the format"
    return SourceError(why, subject=f"feed {feed_name}", hint=hint)
