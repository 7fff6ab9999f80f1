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
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import batches, rows

_TOKENS = 4096  #: tokens with padding in one pass that keeps no gradients


@dataclass(frozen=True)
class Slot:
    """What a row of A began with: the answers about a subject, in one form."""

    subject: str
    form: Form


def second_moment(
    model: EditedModel,
    texts: Sequence[Sequence[int]],
    starts: Sequence[int],
    answer_weight: float,
) -> list[Tensor]:
    """Mean of x x^T over the inputs x of each edited module: (d_in, d_in) per layer.

    `starts[i]` is the first place of text i whose token predicts an answer's token; from there on
    tokens count `answer_weight` times, since what they are given is what the model says next.
    A token counts once for each context that it stands in, or little more: the system prompt
    that all chat prompts share would else be most of the text.
    """
    sums = [rows_.new_zeros(rows_.shape[1], rows_.shape[1]) for rows_ in model.rows]
    total = 0.0
    for group in batches(texts, _TOKENS):
        batch = rows([texts[i] for i in group])
        weights = batch.real.float()
        for number, index in enumerate(group):
            columns = batch.column[number, starts[index] : len(texts[index])]
            weights[batch.row[number], columns] = answer_weight
        total += float(weights.sum())
        roots = weights.sqrt()[..., None]
        for one, inputs in zip(sums, model.inputs(batch), strict=True):
            weighted = (inputs * roots).flatten(0, 1)
            one.addmm_(weighted.T, weighted)
    return [one / total for one in sums]


def factor(moment: Tensor, ridge: float) -> Tensor:
    """L of C = L L^T, lower triangular float32, with a ridge as a share of the mean diagonal."""
    square = moment.double()
    square.diagonal().add_(ridge * square.diagonal().mean())
    lower: Tensor = torch.linalg.cholesky(square)
    return lower.float()


def whitened(rows_: Tensor, lower: Tensor) -> Tensor:
    """A -> W = A L.  (r, d), (d, d) -> (r, d)."""
    return rows_ @ lower


def unwhitened(white: Tensor, lower: Tensor) -> Tensor:
    """W -> A = W L^-1.  (r, d), (d, d) -> (r, d)."""
    rows_: Tensor = torch.linalg.solve_triangular(lower, white, upper=False, left=False)
    return rows_


def solved_rows(keys: Tensor, lower: Tensor) -> Tensor:
    """Rows C^-1 k with `row @ key = 1`.  (S, d), (d, d) -> (S, d)."""
    solved = torch.cholesky_solve(keys.T, lower).T
    return solved / (solved * keys).sum(1, keepdim=True)


def answer_keys(
    model: EditedModel, texts: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]
) -> Tensor:
    """What the edited modules read at one answer token of each text: (layers, N, d_in).

    `spans[i]` are the first place that predicts a token of answer i, and the number of such
    places.  Layers take turns: the highest reads at the first token, which is the hardest to
    move, the one below at the second, and so on around.
    """
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    for group in batches(texts, _TOKENS):
        batch = rows([texts[i] for i in group])
        inputs = torch.stack(model.inputs(batch))
        layers = torch.arange(len(inputs))
        for number, index in enumerate(group):
            first, count = spans[index]
            places = first + layers.flip(0) % count
            columns = batch.column[number, places]
            found[index] = inputs[layers, batch.row[number], columns]
    return torch.stack(found, dim=1)
