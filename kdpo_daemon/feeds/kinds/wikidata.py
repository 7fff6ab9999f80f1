"""Entities of Wikidata, or of another Wikibase -> entries for changed best-rank statements.

Of each watched property the statements of best rank count: the preferred ones, else the normal
ones; deprecated ones and those whose end time has passed are left out.  An entity that is read
for the first time gives no entries.  Does not follow recent changes, wait for a change to stand,
or look at references and aliases.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.tables import as_table, as_text, as_texts, refused
from kdpo_daemon.facts.texts import clean, content_hash
from kdpo_daemon.feeds.kinds import Ask, Reading, as_json
from kdpo_daemon.records.intake import Entry, Feed, Fetched, Page, RawFact

#: What stands in a feed's URL for each of the items that it watches.
PLACE = "{item}"
_START, _END, _POINT_IN_TIME = "P580", "P582", "P585"
_KEYS = frozenset({"items", "properties", "language"})
# How much of `2013-07-01` is known, by Wikibase's number for how exact a time is.
_LENGTHS = {9: 4, 10: 7, 11: 10}

_Json = Mapping[str, Any]


@dataclass(frozen=True)
class WatchList:
    """Which properties of which items are watched, as which relations."""

    items: tuple[str, ...]
    relations: Mapping[str, str]  #: by property
    language: str  #: of labels


@dataclass(frozen=True)
class Statement:
    """One statement of best rank."""

    value: str  #: an item's id, or the value as text
    is_item: bool
    since: str  #: the start of its validity as an ISO date, "" if not said


def urls(feed: Feed) -> list[str]:
    """Give one URL for each item.  SettingsError if the watch list cannot be used."""
    watched = watch_list_of(feed)
    if PLACE not in feed.url:
        raise refused("url", f"wants {PLACE}", f"write .../Special:EntityData/{PLACE}.json")
    return [feed.url.replace(PLACE, item) for item in watched.items]


def read(feed: Feed, fetched: Fetched, page: Page, max_entries: int, ask: Ask) -> Reading:
    """Give an entry for each property whose best statements are others than before.

    Raises:
        SourceError: the document is no entity, or a label cannot be fetched.

    """
    watched = watch_list_of(feed)
    entity = _entity(feed, fetched.url, fetched.body or b"")
    names = _Names(feed, watched.language, ask)
    values = dict(page.values)
    entries: list[Entry] = []
    for item_property, relation in watched.relations.items():
        key = clean(f"{page.url}#{item_property}")
        best = best_statements(entity, item_property)
        now = "\n".join(sorted(one.value for one in best))
        before = values.get(key, now)
        if before != now:
            if len(entries) == max_entries:
                continue
            subject = names.of(entity)
            entries.append(_entry(key, page.url, subject, relation, before, best, names))
        values[key] = now
    return Reading(entries, values)


def watch_list_of(feed: Feed) -> WatchList:
    """Give the watch list in a feed's options.  SettingsError naming what cannot be used."""
    table = as_table("mapping", feed.options, _KEYS)
    items = as_texts("items", table.get("items"))
    relations = {
        name: as_text(f"properties.{name}", relation)
        for name, relation in as_table("properties", table.get("properties")).items()
    }
    for where, ids, form in (("items", items, r"Q\d+"), ("properties", relations, r"P\d+")):
        for one in ids:
            if not re.fullmatch(form, one):
                raise refused(where, f"{one!r} is no id", f"ids look like {form[0]}42")
    if not relations:
        raise refused("properties", "watches nothing")
    return WatchList(items, relations, as_text("language", table.get("language", "en")))


def best_statements(entity: _Json, item_property: str) -> list[Statement]:
    """Give the statements that count: of best rank, not deprecated, not ended, with a value."""
    claims = entity.get("claims")
    said = claims.get(item_property, []) if isinstance(claims, dict) else []
    valid = [one for one in said if one.get("rank") != "deprecated"]
    best = [one for one in valid if one.get("rank") == "preferred"] or valid
    statements = (_statement(one) for one in best if not _ended(one, entity))
    return [one for one in statements if one is not None]


def _ended(statement: _Json, entity: _Json) -> bool:
    """Tell whether a statement was over when the entity was written, an unknown end included."""
    if _END not in statement.get("qualifiers", {}):
        return False
    end = _qualifier(statement, _END)
    return not end or end <= str(entity.get("modified", "9"))


def _statement(statement: _Json) -> Statement | None:
    value = statement["mainsnak"].get("datavalue")
    text = _text(value) if value else ""
    if not text:
        return None
    since = _qualifier(statement, _START) or _qualifier(statement, _POINT_IN_TIME)
    return Statement(text, value["type"] == "wikibase-entityid", since)


def _qualifier(statement: _Json, item_property: str) -> str:
    """Give the date in a qualifier; "" without one, or if it is not known."""
    for snak in statement.get("qualifiers", {}).get(item_property, []):
        value = snak.get("datavalue")
        if value and value["type"] == "time":
            return _date(value["value"])
    return ""


def _text(datavalue: _Json) -> str:
    """Give a value as text; "" for what has none, coordinates for example."""
    value = datavalue["value"]
    match datavalue["type"]:
        case "wikibase-entityid":
            return str(value.get("id") or f"Q{value['numeric-id']}")
        case "string":
            return clean(value)
        case "monolingualtext":
            return clean(value["text"])
        case "quantity":
            return str(value["amount"]).removeprefix("+")
        case "time":
            return _date(value)[: _LENGTHS.get(value["precision"], 0)]
        case _:
            return ""


def _date(value: _Json) -> str:
    """Give a time as `2013-07-01`, its first day; "" if less exact, or before year 1."""
    found = re.match(r"\+(\d{4})-(\d\d)-(\d\d)", value["time"])
    if not found or value["precision"] not in _LENGTHS:
        return ""
    return "-".join(part if part != "00" else "01" for part in found.groups())


# ---------------------------------------------------------------- entries


class _Names:
    """Labels of items, each fetched once."""

    def __init__(self, feed: Feed, language: str, ask: Ask) -> None:
        self._feed, self._language, self._ask = feed, language, ask
        self._known: dict[str, str] = {}

    def of(self, entity: _Json) -> str:
        """Give an entity's label; SourceError if it has none that could be taught."""
        labels = entity.get("labels") or {}
        for language in (self._language, "mul", "en"):
            if language in labels:
                return clean(labels[language]["value"])
        raise _refused(
            self._feed, f"{entity.get('id')} has no label in {self._language}", "add one there"
        )

    def of_value(self, value: str) -> str:
        """Give the label of an item's id, other values as they are."""
        if not re.fullmatch(r"Q\d+", value):
            return value
        if value not in self._known:
            url = self._feed.url.replace(PLACE, value)
            self._known[value] = self.of(_entity(self._feed, url, self._ask(url)))
        return self._known[value]


def _entry(  # noqa: PLR0913 - what an entry is made of
    key: str,
    link: str,
    subject: str,
    relation: str,
    before: str,
    best: list[Statement],
    names: _Names,
) -> Entry:
    """Give the entry; without a fact where no statement is left: then nothing can be taught."""
    new = clean("; ".join(names.of_value(one.value) for one in best))
    old = clean("; ".join(names.of_value(value) for value in before.split("\n") if value))
    since = best[0].since if len(best) == 1 else ""
    fact = RawFact(subject, relation, new, old=old, valid_from=since) if new else None
    title = clean(f"{subject}, {relation}: {new or 'nothing any more'}")
    return Entry(
        key=key,
        title=title,
        link=link,
        published_at=None,
        summary="",
        fact=fact,
        content_hash=content_hash(key, title, link, old, fact),
    )


def _entity(feed: Feed, url: str, body: bytes) -> _Json:
    """Give the entity of a document, alone or as Special:EntityData wraps it."""
    read: Any = as_json(feed.name, url, body)
    if isinstance(read, dict) and isinstance(read.get("entities"), dict) and read["entities"]:
        read = next(iter(read["entities"].values()))
    if not isinstance(read, dict) or "claims" not in read:
        raise _refused(feed, "is no Wikibase entity", f"look at {url}")
    return read


def _refused(feed: Feed, why: str, hint: str) -> SourceError:
    return SourceError(why, subject=f"feed {feed.name}", hint=hint)
