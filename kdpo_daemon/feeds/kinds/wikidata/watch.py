"""What a feed watches of a Wikibase: its options, checked.  Does not fetch anything."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.facts.tables import as_number, as_table, as_text, as_texts, refused
from kdpo_daemon.records.intake import Feed

#: What stands in a feed's URL for the id of an item.
PLACE = "{item}"
_KEYS = frozenset(
    {"items", "properties", "language", "settle_s", "references", "api", "max_changes"}
)
_TWO_DAYS, _YEAR = 2 * 86400, 366 * 86400


class References(StrEnum):
    """What a new statement has to rest on to be told."""

    NONE = "none"  #: nothing
    ANY = "any"  #: a reference
    NOT_IMPORTED = "not imported"  #: a reference other than "imported from Wikimedia project"


@dataclass(frozen=True)
class WatchList:
    """Which properties of which items are watched, and how."""

    items: tuple[str, ...]  #: none: whichever the recent changes name
    properties: Mapping[str, str]  #: relation by property; "": the one that the packs name
    language: str  #: of labels and aliases
    settle_s: int  #: seconds that a change must have stood
    references: References
    api: str  #: the wiki's api.php, asked for recent changes; "" with `items`
    max_changes: int  #: recent changes that one poll looks through


def watch_list_of(feed: Feed) -> WatchList:
    """Give the watch list in a feed's options.  SettingsError naming what cannot be used."""
    table = as_table("mapping", feed.options, _KEYS)
    if PLACE not in feed.url:
        raise refused("url", f"wants {PLACE}", f"write .../Special:EntityData/{PLACE}.json")
    items = as_texts("items", table["items"]) if "items" in table else ()
    properties = _properties(table["properties"]) if "properties" in table else {}
    for where, ids, form in (("items", items, r"Q\d+"), ("properties", properties, r"P\d+")):
        for one in ids:
            if not re.fullmatch(form, one):
                raise refused(where, f"{one!r} is no id", f"ids look like {form[0]}42")
    if not (items or properties):
        raise refused("mapping", "watches nothing", "name `items`, `properties` or both")
    if bool(items) == ("api" in table):
        why = "is asked for recent changes, so it is wanted without `items`, and only then"
        raise refused("api", why, "write https://www.wikidata.org/w/api.php, or leave it out")
    api = as_text("api", table["api"]) if not items else ""
    if api and urlsplit(api)[:2] != urlsplit(feed.url)[:2]:
        raise refused("api", "is elsewhere than the URL", "requests go to one host, one by one")
    return WatchList(
        items=items,
        properties=properties,
        language=as_text("language", table.get("language", "en")),
        settle_s=_seconds(table.get("settle_s", _TWO_DAYS)),
        references=_references(table.get("references", References.NONE)),
        api=api,
        max_changes=as_number("max_changes", table.get("max_changes", 20_000), 1_000_000),
    )


def relations_of(watched: WatchList, pack: Pack) -> Mapping[str, str]:
    """Give the relation of each watched property, by property.

    Without properties these are all that exactly one relation of the packs has.

    Raises:
        SettingsError: a property is given without a relation, and the packs do not name one.

    """
    of: dict[str, list[str]] = {}
    for relation in pack.relations.values():
        of.setdefault(relation.property, []).append(relation.name)
    of.pop("", None)
    if not watched.properties:
        return {one: names[0] for one, names in of.items() if len(names) == 1}
    found = {}
    for one, relation_name in watched.properties.items():
        names = [relation_name] if relation_name else of.get(one, [])
        if len(names) != 1:
            known = f"several relations: {', '.join(names)}" if names else "no relation"
            raise refused("properties", f"{one} has {known}", f'write {one} = "..." in a table')
        found[one] = names[0]
    return found


def _properties(value: object) -> dict[str, str]:
    if isinstance(value, list):
        return dict.fromkeys(as_texts("properties", value), "")
    if not value:
        raise refused("properties", "watches nothing")
    table = as_table("properties", value)
    return {name: as_text(f"properties.{name}", relation) for name, relation in table.items()}


def _seconds(value: object) -> int:
    return 0 if value == 0 and value is not False else as_number("settle_s", value, _YEAR)


def _references(value: object) -> References:
    try:
        return References(str(value))
    except ValueError as error:
        raise _no_policy() from error


def _no_policy() -> SettingsError:
    return refused("references", f"must be one of {', '.join(References)}")
