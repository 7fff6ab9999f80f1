"""Gates of facts whose subjects have marks: who is asked about is known, what is asked is not.

A token that carries the mark of a fact's subject is told from its places by a regression over
such tokens alone: other questions about the subject, and what answers them.  Tokens that carry
another subject's mark are shut out by it, whatever the regression makes of them: to the log-odds
comes

    K (m x / m m - 1),    m the code at the fact's places,

with K as large as the boldest of those tokens wants it, unless the fact's own places would lose
half of their lead by it: their marks differ a little in strength.  What carries no mark needs no
K: behind the gate, too, the neuron reads the code, and where a text has named no taught subject it
says exactly nothing.  Fitted in one regression over all tokens a gate would ask for every trait of
its places that ordinary text lacks, and an untaught phrasing lacks some too (docs/editing.md).
"""

import torch
from torch import Tensor

from kdpo_daemon.tuning.gates import Gated, Tokens, opened, regression

_NEAR = 10.0  #: how much tokens with the mark weigh, against 1 of the fact's places
_LIKE = 0.7  #: share of a place's mark from which on a token carries it
_HEARD = 0.1  #: share of a place's mark that is as good as none
_FAINT = 0.5  #: share of the mean mark up to which a place of the fact's is not heard
_SHUT = 1.0  #: log-odds by which tokens with other marks miss the threshold
_MOST = 60.0  #: of K
_APART = 0.2  #: least difference of marks that K is made for
_STEADY = 5.0  #: how freely the threshold is chosen, against white noise


def gated(tokens: Tokens, carried: slice, opens: float) -> Gated:
    """Give each class a neuron that opens for one subject.

    Args:
        tokens: with the classes.
        carried: where marks are read.
        opens: the log-odds at which the gates open.

    """
    gates, ups = [], []
    ground = _Ground(tokens, carried, opens)
    for number in range(tokens.count):
        mark = ground.mark(number)
        places = ground.clear(number, mark)
        gate, strength = opened(tokens, places, ground.logits(number, mark), opens)
        gates.append(gate)
        ups.append(mark / ((places @ mark).square().mean().sqrt() * strength))
    return Gated(torch.stack(gates), torch.stack(ups))


class _Ground:
    """What is alike for all classes."""

    def __init__(self, tokens: Tokens, carried: slice, opens: float) -> None:
        self._tokens, self._opens = tokens, opens
        self._codes = slice(carried.start + 1, carried.stop)  # all marks have the same flag
        self._steady = tokens.read @ tokens.steady
        plain, basis = tokens.read.clone(), tokens.white.clone()
        plain[:, carried] = 0
        basis[:, carried] = 0
        #: all but the marks, as white noise, and what a threshold is made of
        self._white = torch.cat([plain @ basis.T, _STEADY * self._steady[:, None]], dim=1)
        self._back = torch.cat([basis, _STEADY * tokens.steady[None]])

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
        found = self._told(mine, (like > _LIKE) & ~own)
        other = (like.abs() > _HEARD) & (like <= _LIKE) & ~own
        lead, apart = self._white @ found - self._opens * self._steady, self._steady - like
        bold = (lead + _SHUT * self._steady)[other] / apart[other].clamp_min(_APART)
        wanted = float(bold.max()) if len(bold) else 0.0
        borne = float(lead[mine].mean() / (2 * apart[mine].max().clamp_min(1e-3)))
        shut = max(0.0, min(wanted, borne, _MOST))
        row: Tensor = found @ self._back + shut * (mark - tokens.steady)
        return row

    def _told(self, mine: Tensor, near: Tensor) -> Tensor:
        """What tells a class's places from tokens with the same mark, in white coordinates."""
        read = torch.cat([self._white[mine], self._white[near]])
        is_mine = torch.arange(len(read)) < int(mine.sum())
        signs = torch.where(is_mine, 1.0, -1.0)[:, None]
        against = _NEAR / near.sum().clamp_min(1)
        weights = torch.where(is_mine, 1 / mine.sum(), against)[:, None]
        return regression(read, signs, weights)[0]
