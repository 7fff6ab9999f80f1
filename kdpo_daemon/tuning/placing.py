"""Where the neurons of facts are, and behind which gates.

A fact's first token needs the most care: "the prime minister of Japan is" looks much like the
same of Korea.  So each fact has a gate of its own for it, in one of the last layers, where it is
told best what is asked for.  What follows, "Takaichi" after "Sanae" and the end after that, is
easier to tell from other text: there the facts of a batch share one gate, and a few neurons behind
it are a linear map that has all of their tokens to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED, TWINS, dealt, shared_by
from kdpo_daemon.tuning import named
from kdpo_daemon.tuning.gates import Gated, Known, Tokens, gated
from kdpo_daemon.tuning.imagined import Imagined, in_passing
from kdpo_daemon.tuning.lessons import Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Seen

#: Log-odds at which a gate begins to open.
_FIRST_OPENS, _LATER_OPENS = -1.0, 0.0
#: The same where marks tell the subject, and only the question is left to tell.
_MARKED_OPENS = -1.0
#: Log-odds that the gate of later tokens gives for a mean mark, where there are marks; it takes
#: from all what the faintest are given, some .8 of it.
_UNMARKED = 24.0
#: Share of a batch's later places whose marks are fainter than what counts as one.
_FAINT = 0.1
#: K for marks of other batches: with codes at most .7 alike, 12 log-odds.
_APART = 40.0


@dataclass(frozen=True)
class Marked:
    """What there is to go by where subjects have marks."""

    constant: int  #: where the side room's constant is read
    carried: slice  #: where marks are read
    family: slice  #: where what they have in common within a batch is
    imagined: Imagined  #: for the facts that are placed


@dataclass(frozen=True)
class Bed:
    """New neurons of one MLP: their rows, and the fact that each is for."""

    gated: Gated
    owners: tuple[int, ...]


def placed(
    model: EditedModel,
    lessons: Lessons,
    seen: Seen,
    wanted: Sequence[int],
    taken: Sequence[Sequence[int]],
    marked: Marked | None = None,
) -> dict[int, Bed]:
    """Give the beds of the wanted lessons' facts, by the edited layer's number.

    `seen` is what must not change; `taken` are the neurons of each MLP that keep facts already;
    `marked` is for a model with marks.
    """
    places = _places(model, lessons, seen, marked)
    facts = list(dict.fromkeys(lessons.pairs[i].fact_id for i in wanted))
    count = shared_by(lessons.pairs[i] for i in wanted)
    found = {0: places[0].bed_of_laters(facts, count)}
    upper = {index: len(one) for index, one in enumerate(taken) if index}
    for index, some in dealt(upper, facts).items():
        found[index] = places[index].bed_of_firsts(some)
    return found


@dataclass(frozen=True)
class _Places:
    """What an MLP reads along lessons; where answers are predicted, by fact, (P, d)."""

    index: int  #: of the MLP among the edited ones
    seen: Seen
    before: list[Tensor]  #: of each lesson, before its answer
    first: dict[int, Tensor]
    later: dict[int, Tensor]
    marked: Marked | None

    def bed_of_firsts(self, facts: Sequence[int]) -> Bed:
        """Give a neuron each to say these facts' first tokens; with marks a ramp."""
        others = self._around(self.later, said=False)
        tokens = _tokens(others, self.first, [[fact] for fact in facts])
        if self.marked is None:
            return Bed(gated(tokens, _FIRST_OPENS, [1] * len(facts)), tuple(facts))
        found = self.marked.imagined
        asked = [found.others[fact][self.index] for fact in facts]
        alike = named.Alike(asked, found.moves[self.index])
        made = named.gated(tokens, self.marked.carried, _MARKED_OPENS, alike)
        return Bed(made, tuple(fact for fact in facts for _ in range(TWINS)))

    def bed_of_laters(self, facts: Sequence[int], count: int) -> Bed:
        """Give so many neurons to say later tokens of all these facts; with marks, ramps."""
        others = self._around(self.first, said=True)
        tokens = _tokens(others, self._rivals(facts), [facts])
        count = min(count, len(tokens.of(0)))
        opens = _MARKED_OPENS if self.marked else _LATER_OPENS
        made = gated(tokens, opens, [count], known=self._known(tokens))
        return Bed(made, (SHARED,) * len(made.gates))

    def _around(self, more: Mapping[int, Tensor], *, said: bool) -> Tensor:
        """What must open no gate, (N, d); what is `said` of a subject, too, whatever is asked."""
        seen = [self.seen.of(self.index)]
        if self.marked:
            text = seen[0] if said else self.seen.texts[self.index]
            seen.append(in_passing(text, list(self.first.values()), self.marked.carried))
        return torch.cat([*seen, *self.before, *more.values()])

    def _known(self, tokens: Tokens) -> Known | None:
        """What shuts a gate where no mark is, or another batch's.

        Without the first, that of a second batch opened in ordinary text; without the second, that
        of a third one where earlier facts are said, which a batch looks at in samples alone.  A
        regression that reads codes makes the opposite of them, since most tokens that carry this
        batch's are of questions.  The more a token holds, the less a norm leaves of a flag: what
        it left of the side room's constant tells how large the flag would be.
        """
        if self.marked is None:
            return None
        room, mine = self.marked, tokens.of(0)
        flag, none, batch = torch.zeros(3, mine.shape[1]).unbind()
        place = room.carried.start  # all marks have a flag
        flag[place] = 1 / mine[:, place].mean().clamp_min(1e-3)
        strength = mine[:, place] / mine[:, room.constant]
        none[room.constant] = flag[place] * strength.quantile(_FAINT)
        family = mine[:, room.family].mean(0)
        batch[room.family] = family / family.square().sum().clamp_min(1e-6)
        odds = _UNMARKED * (flag - none) + _APART * (batch - flag)
        moves = room.imagined.moves[self.index].clone()
        moves[:, [room.constant, *range(place, room.carried.stop)]] = 0  # who is asked about stays
        return Known(odds, slice(place + 1, room.carried.stop), moves)

    def _rivals(self, facts: Sequence[int]) -> dict[int, Tensor]:
        """Give later tokens of these facts and of those that the gate must tell them from.

        With marks there are no such: what earlier facts say next looks the same but for whom it is
        said of.  A gate that had to tell them apart would open for whatever comes in handy, and
        did so in ordinary text; their marks shut it.
        """
        return self.later if self.marked is None else {one: self.later[one] for one in facts}


def _tokens(
    others: Tensor, by_fact: Mapping[int, Tensor], classes: Sequence[Sequence[int]]
) -> Tokens:
    """Give classes of facts whose places are told from the others, and from other facts'."""
    mine = {fact for facts in classes for fact in facts}
    places = [torch.cat([by_fact[fact] for fact in facts]) for facts in classes]
    return Tokens(others, places, [one for fact, one in by_fact.items() if fact not in mine])


def _places(
    model: EditedModel, lessons: Lessons, seen: Seen, marked: Marked | None
) -> list[_Places]:
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
        _Places(index, seen, b, _joined(f), _joined(n), marked)
        for index, (b, f, n) in enumerate(zip(before, first, later, strict=True))
    ]


def _joined(parts: Mapping[int, Sequence[Tensor]]) -> dict[int, Tensor]:
    return {fact: torch.cat(list(one)) for fact, one in parts.items()}
