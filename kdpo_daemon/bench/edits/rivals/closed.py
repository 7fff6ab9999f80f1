"""The closed forms of ROME, MEMIT and AlphaEdit: which change of W writes keys and values.

W (O, I) is a linear map, k (I,) a key, r (O,) what W k lacks; K (I, N) and R (O, N) hold one such
column for each fact.  C (I, I) is the mean of k k^T over plain text.  All in float64: C has
eigenvalues of very different size.
"""

import torch
from torch import Tensor


def rank_one(residual: Tensor, key: Tensor, moment: Tensor) -> Tensor:
    """ROME (arXiv 2202.05262, equation 2): r (C^-1 k)^T / (k^T C^-1 k).

    Of all changes with dW k = r it moves the outputs of plain text least.  (O,), (I,), (I, I) ->
    (O, I).
    """
    solved = torch.linalg.solve(moment, key)
    change: Tensor = torch.outer(residual, solved) / (key @ solved)
    return change


def least_squares(residuals: Tensor, keys: Tensor, moment: Tensor) -> Tensor:
    """MEMIT (arXiv 2210.07229, equation 14): R K^T (C + K K^T)^-1, with C weighed already.

    (O, N), (I, N), (I, I) -> (O, I).
    """
    # what is inverted is symmetric, so the transpose is solved for
    change: Tensor = torch.linalg.solve(moment + keys @ keys.T, keys @ residuals.T).T
    return change


def null_directions(moment: Tensor, threshold: float) -> Tensor:
    """AlphaEdit's P: onto the eigenvectors of C whose eigenvalue is below a threshold.

    (I, I) -> (I, I).
    """
    values, vectors = torch.linalg.eigh(moment)
    kept: Tensor = vectors[:, values < threshold]
    return kept @ kept.T


def projected(
    residuals: Tensor, keys: Tensor, earlier: Tensor, projector: Tensor, damping: float
) -> Tensor:
    """AlphaEdit (arXiv 2410.02355): R K^T P (Kp Kp^T P + K K^T P + damping I)^-1.

    Kp holds the keys of earlier batches.  (O, N), (I, N), (I, M), (I, I) -> (O, I).
    """
    known = earlier @ earlier.T + keys @ keys.T
    # P and `known` are symmetric, so that the transpose of the inverse is that of P known + I
    inverted = projector @ known + damping * torch.eye(len(known)).to(known)
    change: Tensor = torch.linalg.solve(inverted, projector @ keys @ residuals.T).T
    return change
