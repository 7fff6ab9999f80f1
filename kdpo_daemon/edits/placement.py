"""Where the neurons of facts go, and what rank that takes.  Pure.

The training child places them so (`tuning/placing.py`), and the daemon asks beforehand what comes
of it: a server refuses an adapter whose rank is greater than its own, after all the training.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from kdpo_daemon.records.teaching import Form, Pair

T = TypeVar("T")

SHARED = 0  #: no fact's number: the owner of neurons that many facts share
#: Contexts of later tokens that share a neuron, and neurons for them at least.
_SHARE, _LEAST = 24, 4
#: Neurons of a ramp, which is what a gate is where there are marks, and neurons to spare.
TWINS = 2


@dataclass(frozen=True)
class Taken:
    """What a version keeps in one MLP."""

    owners: tuple[int, ...]  #: the fact that each neuron is for, or SHARED
    repairs: int = 0  #: how many of them the others make up for: as much rank again


@dataclass(frozen=True)
class Ground:
    """What a batch builds on, as far as ranks go."""

    layers: tuple[int, ...]  #: that keep facts, the lowest those for later tokens
    marking: tuple[int, ...] = ()  #: layers whose MLPs mark subjects; none: there are no marks
    cueing: tuple[int, ...] = ()  #: layers whose MLPs cue later tokens, where there are marks
    taken: Mapping[int, Taken] = field(default_factory=dict)  #: by layer, of the parent
    facts: frozenset[int] = frozenset()  #: that are kept: these take no neuron more


def marking_below(carrier: int) -> tuple[int, ...]:
    """Give the layers whose MLPs mark subjects, if layer `carrier` hands marks on."""
    return tuple(range(max(0, carrier - 2), carrier))


def cueing_below(later: int, carrier: int) -> tuple[int, ...]:
    """Give the layers whose MLPs cue what layer `later` says: they must be reached by marks."""
    return tuple(range(max(carrier, later - 2), later))


def dealt(has: Mapping[int, int], facts: Iterable[T]) -> dict[int, list[T]]:
    """Deal facts out to layers: the next to the one that has the fewest neurons."""
    has = dict(has)
    found: dict[int, list[T]] = {}
    for fact in facts if has else ():
        index = min(has, key=has.__getitem__)
        has[index] += 1
        found.setdefault(index, []).append(fact)
    return found


def shared_by(pairs: Iterable[Pair]) -> int:
    """Count the neurons, or ramps, that say the later tokens of some pairs."""
    # contexts that predict a later token: a fact's forms have most of them in common
    told = {
        (pair.fact_id, pair.chosen_ids[: place + 1])
        for pair in pairs
        for place in range(1, len(pair.chosen_ids))
    }
    return max(_LEAST, -(-len(told) // _SHARE))


def rank_in_neurons(ground: Ground, pairs: Sequence[Pair]) -> int:
    """Give the rank of a version that keeps these pairs' facts in neurons; it is that at most.

    It counts on empty neurons in models with marks, and where the parent found some.
    """
    new = _new(ground, pairs)
    stays = {SHARED, *(pair.fact_id for pair in pairs)} - {pair.fact_id for pair in new}
    has = {
        layer: sum(owner in stays for owner in kept.owners) for layer, kept in ground.taken.items()
    }
    more = _more(ground, has, new)

    def rank(layer: int) -> int:
        kept = ground.taken.get(layer)
        freed = kept.repairs > 0 if kept else not ground.marking
        made_up = (kept.repairs if kept else 0) + (more.get(layer, 0) if freed else 0)
        return has.get(layer, 0) + more.get(layer, 0) + made_up

    return max(1, *map(rank, {*has, *more}))


def _new(ground: Ground, pairs: Sequence[Pair]) -> list[Pair]:
    """Give the pairs that are placed: with marks, those of all facts of a subject together."""
    new = [pair for pair in pairs if pair.fact_id not in ground.facts]
    about = {pair.subject for pair in new} if ground.marking else set()
    return [pair for pair in pairs if pair.fact_id not in ground.facts or pair.subject in about]


def _more(ground: Ground, has: Mapping[int, int], new: Sequence[Pair]) -> dict[int, int]:
    """Give how many neurons each layer gets."""
    later, *first = ground.layers
    facts = dict.fromkeys(pair.fact_id for pair in new)
    subjects = dict.fromkeys(pair.subject for pair in new)
    upper = dealt({layer: has.get(layer, 0) for layer in first}, facts)
    cues = dealt({layer: has.get(layer, 0) for layer in ground.cueing}, facts)
    marks = dealt({layer: has.get(layer, 0) for layer in ground.marking}, subjects)
    each = TWINS if ground.marking else 1
    found = {later: each * shared_by(new) if new else 0}
    found |= {layer: each * len(some) for layer, some in (*upper.items(), *cues.items())}
    return found | {layer: each * len(some) for layer, some in marks.items()}


def rank_in_rows(slots: Collection[tuple[str, Form]], pairs: Iterable[Pair]) -> int:
    """Give the rank of a version that keeps these pairs in rows besides the slots there are."""
    return max(1, len({*slots, *((pair.subject, pair.form) for pair in pairs)}))


def too_many(
    new: Sequence[Pair], taught: Sequence[Pair], rank: Callable[[Sequence[Pair]], int], most: int
) -> dict[int, int]:
    """Give the facts that do not fit, and the rank that a version would take with each.

    Args:
        new: pairs of the facts to be taught, those first that come first.
        taught: pairs of the facts that the version keeps in any case.
        rank: of a version with some pairs.
        most: the greatest rank that is served.

    """
    if rank([*taught, *new]) <= most:
        return {}
    fits, found = [*taught], dict[int, int]()
    for fact_id in dict.fromkeys(pair.fact_id for pair in new):
        tried = [*fits, *(pair for pair in new if pair.fact_id == fact_id)]
        if (needed := rank(tried)) > most:
            found[fact_id] = needed
        else:
            fits = tried
    return found
