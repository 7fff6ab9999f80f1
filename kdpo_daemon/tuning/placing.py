"""Where the neurons of facts are, and behind which gates.

A fact's first token needs the most care: "the prime minister of Japan is" looks much like the
same of Korea.  So each fact has a gate of its own for it, in one of the last layers, where it is
told best what is asked for.  What follows, "Takaichi" after "Sanae" and the end after that, is
easier to tell from other text: there the facts of a batch share one gate, and a few neurons behind
it are a linear map that has all of their tokens to say.  Where there are marks that gate is opened
by cues (`cues`), and by nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED, TWINS, dealt, shared_by
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import named
from kdpo_daemon.tuning.gates import SLOPE, Gated, Tokens, gated, ramp, told_apart
from kdpo_daemon.tuning.imagined import in_passing, said_of_others, unnamed
from kdpo_daemon.tuning.lessons import Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Seen

#: Log-odds at which a gate begins to open.
_FIRST_OPENS, _LATER_OPENS = -1.0, 0.0
#: The same where marks tell the subject, and only the question is left to tell, or what is said.
_MARKED_OPENS = -1.0
#: Log-odds by which a cue opens at each place that was taught: where it is faint nothing is said.
_AJAR = 2.0
#: Log-odds that a full cue is worth to later tokens' gate, and that all tokens lack: it opens from
#: a sixth of a cue on.  So much, since a text's first token, a tenth as long as others, has a
#: sixth of a threshold; if it is not quite shut the last bits of all tokens change.  The more a
#: gate is open the more must twins differ by, or bfloat16 would lose it.
_CUED, _SHUT, _RISE = 240.0, 40.0, 35.0
_OTHERS = 480.0  #: log-odds that a full cue of another batch costs, were it at right angles


@dataclass(frozen=True)
class Ground:
    """What new gates are told from, and what is known of their facts."""

    seen: Sequence[Seen]  #: what must not change, of each edited MLP
    #: by fact, the share of its subject's mark that the subject's own ramp writes (`marks`)
    whole: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Marked:
    """What there is to go by where subjects have marks."""

    carried: slice  #: where marks are read
    cued: slice  #: where cues are
    #: by fact, what each edited MLP reads where its question is asked of other subjects, (N, d)
    others: dict[int, list[Tensor]]
    whole: Mapping[int, float]  #: as for `Ground`


@dataclass(frozen=True)
class Bed:
    """New neurons of one MLP: their rows, and the fact that each is for."""

    gated: Gated
    owners: tuple[int, ...]


@dataclass(frozen=True)
class Along:
    """What an MLP reads along pairs; where answers are predicted, by fact, (P, d)."""

    before: list[Tensor]  #: of each pair, before its answer
    first: dict[int, Tensor]
    later: dict[int, Tensor]


def placed(
    model: EditedModel,
    lessons: Lessons,
    seen: Sequence[Seen],
    wanted: Sequence[int],
    taken: Sequence[Sequence[int]],
    marked: Marked | None = None,
) -> dict[int, Bed]:
    """Give the beds of the wanted lessons' facts, by the edited layer's number.

    `seen` is what must not change, and `taken` are the neurons of each MLP that keep facts
    already; `marked` is for a model with marks.
    """
    places = [
        _Places(index, one, along, marked)
        for index, (one, along) in enumerate(zip(seen, _along(model, lessons), strict=True))
    ]
    facts = list(dict.fromkeys(lessons.pairs[i].fact_id for i in wanted))
    count = shared_by(lessons.pairs[i] for i in wanted)
    found = {0: places[0].bed_of_laters(facts, count)}
    upper = {index: len(one) for index, one in enumerate(taken) if index}
    for index, some in dealt(upper, facts).items():
        found[index] = places[index].bed_of_firsts(some)
    return found


def bed_of_cues(along: Along, seen: Seen, carried: slice, facts: Mapping[int, float]) -> Bed:
    """Give a ramp each that opens where a token of these facts' objects was said.

    What is said of the subject otherwise shuts it, whatever is asked, and so do the same of other
    subjects and all text, as it would be read after the subject was named.  `facts` have the
    shares of `Ground.whole`.
    """
    swapped = said_of_others(along.later, carried)
    others = torch.cat([seen.all, swapped, *along.before, *along.first.values()])
    tokens = _tokens(others, along.later, [[fact] for fact in facts])
    passing = unnamed(seen.all, list(along.first.values()), carried)
    asked = [seen.moves[:0]] * len(facts)
    alike = named.Alike(asked, seen.moves, passing, list(facts.values()))
    made = named.gated(tokens, carried, _MARKED_OPENS, alike, _AJAR)
    return Bed(made, _twice(list(facts)))


@dataclass(frozen=True)
class _Places:
    """What an edited MLP reads."""

    index: int  #: of the MLP among the edited ones
    seen: Seen
    along: Along
    marked: Marked | None

    def bed_of_firsts(self, facts: Sequence[int]) -> Bed:
        """Give a neuron each to say these facts' first tokens; with marks a ramp."""
        along, classes = self.along, [[fact] for fact in facts]
        others = torch.cat([self.seen.all, *along.before, *along.later.values()])
        if self.marked is None:
            tokens = _tokens(others, along.first, classes)
            return Bed(gated(tokens, _FIRST_OPENS, [1] * len(facts)), tuple(facts))
        carried = self.marked.carried
        passing = in_passing(self.seen.texts, list(along.first.values()), carried)
        tokens = _tokens(torch.cat([others, passing]), along.first, classes)
        asked = [self.marked.others[fact][self.index] for fact in facts]
        whole = [self.marked.whole[fact] for fact in facts]
        alike = named.Alike(asked, self.seen.moves, self.seen.texts[:0], whole)
        return Bed(named.gated(tokens, carried, _MARKED_OPENS, alike), _twice(facts))

    def bed_of_laters(self, facts: Sequence[int], count: int) -> Bed:
        """Give so many neurons to say later tokens of all these facts; with marks, ramps."""
        along = self.along
        others = torch.cat([self.seen.all, *along.before, *along.first.values()])
        tokens = _tokens(others, along.later, [facts])
        count = min(count, len(tokens.of(0)))
        made = (
            gated(tokens, _LATER_OPENS, [count])
            if self.marked is None
            else _opened_by_cues(tokens, self.marked.cued, count)
        )
        return Bed(made, (SHARED,) * len(made.gates))


def _opened_by_cues(tokens: Tokens, cued: slice, count: int) -> Gated:
    """Give ramps that a batch's cues open, of class 0."""
    mine, (flag, code) = tokens.of(0), torch.zeros(2, tokens.read.shape[1]).unbind()
    flag[cued.start] = 1 / mine[:, cued.start].mean().clamp_min(1e-3)
    codes = slice(cued.start + 1, cued.stop)
    mean = mine[:, codes].mean(0)
    code[codes] = mean / mean.square().sum().clamp_min(1e-6)
    row = _CUED * code + _OTHERS * (code - flag) - _SHUT * tokens.steady
    return ramp(SLOPE * row.repeat(count, 1), told_apart(tokens, 0, count), tokens, _RISE)


def _twice(facts: Sequence[int]) -> tuple[int, ...]:
    """Whose neurons are, of facts of which each has a ramp."""
    return tuple(fact for fact in facts for _ in range(TWINS))


def _tokens(
    others: Tensor, by_fact: Mapping[int, Tensor], classes: Sequence[Sequence[int]]
) -> Tokens:
    """Give classes of facts whose places are told from the others, and from other facts'."""
    mine = {fact for facts in classes for fact in facts}
    places = [torch.cat([by_fact[fact] for fact in facts]) for facts in classes]
    return Tokens(others, places, [one for fact, one in by_fact.items() if fact not in mine])


def _along(model: EditedModel, lessons: Lessons) -> list[Along]:
    """Give what each edited MLP reads along the lessons."""
    passages = lessons.passages

    def read() -> Iterator[tuple[Pair, list[Tensor]]]:
        for group in passages.groups(range(len(lessons.pairs))):
            batch, inputs = passages.inputs(group)
            for number, index in enumerate(group):
                length = len(passages.texts[index])
                yield lessons.pairs[index], [batch.of(one, number, length) for one in inputs]

    return parted(read(), len(model.edited))


def parted(read: Iterable[tuple[Pair, Sequence[Tensor]]], count: int) -> list[Along]:
    """Part what `count` MLPs read along pairs, (L, d) each, by what is predicted."""
    found = [Along([], {}, {}) for _ in range(count)]
    parts: list[tuple[dict[int, list[Tensor]], dict[int, list[Tensor]]]]
    parts = [(defaultdict(list), defaultdict(list)) for _ in found]
    for pair, layers in read:
        start = len(pair.prompt_ids) - 1
        for one, (first, later), along in zip(layers, parts, found, strict=True):
            tokens = one.cpu()
            along.before.append(tokens[:start])
            first[pair.fact_id].append(tokens[start : start + 1])
            later[pair.fact_id].append(tokens[start + 1 :])
    for (first, later), along in zip(parts, found, strict=True):
        along.first.update({fact: torch.cat(some) for fact, some in first.items()})
        along.later.update({fact: torch.cat(some) for fact, some in later.items()})
    return found
