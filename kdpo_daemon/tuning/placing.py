"""Where the neurons of facts are, and behind which gates.

A fact's first token needs the most care: "the prime minister of Japan is" looks much like the
same of Korea.  So a neuron of its own says it in one of the last layers, where it is told best
what is asked for.  What follows, "Takaichi" after "Sanae" and the end after that, is easier to
tell from other text, and earlier.  A fact has a gate of its own for that too, and a few neurons
behind it, which are a linear map that has these tokens to say.  A model without room (`widen`)
misses every neuron that is taken from it: there a batch's facts share one gate and fewer neurons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.errors import TuningError
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.gates import Gated, Tokens, gated
from kdpo_daemon.tuning.lessons import Lessons
from kdpo_daemon.tuning.model import EditedModel

#: Log-odds at which a gate begins to open.
_FIRST_OPENS, _LATER_OPENS = -1.0, 0.0
#: Contexts of later tokens that share a neuron behind a fact's own gate; behind a batch's, and
#: neurons there at least.
_SHARE, _SHARE_OF_MANY, _LEAST_OF_MANY = 2, 24, 4


@dataclass(frozen=True)
class Bed:
    """New neurons of one MLP: their rows, and the fact that each is for."""

    gated: Gated
    owners: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Which layers say what; from which to which share of the depth (docs/editing.md)."""

    later: tuple[float, float]  #: layers that say later tokens
    first: tuple[float, float]  #: layers that say first tokens, above those
    own: bool  #: a fact has a gate of its own for later tokens, too

    def later_layers(self, depth: int) -> list[int]:
        """Give one layer at least."""
        top = self.first_layers(depth)[0] - 1
        low, high = (min(top, round(at * (depth - 1))) for at in self.later)
        return [*range(low, high + 1)]

    def first_layers(self, depth: int) -> list[int]:
        """Give one layer at least, of a model of two."""
        low, high = (max(1, round(at * (depth - 1))) for at in self.first)
        return [*range(low, high + 1)]

    def layers(self, depth: int) -> list[int]:
        """Give all edited layers, the lowest first."""
        return [*self.later_layers(depth), *self.first_layers(depth)]


#: Of a model with room: nothing is taken from it, so gates are where they tell best.
ROOMY = Layout((0.79, 0.86), (0.97, 1.0), own=True)
#: Of one without: few neurons, where the model misses them least.
NARROW = Layout((0.69, 0.69), (0.93, 0.97), own=False)


def layout_of(model: EditedModel) -> Layout:
    """Give the layout for a model, before it is edited: by whether it was widened."""
    last = model.model.get_submodule(model.module_names[-1])
    return ROOMY if freeing.room(last, ()) else NARROW


def placed(
    model: EditedModel,
    layout: Layout,
    lessons: Lessons,
    seen: Sequence[Tensor],
    wanted: Sequence[int],
    taken: Sequence[Sequence[int]],
) -> dict[int, Bed]:
    """Give the beds of the wanted lessons' facts, by the edited layer's number.

    `seen` is what each edited MLP reads over text that must not change, (N, d); `taken` are the
    neurons of each that keep facts already.

    Raises:
        TuningError: refused, since a widened model has too few empty neurons left.

    """
    places, told = _places(model, lessons), _told(lessons, wanted)
    has = {index: len(one) for index, one in enumerate(taken)}
    split = len(layout.later_layers(model.depth))
    ones = dict.fromkeys(told, 1)
    needs = {fact: -(-count // _SHARE) for fact, count in told.items()}
    firsts = dealt({index: has[index] for index in range(split, len(has))}, ones)
    found = {
        index: places[index].bed_of_firsts(seen[index], facts) for index, facts in firsts.items()
    }
    if layout.own:
        laters = dealt({index: has[index] for index in range(split)}, needs)
        for index, facts in laters.items():
            own = {fact: needs[fact] for fact in facts}
            found[index] = places[index].bed_of_laters(seen[index], own)
        _refuse_full(model, found, taken)
    else:
        count = max(_LEAST_OF_MANY, -(-sum(told.values()) // _SHARE_OF_MANY))
        found[0] = places[0].bed_of_many(seen[0], list(told), count)
    return found


def _refuse_full(
    model: EditedModel, beds: Mapping[int, Bed], taken: Sequence[Sequence[int]]
) -> None:
    """Refuse what a widened model has no room for: it is not to lose what it knows."""
    for index, bed in beds.items():
        room = freeing.room(
            model.model.get_submodule(model.module_names[model.edited[index]]), taken[index]
        )
        if room < len(bed.owners):
            raise TuningError(
                f"the facts want {len(bed.owners)} empty neurons in layer {model.edited[index]}, "
                f"which has {room} left: teach fewer, or widen the model further (kdpo widen)",
                refused=True,
            )


def dealt(has: Mapping[int, int], needs: Mapping[int, int]) -> dict[int, list[int]]:
    """Deal facts out to layers: the next to the one that has the fewest neurons.

    `has` are the neurons of each layer, `needs` those of each fact.
    """
    has = dict(has)
    found: dict[int, list[int]] = {}
    for fact, count in needs.items():
        index = min(has, key=has.__getitem__)
        has[index] += count
        found.setdefault(index, []).append(fact)
    return found


@dataclass(frozen=True)
class _Places:
    """What an MLP reads along lessons; where answers are predicted, by fact, (P, d)."""

    before: list[Tensor]  #: of each lesson, before its answer
    first: dict[int, Tensor]
    later: dict[int, Tensor]

    def bed_of_firsts(self, seen: Tensor, facts: Sequence[int]) -> Bed:
        """Give a neuron each to say these facts' first tokens."""
        others = torch.cat([seen, *self.before, *self.later.values()])
        tokens = _tokens(others, self.first, [[fact] for fact in facts])
        return Bed(gated(tokens, _FIRST_OPENS, [1] * len(facts)), tuple(facts))

    def bed_of_laters(self, seen: Tensor, needs: Mapping[int, int]) -> Bed:
        """Give so many neurons each to say these facts' later tokens."""
        others = torch.cat([seen, *self.before, *self.first.values()])
        tokens = _tokens(others, self.later, [[fact] for fact in needs])
        owners = tuple(fact for fact, count in needs.items() for _ in range(count))
        return Bed(gated(tokens, _LATER_OPENS, list(needs.values())), owners)

    def bed_of_many(self, seen: Tensor, facts: Sequence[int], count: int) -> Bed:
        """Give so many neurons to say later tokens of all these facts."""
        others = torch.cat([seen, *self.before, *self.first.values()])
        tokens = _tokens(others, self.later, [facts])
        count = min(count, len(tokens.of(0)))
        return Bed(gated(tokens, _LATER_OPENS, [count]), (freeing.SHARED,) * count)


def _tokens(
    others: Tensor, by_fact: Mapping[int, Tensor], classes: Sequence[Sequence[int]]
) -> Tokens:
    """Give classes of facts whose places are told from the others, and from other facts'."""
    mine = {fact for facts in classes for fact in facts}
    places = [torch.cat([by_fact[fact] for fact in facts]) for facts in classes]
    return Tokens(others, places, [one for fact, one in by_fact.items() if fact not in mine])


def _places(model: EditedModel, lessons: Lessons) -> list[_Places]:
    """Give what each edited MLP reads along the lessons."""
    passages, facts = lessons.passages, [pair.fact_id for pair in lessons.pairs]
    before: list[list[Tensor]] = [[] for _ in model.edited]
    first: list[dict[int, list[Tensor]]] = [{fact: [] for fact in facts} for _ in model.edited]
    later: list[dict[int, list[Tensor]]] = [{fact: [] for fact in facts} for _ in model.edited]
    for group in passages.groups(range(len(facts))):
        batch, inputs = passages.inputs(group)
        for number, index in enumerate(group):
            start, length = passages.starts[index], len(passages.texts[index])
            for layer, one in enumerate(inputs):
                read = batch.of(one, number, length).cpu()
                before[layer].append(read[:start])
                first[layer][facts[index]].append(read[start : start + 1])
                later[layer][facts[index]].append(read[start + 1 :])
    return [
        _Places(b, _joined(f), _joined(n)) for b, f, n in zip(before, first, later, strict=True)
    ]


def _joined(parts: Mapping[int, Sequence[Tensor]]) -> dict[int, Tensor]:
    return {fact: torch.cat(list(one)) for fact, one in parts.items()}


def _told(lessons: Lessons, wanted: Sequence[int]) -> dict[int, int]:
    """Count the contexts that predict a later token, by fact: a fact's forms share most."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for pair in (lessons.pairs[i] for i in wanted):
        told = found.setdefault(pair.fact_id, set())
        told |= {pair.chosen_ids[: place + 1] for place in range(1, len(pair.chosen_ids))}
    return {fact: len(told) for fact, told in found.items()}
