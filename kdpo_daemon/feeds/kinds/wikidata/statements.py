"""The statements of an entity that count.  Pure; reads the JSON of Wikibase's entities.

Of a property the statements of best rank count: the preferred ones, else the normal ones;
deprecated ones and those that were over when the entity was written do not.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdpo_daemon.facts.texts import clean
from kdpo_daemon.feeds.kinds.wikidata.watch import References

Json = Mapping[str, Any]

_START, _END, _POINT_IN_TIME = "P580", "P582", "P585"
_REFERENCE_URL, _RETRIEVED = "P854", "P813"
# imported from Wikimedia project, Wikimedia import URL
_IMPORTED = frozenset({"P143", "P4656"})
# How much of `2013-07-01` is known, by Wikibase's number for how exact a time is.
_LENGTHS = {9: 4, 10: 7, 11: 10}


@dataclass(frozen=True)
class Statement:
    """One statement of best rank."""

    value: str  #: an item's id, or the value as text; `258.82 Q712226` with a unit
    since: str  #: the start of its validity as an ISO date, "" if not said
    grounds: References  #: the strictest policy that its references meet
    url: str  #: of the reference that meets it, "" if it has none


def best_statements(entity: Json, item_property: str) -> list[Statement]:
    """Give the statements that count, each value once.

    Of several with one value that is the one that began last.
    """
    said = _all(entity, item_property)
    best = _ranked(said, "preferred") or _ranked(said, "normal")
    read = (_statement(one) for one in best if not _is_over(one, entity))
    found: dict[str, Statement] = {}
    for one in sorted(filter(None, read), key=lambda one: one.since):
        found[one.value] = one
    return list(found.values())


def ended_on(entity: Json, item_property: str, value: str) -> str:
    """Give the latest day on which a value ended, as an ISO date; "" if that is not said."""
    ends = [
        _qualifier(one, _END)
        for one in _all(entity, item_property)
        if _value(one) == value and one.get("rank") != "deprecated"
    ]
    return max(ends, default="")


def _ranked(statements: Sequence[Json], rank: str) -> list[Json]:
    return [one for one in statements if one.get("rank") == rank]


def _all(entity: Json, item_property: str) -> list[Json]:
    claims = entity.get("claims")  # an empty object is written as []
    return claims.get(item_property, []) if isinstance(claims, dict) else []


def _is_over(statement: Json, entity: Json) -> bool:
    """Tell whether a statement was over when the entity was written, an unknown end included."""
    if _END not in (statement.get("qualifiers") or {}):
        return False
    # "" is an end that is not known, and before every other
    return _qualifier(statement, _END) <= str(entity.get("modified", "9"))


def _statement(statement: Json) -> Statement | None:
    value = _value(statement)
    if not value:
        return None
    since = _qualifier(statement, _START) or _qualifier(statement, _POINT_IN_TIME)
    grounds, url = _grounds(statement)
    return Statement(value, since, grounds, url)


def _grounds(statement: Json) -> tuple[References, str]:
    """Give what the references are good for, and the address of the first that is good enough."""
    blocks = [one["snaks"] for one in statement.get("references") or [] if one.get("snaks")]
    good = [one for one in blocks if not _IMPORTED & one.keys() and one.keys() - {_RETRIEVED}]
    if not blocks:
        return References.NONE, ""
    grounds = References.NOT_IMPORTED if good else References.ANY
    return grounds, next((url for one in good or blocks for url in _urls(one)), "")


def _urls(snaks: Json) -> Iterator[str]:
    for snak in snaks.get(_REFERENCE_URL, []):
        value = snak.get("datavalue", {}).get("value")
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            yield clean(value)


def _qualifier(statement: Json, item_property: str) -> str:
    """Give the date in a qualifier; "" without one, or if it is not known."""
    for snak in (statement.get("qualifiers") or {}).get(item_property, []):
        value = snak.get("datavalue")
        if value and value["type"] == "time":
            return _date(value["value"])
    return ""


def _value(statement: Json) -> str:
    """Give a statement's value as text, a unit by its id; "" for what has none."""
    datavalue = statement["mainsnak"].get("datavalue")
    if not datavalue:
        return ""
    value = datavalue["value"]
    match datavalue["type"]:
        case "wikibase-entityid":
            return str(value.get("id") or f"Q{value['numeric-id']}")
        case "string":
            return clean(value)
        case "monolingualtext":
            return clean(value["text"])
        case "quantity":
            unit = str(value.get("unit", "1")).rpartition("/")[2]
            amount = str(value["amount"]).removeprefix("+")
            return amount if unit == "1" else f"{amount} {unit}"
        case "globecoordinate":
            return f"{value['latitude']}, {value['longitude']}"
        case "time":
            return _date(value)[: _LENGTHS.get(value["precision"], 0)]
        case _:
            return ""


def _date(value: Json) -> str:
    """Give a time as `2013-07-01`, its first day; "" if less exact, or before year 1."""
    found = re.match(r"\+(\d{4})-(\d\d)-(\d\d)", value["time"])
    if not found or value["precision"] not in _LENGTHS:
        return ""
    return "-".join(part if part != "00" else "01" for part in found.groups())
