"""JSON that says how things are -> entries that say what changed since it was read before.

A mapping names, by JSONPath, the subject and one value for each relation.  A document that is
read for the first time gives no entries: it is what later ones are compared with.  A value that
vanishes is taken for an omission, not for a change.  Does not judge what a value means.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from urllib.parse import quote

from jsonpath_ng import JSONPath
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse as parse_path

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.tables import as_table, as_text, as_texts, refused
from kdpo_daemon.facts.texts import clean, content_hash, readable, without_markup
from kdpo_daemon.feeds.kinds import Poll, Reading, as_json
from kdpo_daemon.records.intake import Entry, Feed, Fetched, Page, RawFact

#: What stands in a feed's URL for each of the values that its mapping lists.
PLACE = "{value}"
#: Longest subject that is taken for a name as it stands.
_NAME = 60
#: A document with so many times the things that are told of at once is refused, and of those that
#: it tells of no longer no more are remembered.
_FAR_TOO_MANY = 100
_KEYS = frozenset({"values", "each", "subject", "relations"})


@dataclass(frozen=True)
class Slot:
    """Where the value of one relation stands, and its subject: the first path that finds one."""

    relation: str
    path: str
    subject: tuple[str, ...]


@dataclass(frozen=True)
class SnapshotMapping:
    """What to read; `each` finds the things that a document tells of, "$": it is about one."""

    values: tuple[str, ...]
    each: str
    slots: tuple[Slot, ...]


def urls(feed: Feed) -> list[str]:
    """Give the feed's URL, or one for each value of its mapping.  SettingsError if unusable."""
    values = mapping_of(feed).values
    if bool(values) != (PLACE in feed.url):
        why = f"`values` and {PLACE} in the URL want each other"
        raise refused("values", why, "give both or neither")
    return [feed.url.replace(PLACE, quote(value)) for value in values] or [feed.url]


def read(feed: Feed, fetched: Fetched, page: Page, poll: Poll) -> Reading:
    """Give an entry for each value that reads otherwise than before.  SourceError: no JSON."""
    before = page.values
    document = as_json(feed.name, fetched.url, fetched.body or b"")
    mapping = mapping_of(feed)
    things = _compiled(mapping.each).find(document)
    if len(things) > poll.max_entries * _FAR_TOO_MANY:
        raise _flooded(feed, len(things))
    found = dict(_facts(mapping, page.url, [thing.value for thing in things]))
    changed = [key for key, fact in found.items() if before.get(key, fact.new) != fact.new]
    taken = changed[: poll.max_entries]
    late = frozenset(changed[poll.max_entries :])
    entries = [_entry(key, found[key], before[key], fetched.url) for key in taken]
    values = {key: before[key] if key in late else fact.new for key, fact in found.items()}
    gone = (key for key in before if key not in found)
    room = max(0, poll.max_entries * _FAR_TOO_MANY - len(values))
    return Reading(entries, {key: before[key] for key in islice(gone, room)} | values)


def _flooded(feed: Feed, things: int) -> SourceError:
    why = f"tells of {things} things, which would take minutes to read"
    return SourceError(why, subject=f"feed {feed.name}", hint="take a narrower path for `each`")


def mapping_of(feed: Feed) -> SnapshotMapping:
    """Give the mapping in a feed's options.  SettingsError naming the key that cannot be used."""
    table = as_table("mapping", feed.options, _KEYS)
    subject = _paths("subject", table.get("subject"))
    relations = as_table("relations", table.get("relations"))
    if not relations:
        raise refused("relations", "maps nothing")
    values = table.get("values")
    return SnapshotMapping(
        values=as_texts("values", values) if values is not None else (),
        each=_path("each", table.get("each", "$")),
        slots=tuple(_slot(name, value, subject) for name, value in relations.items()),
    )


def _slot(relation: str, value: object, subject: tuple[str, ...]) -> Slot:
    where = f"relations.{relation}"
    if not isinstance(value, dict):
        return Slot(relation, _path(where, value), subject)
    table = as_table(where, value, frozenset({"path", "subject"}))
    own = _paths(f"{where}.subject", table["subject"]) if "subject" in table else subject
    return Slot(relation, _path(f"{where}.path", table.get("path")), own)


def _paths(where: str, value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    return tuple(_path(where, text) for text in texts)


def _path(where: str, value: object) -> str:
    text = as_text(where, value)
    try:
        _compiled(text)
    except JSONPathError as error:
        why = f"{text!r} is no JSONPath: {clean(str(error), 200)}"
        raise refused(where, why, "write it like $.Government['Capital'].name") from error
    return text


# a mapping is used for every document of every poll
@lru_cache(maxsize=1024)
def _compiled(path: str) -> JSONPath:
    return parse_path(path)


# ---------------------------------------------------------------- one document


def _facts(
    mapping: SnapshotMapping, url: str, things: Sequence[object]
) -> Iterator[tuple[str, RawFact]]:
    """Give what a document says now, by key: its URL, the thing if it tells of many, relation."""
    for thing in things:
        for slot in mapping.slots:
            subject = next(filter(None, (_text(path, thing) for path in slot.subject)), "")
            new = _text(slot.path, thing)
            name = "" if mapping.each == "$" else f"{subject}/"
            if subject and new:
                key = clean(f"{url}#{name}{slot.relation}")
                yield key, RawFact(_without_gloss(subject), slot.relation, new)


def _text(path: str, thing: object) -> str:
    """Give the values at a path as one clean text without markup; "" where there is none."""
    values = (match.value for match in _compiled(path).find(thing))
    plain = (str(value) for value in values if isinstance(value, str | int | float))
    texts = (readable(without_markup(value)) for value in plain)
    joined = clean("; ".join(filter(None, texts)))
    return "" if joined.lower() in {"none", "n/a", "na"} else joined


def _without_gloss(subject: str) -> str:
    """`Svalbard (sometimes referred to as ...)` is Svalbard; `Congo (Brazzaville)` stays."""
    return subject if len(subject) <= _NAME else re.sub(r" \([^()]*\)$", "", subject)


def _entry(key: str, fact: RawFact, old: str, link: str) -> Entry:
    told = RawFact(fact.subject, fact.relation, fact.new, old=old)
    title = clean(f"{fact.subject}, {fact.relation}: {fact.new}")
    return Entry(
        key=key,
        title=title,
        link=link,
        published_at=None,
        summary="",
        fact=told,
        content_hash=content_hash(key, title, link, "", told),
    )
