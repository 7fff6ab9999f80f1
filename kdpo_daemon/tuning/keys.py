"""Where the rows of A begin, and the measure in which they move: the inputs of ordinary text.

With k the input of an edited module where a token of the answer is predicted and C the second
moment of that input over text that must not change, the row C^-1 k, scaled so that A k = 1,
answers to that place and least to ordinary text (the closed form behind ROME, arXiv 2202.05262,
solved for A).  ROME reads its key at the subject's last token, early in the model.  In the last
third both subject and question have reached the place of the answer, so that a row there can tell
them from the same subject asked otherwise and from other subjects asked the same.

Training moves W = A L, where C = L L^T: in these coordinates ordinary text is white noise, so a
step goes along what tells facts apart and not along what all text shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.records.teaching import Form
from kdpo_daemon.tuning.passages import Passages


@dataclass(frozen=True)
class Slot:
    """What a row of A began with: the answers about a subject, in one form."""

    subject: str
    form: Form


class Moments:
    """Mean of x x^T over the inputs x of each edited module: (d_in, d_in) per layer.

    A token that predicts one of an answer's tokens counts `answer_weight` times, since what it is
    given is what the model says next.
    """

    def __init__(self, answer_weight: float) -> None:
        self._answer_weight = answer_weight
        self._sums: list[Tensor] = []
        self._total = 0.0

    def add(self, inputs: Sequence[Tensor], weights: Tensor, answers: Tensor) -> None:
        """Add tokens.

        Args:
            inputs: (R, L, d_in) per edited layer.
            weights: how often each token counts, (R, L).
            answers: which tokens predict one of an answer's tokens, (R, L) bool.

        """
        counted = weights > 0
        weights = torch.where(answers, weights * self._answer_weight, weights)[counted]
        self._total += float(weights.sum())
        roots = weights.sqrt()[:, None]
        self._sums = self._sums or [one.new_zeros(one.shape[2], one.shape[2]) for one in inputs]
        for total, one in zip(self._sums, inputs, strict=True):
            weighted = one[counted.to(one.device)] * roots.to(one.device)
            total.addmm_(weighted.T, weighted)

    def means(self) -> list[Tensor]:
        """Give what was added so far, (d_in, d_in) per layer."""
        return [one / self._total for one in self._sums]


def factor(moment: Tensor, ridge: float) -> Tensor:
    """L of C = L L^T, lower triangular float32, with a ridge as a share of the mean diagonal."""
    square = moment.double()
    square.diagonal().add_(ridge * square.diagonal().mean())
    lower: Tensor = torch.linalg.cholesky(square)
    return lower.float()


def whitened(rows_: Tensor, lower: Tensor) -> Tensor:
    """A -> W = A L.  (r, d), (d, d) -> (r, d)."""
    return rows_ @ lower


def inverse(lower: Tensor) -> Tensor:
    """L^-1, with which A = W L^-1: cheaper to have than to solve for A at each step."""
    square = torch.eye(len(lower), dtype=torch.float64, device=lower.device)
    solved: Tensor = torch.linalg.solve_triangular(lower.double(), square, upper=False)
    return solved.float()


def solved_rows(keys: Tensor, lower: Tensor) -> Tensor:
    """Rows C^-1 k with `row @ key = 1`.  (S, d), (d, d) -> (S, d)."""
    solved = torch.cholesky_solve(keys.T, lower).T
    return solved / (solved * keys).sum(1, keepdim=True)


def answer_keys(passages: Passages) -> Tensor:
    """What the edited modules read at one token of each text's end: (layers, N, d_in) on the CPU.

    Layers take turns: the highest reads at the end's first token, which predicts the one that is
    hardest to move, the one below at the second, and so on around.
    """
    found: list[Tensor] = [torch.empty(0)] * len(passages.texts)
    for group in passages.groups(range(len(found))):
        batch, inputs = passages.inputs(group)
        first = torch.tensor([passages.starts[i] for i in group])
        count = torch.tensor([len(passages.texts[i]) for i in group]) - first
        numbers = torch.arange(len(group))
        # the highest layer comes last
        read = [
            one[batch.locate(numbers, first + above % count)].cpu()
            for above, one in zip(reversed(range(len(inputs))), inputs, strict=True)
        ]
        for index, one in zip(group, torch.stack(read, dim=1), strict=True):
            found[index] = one
    return torch.stack(found, dim=1)
