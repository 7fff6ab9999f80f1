"""Gates of facts whose subjects have marks: who is asked about is known, what is asked is not.

A token that carries the mark of a fact's subject is told from its places by a regression over
such tokens alone: other questions about the subject, and what answers them.  To its places come
those that were imagined (`imagined`): what is told is the question, in whatever words.  Tokens
that carry another subject's mark are shut out by it, whatever the regression makes of them: to
the log-odds comes

    K (m x / m m - f x / f),    m the code and f the flag at the fact's places,

with K as large as the boldest of those tokens wants it, and the fact's own places would if they
carried a mark at right angles.  All marks have the same flag, so that it says how strongly a token
carries whatever it carries, and what carries the fact's own mark loses nothing, however faint the
mark.  What carries no mark needs no K: behind the gate, too, the neuron reads the code, and where
a text has named no taught subject it says exactly nothing.  Fitted in one regression over all
tokens a gate would ask for every trait of its places that ordinary text lacks, and an untaught
phrasing lacks some too (docs/editing-findings.md).

Flags are not to be trusted where a subject's places open another's ramp as well, as "Anna of
Austria" may that of "Maria of Austria".  Its own ramp writes what is lacking there: all of the
code, and less of a flag.  Where that ramp alone opens by mistake there is more code than flag, and
K opens the gate; it did so at a third of all text that followed.  So of f x / f no more is used
than gives such text a tenth of K; for the rest stands 1, and a faint mark does cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdpo_daemon.tuning.gates import AJAR, Gated, Own, Tokens, opened, ramp, regression

#: How much places weigh that were imagined, against 1 of the fact's own.
_OTHERS, _MOVED = 1.0, 3.0
_NEAR = 10.0  #: how much tokens with the mark weigh, against 1 of the fact's places
_PASSING = 100.0  #: how much text weighs in which the subject is not named, likewise
_LIKE = 0.7  #: share of a place's mark from which on a token carries it
_HEARD = 0.1  #: share of a place's mark that is as good as none
_FAINT = 0.5  #: share of the mean mark up to which a place of the fact's is not heard
_SHUT = 1.0  #: log-odds by which tokens with other marks miss the threshold
_MOST = 60.0  #: of K
_APART = 0.2  #: least difference of marks that K is made for
_GIVEN = 0.1  #: share of K that a subject's own ramp may give its gates, where it opens alone
_STEADY = 5.0  #: how freely the threshold is chosen, against white noise


@dataclass(frozen=True)
class Alike:
    """What belongs to classes without being seen (`imagined`), what does not, and their flags."""

    others: Sequence[Tensor]  #: of each class, its question asked of other subjects, (N, d)
    moves: Tensor  #: what other words add to a place, (M, d)
    #: text that names no subject, (T, d), where it is not among the tokens with their marks: the
    #: regression does not read marks, so it stands for text with any
    passing: Tensor
    #: of each class, the share of its mark's flag that the subject's own ramp writes (`marks`)
    whole: Sequence[float]


def gated(tokens: Tokens, carried: slice, opens: float, alike: Alike, ajar: float = AJAR) -> Gated:
    """Give each class a ramp, two neurons, that opens for one subject.

    Args:
        tokens: with the classes.
        carried: where marks are read.
        opens: the log-odds at which the gates open.
        alike: what else they open for.
        ajar: the log-odds by which each is open at all of its places that carry its mark.

    """
    ground = _Ground(tokens, carried, opens, alike)
    gates, ups = [], []
    for mark, clear, row in zip(ground.marks, ground.clear.T, ground.logits(), strict=True):
        places = tokens.read[clear]
        gate, _ = opened(tokens, places, row, opens, ajar)
        gates.append(gate)
        ups.append(mark / (places @ mark).square().mean().sqrt())
    return ramp(torch.stack(gates), torch.stack(ups), tokens)


class _Ground:
    """All n classes among the N tokens at hand."""

    def __init__(self, tokens: Tokens, carried: slice, opens: float, alike: Alike) -> None:
        self._tokens, self._opens, self._alike = tokens, opens, alike
        numbers, codes = torch.arange(tokens.count), slice(carried.start + 1, carried.stop)
        #: directions whose product with a class's mark is 1, (n, d)
        self.marks = torch.zeros(len(numbers), tokens.read.shape[1])
        self.marks[:, codes] = torch.stack([tokens.of(n)[:, codes].mean(0) for n in numbers])
        self.marks /= self.marks.square().sum(1, keepdim=True).clamp_min(1e-12)
        self._flag = carried.start
        self._own = tokens.owner[:, None] == numbers
        #: how much of a class's mark each token carries, (N, n)
        self._like = tokens.read[:, codes] @ self.marks[:, codes].T
        #: the class's places that carry its mark, (N, n): at others nothing would be heard, and a
        #: gate that had to open there, too, would open everywhere
        self.clear = self._own & (self._like > _FAINT)
        self.clear = torch.where(self.clear.any(0), self.clear, self._own)
        self._steady = tokens.read @ tokens.steady
        #: all but the marks, as white noise, and what a threshold is made of
        self._basis = torch.cat([tokens.white, _STEADY * tokens.steady[None]])
        self._basis[:, carried] = 0
        self._white = tokens.read @ self._basis.T

    def logits(self) -> list[Tensor]:
        """Directions whose product with a token is its log-odds to be a class's place, (d,)."""
        told = self._told()
        leads = self._white @ told.T - self._opens * self._steady[:, None]
        each = enumerate(zip(told @ self._basis, leads.T, strict=True))
        return [row + self._shut(number, lead) for number, (row, lead) in each]

    def _shut(self, number: int, lead: Tensor) -> Tensor:
        """What keeps other subjects' marks out, (d,); without it tokens lead by so much, (N,)."""
        like, clear = self._like[:, number], self.clear[:, number]
        full = self._full(number)
        other = (like.abs() > _HEARD) & (like <= _LIKE) & ~self._own[:, number]
        apart = (self._tokens.read[other] @ full - like[other]).clamp_min(_APART)
        bold = lead + _SHUT * self._steady
        # other batches' marks are not at hand: where none that is was alike a gate had no K, and
        # said less than nothing under a mark that has a part of the opposite
        shut = float(torch.cat([bold[other] / apart, bold[clear]]).max().clamp(0, _MOST))
        found: Tensor = shut * (self.marks[number] - full)
        return found

    def _full(self, number: int) -> Tensor:
        """A direction whose product with a token is as much code as its flag promises, (d,)."""
        flags = self._tokens.read[self.clear[:, number], self._flag]
        lacks = max(1e-6, 1 - self._alike.whole[number])
        trusted = min(1.0, _GIVEN / lacks)
        full = (1 - trusted) * self._tokens.steady
        full[self._flag] += trusted / flags.mean().clamp_min(1e-3)
        return full

    def _told(self) -> Tensor:
        """What tells places from tokens with the same mark, in white coordinates, (n, k)."""
        passing = self._alike.passing @ self._basis.T
        against = torch.ones(len(passing), self._tokens.count)
        near = [self._near(number) for number in range(self._tokens.count)]
        read, weights = (pad_sequence([one[i] for one in near], batch_first=True) for i in (0, 1))
        return regression(
            passing, -against, against * _PASSING / max(1, len(passing)), Own(read, weights)
        )

    def _near(self, number: int) -> tuple[Tensor, Tensor]:
        """A class's places, seen and imagined, and tokens with the same mark; their weights."""
        like, clear, own = (one[:, number] for one in (self._like, self.clear, self._own))
        places, moves = self._tokens.read[clear], self._alike.moves
        moved = places[torch.arange(len(moves)) % len(places)] + moves
        groups = [
            (self._white[clear], 1.0),
            (self._alike.others[number] @ self._basis.T, _OTHERS),
            (moved @ self._basis.T, _MOVED),
            (self._white[(like > _LIKE) & ~own], -_NEAR),  # against
        ]
        weights = [torch.full((len(one),), weight / max(1, len(one))) for one, weight in groups]
        return torch.cat([one for one, _ in groups]), torch.cat(weights)
