"""One entity as it is now against what was read of it before -> entries and values.

A relation of one value has one entry for each property; a relation of several values has one for
each value, which tells that it was added or that it ended.  Values are compared by id: another
label of an item, or an item that was merged into another, is no change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdpo_daemon.facts.texts import clean, content_hash
from kdpo_daemon.feeds.debounce import Debounce
from kdpo_daemon.feeds.kinds import Poll, Reading
from kdpo_daemon.feeds.kinds.wikidata.entities import Named, Names
from kdpo_daemon.feeds.kinds.wikidata.statements import (
    Json,
    Statement,
    best_statements,
    ended_on,
)
from kdpo_daemon.feeds.kinds.wikidata.watch import References, WatchList
from kdpo_daemon.records.intake import Entry, Feed, Page, RawFact

_STRICTER = list(References)


@dataclass(frozen=True)
class _Watched:
    """A property of the entity, and the key of what is remembered of it."""

    key: str
    property: str
    relation: str


class Comparison:
    """What changed of one entity, at one time."""

    def __init__(
        self, feed: Feed, watched: WatchList, entity: Json, page: Page, poll: Poll
    ) -> None:
        self._watched, self._entity, self._page, self._poll = watched, entity, page, poll
        self._names = Names(feed, watched.language, poll.ask)
        self._debounce = Debounce(page, poll.now, watched.settle_s)
        self._values = dict(page.values)
        self._entries: list[Entry] = []

    def reading(self, relations: Mapping[str, str]) -> Reading:
        """Compare the properties of `relations`, and give what is to be told and remembered."""
        for name, relation in relations.items():
            one = _Watched(clean(f"{self._page.url}#{name}"), name, relation)
            known = self._poll.pack.relations.get(relation)
            best = best_statements(self._entity, name)
            if known is None or known.functional:
                self._compare_one(one, best)
            else:
                self._compare_several(one, best)
        return Reading(self._entries, self._values, waiting=self._debounce.waiting)

    # ------------------------------------------------------------ one value at a time

    def _compare_one(self, of: _Watched, best: Sequence[Statement]) -> None:
        now = "\n".join(sorted(one.value for one in best))
        before = self._values.setdefault(of.key, now)
        # what names nothing for sure is told once, and `before` stays what named something
        told = f"{of.key}!"
        if before == now:
            self._values.pop(told, None)
            return
        if now == self._values.get(told) or not self._debounce.stands(of.key, now):
            return
        had = before.split("\n") if before else []
        came = [one for one in best if one.value not in had]
        if not self._are_founded(came):
            return
        old, new = self._named(had), self._named(one.value for one in best)
        if {one.id for one in old} != {one.id for one in new}:
            since = best[0].since if len(best) == 1 else "" if best else self._end(of, had)
            fact = self._fact(of, old, new, since)
            if not self._tell(of.key, fact, new, _link(came)):
                self._debounce.put_off(of.key, now)
                return
            self._values[told] = now
        self._values[of.key] = now

    # ------------------------------------------------------------ several values

    def _compare_several(self, of: _Watched, best: Sequence[Statement]) -> None:
        now = {one.value: one for one in best}
        mark = f"{of.key}/"  # with no value: the property was read before
        keys = {value: clean(f"{mark}{value}") for value in now}
        if mark not in self._values:
            self._values |= {mark: ""} | {key: value for value, key in keys.items()}
            return
        had = {v: key for key, v in self._values.items() if key.startswith(mark) and key != mark}
        came = [v for v in now if v not in had and self._debounce.stands(keys[v], v)]
        went = [v for v in had if v not in now and self._debounce.stands(had[v], "")]
        if not (came or went):
            return
        new, old = self._named(came), self._named(went)
        renamed = {one.id for one in old} & ({one.id for one in new} | now.keys())
        for value, named in zip(came, new, strict=True):
            if self._are_founded([now[value]]):
                fact = self._fact(of, [], [named], now[value].since)
                told = named.id in renamed or self._tell(
                    keys[value], fact, [named], now[value].url
                )
                self._remember(keys[value], value, told=told)
        for value, named in zip(went, old, strict=True):
            fact = self._fact(of, [named], [], self._end(of, [value]))
            told = named.id in renamed or self._tell(had[value], fact, [named], "")
            self._remember(had[value], "", told=told)

    def _remember(self, key: str, value: str, *, told: bool) -> None:
        if not told:
            self._debounce.put_off(key, value)
        elif value:
            self._values[key] = value
        else:
            self._values.pop(key)

    # ------------------------------------------------------------ what is told

    def _named(self, values: Iterable[str]) -> list[Named]:
        return [self._names.of_value(value) for value in values]

    def _are_founded(self, came: Sequence[Statement]) -> bool:
        wanted = _STRICTER.index(self._watched.references)
        return all(_STRICTER.index(one.grounds) >= wanted for one in came)

    def _end(self, of: _Watched, values: Iterable[str]) -> str:
        return max((ended_on(self._entity, of.property, one) for one in values), default="")

    def _fact(
        self, of: _Watched, old: Sequence[Named], new: Sequence[Named], since: str
    ) -> RawFact:
        """Give the fact; `new` is empty where nothing is left: then nothing can be taught."""
        return RawFact(
            subject=self._names.of(self._entity).label,
            relation=of.relation,
            new=clean("; ".join(one.label for one in new)),
            old=clean("; ".join(one.label for one in old if one.label)),
            valid_from=since,
            aliases=new[0].aliases if len(new) == 1 else (),
            old_aliases=old[0].aliases if len(old) == 1 else (),
        )

    def _tell(self, key: str, fact: RawFact, named: Sequence[Named], link: str) -> bool:
        """Add the entry, unless something in it has no name or there are too many already."""
        full = len(self._entries) == self._poll.max_entries
        if full or not fact.subject or not all(one.label for one in named):
            return False
        said = fact.new or f"no longer {fact.old}"
        title = clean(f"{fact.subject}, {fact.relation}: {said}")
        link = link or self._page.url
        self._entries.append(
            Entry(
                key=key,
                title=title,
                link=link,
                published_at=None,
                summary="",
                fact=fact,
                content_hash=content_hash(key, title, link, fact.old, fact),
            )
        )
        return True


def _link(came: Sequence[Statement]) -> str:
    return next((one.url for one in came if one.url), "")
