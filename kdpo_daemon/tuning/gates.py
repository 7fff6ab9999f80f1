"""Gates: directions in what an MLP reads that open at some places and are shut at all others.

A GLU neuron adds `act(g x) * (u x) * column` to its MLP's output.  Where g x is far below zero it
adds nothing at all, to the last bit that counts; a linear row always adds a little, and the more
the nearer a text is to what was taught.  So g is found as a logistic regression finds it: places
of a fact against every other token at hand.

Where neurons cost nothing a gate is two of them, twins: with the same u and opposite columns, the
second opening a little later, they add (act(g x) - act(g x - h)) (u x) column, which rises to its
full height and stays there.  A phrasing that was never taught opens a gate less wide than one
that was; behind a ramp it is told the same.  Shapes: N tokens, d wide; n neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

SLOPE = 4.0  #: how steep a gate is, per unit of the regression's log-odds
_SHUT = 100.0  #: how much more all that must open no gate weighs than one fact's places
_ALMOST = 0.03  #: how much what is almost a class's place weighs, against one fact's places
_DECAY = 1e-3  #: of a direction, in coordinates in which the tokens are white noise
_RIDGE = 1e-2  #: on the tokens' second moment, as a share of its mean diagonal
_STEPS = 50
_RISE = 1.75  #: log-odds from where a ramp begins to where it is at its full height
AJAR = 0.3  #: log-odds by which a gate is open at each of its places at least


@dataclass(frozen=True)
class Gated:
    """Rows of neurons that are ready to be given columns: about 1 where they open, else 0."""

    gates: Tensor  #: (n, d)
    ups: Tensor  #: (n, d)


class Tokens:
    """What an MLP reads at all tokens at hand, and whose place each is."""

    def __init__(
        self,
        others: Tensor,
        places: Sequence[Tensor],
        known: Sequence[Tensor] = (),
        almost: Sequence[Tensor] = (),
        shut: float = _SHUT,
    ) -> None:
        """Take tokens, (N, d) each, by where they are from.

        Args:
            others: which must open no gate.
            places: of each class.
            known: places of classes that have gates elsewhere.
            almost: what is almost a class's places, likewise of each.
            shut: how much the others weigh, against one class's places.

        """
        self.read = torch.cat([others, *places, *known, *almost]).float()
        classes = numbered([*places, *known, *almost])
        self.owner = torch.cat([torch.full((len(others),), -1), classes])
        self.count = len(places)  #: of classes
        told = len(places) + len(known)
        #: what the others weigh, and each class
        self._weights = torch.tensor([shut, *[1.0] * told, *[_ALMOST] * len(almost)])
        square = (self.read.T @ self.read).double() / len(self.read)
        square.diagonal().add_(_RIDGE * square.diagonal().mean())
        lower = torch.linalg.cholesky(square)
        one = torch.eye(len(square), dtype=torch.float64)
        #: L^-1 of their second moment: `read @ white.T` is white noise
        self.white = torch.linalg.solve_triangular(lower, one, upper=False).float()
        #: a direction whose product with every token is about 1: what a threshold is made of
        self.steady = self._steady(square)

    def of(self, number: int) -> Tensor:
        """The places of one class, (P, d)."""
        return self.read[self.owner == number]

    def logits(self) -> Tensor:
        """Directions whose product with a token is its log-odds to be a class's place, (n, d).

        Logistic regression, each class against all else, by L-BFGS; deterministic.
        """
        mine = F.one_hot(self.owner + 1)
        each = mine / mine.sum(0).clamp_min(1)  # a class's places weigh 1 together, for or against
        weights = (each * self._weights).sum(1, keepdim=True).expand(-1, self.count)
        signs = 2.0 * mine[:, 1 : self.count + 1] - 1
        found: Tensor = regression(self.read @ self.white.T, signs, weights) @ self.white
        return found

    def _steady(self, square: Tensor) -> Tensor:
        found = torch.linalg.solve(square, self.read.mean(0).double()).float()
        steady: Tensor = found / (self.read @ found).mean()
        return steady


def numbered(parts: Sequence[Tensor]) -> Tensor:
    """Tell of each row of some parts which part it is of, (N,)."""
    counts = torch.tensor([len(one) for one in parts])
    return torch.arange(len(parts)).repeat_interleave(counts)


@dataclass(frozen=True)
class Own:
    """What each of n classes is told from or by that the others do not see, padded."""

    read: Tensor  #: (n, M, k)
    weights: Tensor  #: (n, M), below 0 of what a class must not take; 0: padding


def regression(read: Tensor, signs: Tensor, weights: Tensor, own: Own | None = None) -> Tensor:
    """Logistic regression by L-BFGS, (n, k): deterministic.

    The classes have nothing to do with each other, but what all of them see is read once a step.

    Args:
        read: (N, k), in coordinates in which all are as good as each other.
        signs: of each token in each class, (N, n) of 1 and -1.
        weights: of each token in each class, (N, n).
        own: of each class, besides.

    """
    found = torch.zeros(signs.shape[1], read.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([found], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        wrong = weights * F.softplus(-signs * (read @ found.T))
        loss: Tensor = wrong.sum() + _DECAY * found.square().sum()
        if own is not None:
            odds = torch.bmm(own.read, found[:, :, None])[:, :, 0]
            loss = loss + (own.weights.abs() * F.softplus(-own.weights.sign() * odds)).sum()
        torch.autograd.backward(loss)
        return loss.detach()

    solver.step(closure)  # type: ignore[no-untyped-call]  # torch's
    return found.detach()


def gated(tokens: Tokens, threshold: float, counts: Sequence[int], ajar: float = AJAR) -> Gated:
    """Give each class its neurons, `counts[c]` of them behind one gate.

    A gate opens at its class's places, where log-odds pass the threshold.
    """
    gates, ups = [], []
    for number, (row, count) in enumerate(zip(tokens.logits(), counts, strict=True)):
        gate, strength = opened(tokens, tokens.of(number), row, threshold, ajar)
        gates.append(gate.repeat(count, 1))
        ups.append(told_apart(tokens, number, count) / strength)
    return Gated(torch.cat(gates), torch.cat(ups))


def told_apart(tokens: Tokens, number: int, count: int) -> Tensor:
    """What neurons behind a class's gate read, (count, d), of root mean square 1 at its places.

    The first answers alike to all of them, the others to the directions in which they differ most:
    together a linear map of that rank.
    """
    places = tokens.of(number)
    _, _, directions = torch.linalg.svd(
        (places - places.mean(0)) @ tokens.white.T, full_matrices=False
    )
    read = torch.cat([tokens.steady[None], directions[: count - 1] @ tokens.white])
    even: Tensor = read / (places @ read.T).square().mean(0).sqrt()[:, None]
    return even


def opened(
    tokens: Tokens, places: Tensor, row: Tensor, threshold: float, ajar: float = AJAR
) -> tuple[Tensor, Tensor]:
    """A gate of log-odds `row`, (d,), and its mean at its places, ().

    It is open at all of its own places, by `ajar` in log-odds at least, even if one of them hardly
    differs from other text.
    """
    odds = places @ row
    threshold = min(threshold, float(odds.min()) - ajar)
    gate = SLOPE * (row - threshold * tokens.steady)
    return gate, (places @ gate).mean()


def ramp(gates: Tensor, ups: Tensor, tokens: Tokens, rise: float = _RISE) -> Gated:
    """Give each of n neurons its twin, which opens by `rise` in log-odds later: (2 n, d).

    `ups` have a root mean square of 1 where the gates are open.
    """
    height = SLOPE * rise
    both = torch.stack([gates, gates - height * tokens.steady], dim=1)
    return Gated(both.flatten(0, 1), (ups / height).repeat_interleave(2, dim=0))


def ramps(tokens: Tokens, threshold: float, ajar: float) -> Gated:
    """Give each class a ramp that opens at its places: (2 n, d)."""
    found = [
        opened(tokens, tokens.of(number), row, threshold, ajar)[0]
        for number, row in enumerate(tokens.logits())
    ]
    ups = [told_apart(tokens, number, 1) for number in range(tokens.count)]
    return ramp(torch.stack(found), torch.cat(ups), tokens)


def said_by_ramps(columns: Tensor) -> Tensor:
    """What the neurons of n ramps write, (d, 2 n): twins say the opposite of each other."""
    return torch.stack([columns, -columns], dim=2).flatten(1)


def opening(gates: Tensor, ups: Tensor, read: Tensor) -> Tensor:
    """How wide neurons open, (N, n), 1 at an ordinary place of their own."""
    return F.silu(read.float() @ gates.T) * (read.float() @ ups.T)
