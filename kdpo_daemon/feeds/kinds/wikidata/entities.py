"""Entities as a Wikibase serves them, and what items are called.

An id is never a name: an item without a label in a language that is asked for has none.
"""

import re
from dataclasses import dataclass
from typing import Any

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.texts import clean, readable
from kdpo_daemon.feeds.kinds import Ask, as_json
from kdpo_daemon.feeds.kinds.wikidata.statements import Json
from kdpo_daemon.feeds.kinds.wikidata.watch import PLACE
from kdpo_daemon.records.intake import Feed

#: Other names of one item that are kept.
_MOST_ALIASES = 20
_ID = re.compile(r"[QPL]\d+")
_AMOUNT = re.compile(r"-?\d+(\.\d+)?")


def entity_of(feed: Feed, url: str, body: bytes) -> Json:
    """Give the entity of a document, alone or as Special:EntityData wraps it.

    SourceError if it holds none.
    """
    read: Any = as_json(feed.name, url, body)
    if isinstance(read, dict) and isinstance(read.get("entities"), dict) and read["entities"]:
        read = next(iter(read["entities"].values()))
    if not isinstance(read, dict) or not isinstance(read.get("claims"), dict | list):
        missing = isinstance(read, dict) and "missing" in read
        why = "was deleted" if missing else "is no Wikibase entity"
        raise refused(feed, why, f"look at {url}", missing=missing)
    return read


def own_entity(feed: Feed, page_url: str, url: str, body: bytes) -> Json:
    """Give the entity that a page is about; SourceError too if it was merged into another."""
    entity = entity_of(feed, url, body)
    before, after = feed.url.split(PLACE, 1)
    item = page_url.removeprefix(before).removesuffix(after)
    if entity.get("id", item) != item:
        now = clean(str(entity["id"]))
        raise refused(feed, f"{item} was merged into {now}", f"watch {now} instead", missing=True)
    return entity


def refused(feed: Feed, why: str, hint: str, *, missing: bool = False) -> SourceError:
    """Give the error for a document that cannot be used."""
    return SourceError(why, subject=f"feed {feed.name}", hint=hint, missing=missing)


@dataclass(frozen=True)
class Named:
    """What a value is called."""

    id: str  #: the item's, that of the item it was merged into included; else the value
    label: str  #: "" if it has none that could be taught
    aliases: tuple[str, ...] = ()


class Names:
    """What items are called in one language; each is fetched once."""

    def __init__(self, feed: Feed, language: str, ask: Ask) -> None:
        self._feed, self._language, self._ask = feed, language, ask
        self._known: dict[str, Named] = {}

    def of(self, entity: Json) -> Named:
        """Give what an entity is called."""
        labels, aliases = entity.get("labels") or {}, entity.get("aliases") or {}
        languages = [self._language, "mul"]
        found = (self._name(labels[one]) for one in [*languages, "en"] if one in labels)
        others = [self._name(said) for one in languages for said in aliases.get(one, [])]
        label = next(filter(None, found), "")
        kept = [name for name in dict.fromkeys(others) if name and name != label]
        return Named(str(entity.get("id", "")), label, tuple(kept[:_MOST_ALIASES]))

    def of_value(self, value: str) -> Named:
        """Give what a value is called: for an item's id what the item is, else as it stands.

        SourceError if the item cannot be fetched now.
        """
        amount, _, unit = value.rpartition(" ")
        if _AMOUNT.fullmatch(amount) and _ID.fullmatch(unit):
            label = self._item(unit).label
            return Named(value, f"{amount} {label}" if label else "")
        return self._item(value) if _ID.fullmatch(value) else Named(value, value)

    def _item(self, item: str) -> Named:
        if item not in self._known:
            self._known[item] = self._fetched(item)
        return self._known[item]

    def _fetched(self, item: str) -> Named:
        url = self._feed.url.replace(PLACE, item)
        try:
            return self.of(entity_of(self._feed, url, self._ask(url)))
        except SourceError as error:
            if error.missing:
                return Named(item, "")
            raise

    def _name(self, said: Json) -> str:
        name = readable(str(said["value"]))
        return "" if _ID.fullmatch(name) else name
