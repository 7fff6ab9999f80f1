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
phrasing lacks some too (docs/editing.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.tuning.gates import AJAR, Gated, Tokens, opened, ramp, regression

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
_STEADY = 5.0  #: how freely the threshold is chosen, against white noise


@dataclass(frozen=True)
class Alike:
    """What belongs to classes without being seen (`imagined`), and what does not."""

    others: Sequence[Tensor]  #: of each class, its question asked of other subjects, (N, d)
    moves: Tensor  #: what other words add to a place, (M, d)
    #: text that names no subject, (T, d), where it is not among the tokens with their marks: the
    #: regression does not read marks, so it stands for text with any
    passing: Tensor


def gated(tokens: Tokens, carried: slice, opens: float, alike: Alike, ajar: float = AJAR) -> Gated:
    """Give each class a ramp, two neurons, that opens for one subject.

    Args:
        tokens: with the classes.
        carried: where marks are read.
        opens: the log-odds at which the gates open.
        alike: what else they open for.
        ajar: the log-odds by which each is open at all of its places that carry its mark.

    """
    gates, ups = [], []
    ground = _Ground(tokens, carried, opens, alike)
    for number in range(tokens.count):
        mark = ground.mark(number)
        places = ground.clear(number, mark)
        gate, _ = opened(tokens, places, ground.logits(number, mark), opens, ajar)
        gates.append(gate)
        ups.append(mark / (places @ mark).square().mean().sqrt())
    return ramp(torch.stack(gates), torch.stack(ups), tokens)


class _Ground:
    """What is alike for all classes."""

    def __init__(self, tokens: Tokens, carried: slice, opens: float, alike: Alike) -> None:
        self._tokens, self._opens, self._alike = tokens, opens, alike
        self._flag, self._codes = carried.start, slice(carried.start + 1, carried.stop)
        self._steady = tokens.read @ tokens.steady
        #: all but the marks, as white noise, and what a threshold is made of
        self._basis = torch.cat([tokens.white, _STEADY * tokens.steady[None]])
        self._basis[:, carried] = 0
        self._white = tokens.read @ self._basis.T
        self._passing = alike.passing @ self._basis.T

    def mark(self, number: int) -> Tensor:
        """The direction whose product with a class's mark is 1, (d,)."""
        mark = torch.zeros_like(self._tokens.steady)
        mark[self._codes] = self._tokens.of(number)[:, self._codes].mean(0)
        found: Tensor = mark / mark.square().sum().clamp_min(1e-12)
        return found

    def clear(self, number: int, mark: Tensor) -> Tensor:
        """The class's places that carry its mark, (P, d): at others nothing would be heard.

        A gate that had to open there, too, would open everywhere.
        """
        places = self._tokens.of(number)
        carries = places @ mark > _FAINT
        return places[carries] if carries.any() else places

    def logits(self, number: int, mark: Tensor) -> Tensor:
        """The direction whose product with a token is its log-odds to be a class's place, (d,)."""
        tokens = self._tokens
        own, like = tokens.owner == number, tokens.read @ mark
        mine = own & (like > _FAINT) if (own & (like > _FAINT)).any() else own
        found = self._told(number, mine, (like > _LIKE) & ~own)
        flag = torch.zeros_like(mark)
        flag[self._flag] = 1 / tokens.read[mine, self._flag].mean().clamp_min(1e-3)
        other = (like.abs() > _HEARD) & (like <= _LIKE) & ~own
        lead, apart = self._white @ found - self._opens * self._steady, tokens.read @ (flag - mark)
        bold = lead + _SHUT * self._steady
        # other batches' marks are not at hand: where none that is was alike a gate had no K, and
        # said less than nothing under a mark that has a part of the opposite
        bold = torch.cat([bold[other] / apart[other].clamp_min(_APART), bold[mine]])
        shut = float(bold.max().clamp(0, _MOST))
        row: Tensor = found @ self._basis + shut * (mark - flag)
        return row

    def _told(self, number: int, mine: Tensor, near: Tensor) -> Tensor:
        """What tells a class's places from tokens with the same mark, in white coordinates."""
        places, moves = self._tokens.read[mine], self._alike.moves
        moved = places[torch.arange(len(moves)) % len(places)] + moves
        others = self._alike.others[number]
        groups = [
            (self._white[mine], 1.0),
            (others @ self._basis.T, _OTHERS),
            (moved @ self._basis.T, _MOVED),
            (self._white[near], -_NEAR),  # against
            (self._passing, -_PASSING),
        ]
        read = torch.cat([one for one, _ in groups])
        each = [torch.full((len(one), 1), weight / max(1, len(one))) for one, weight in groups]
        weights = torch.cat(each)
        return regression(read, weights.sign(), weights.abs())[0]
