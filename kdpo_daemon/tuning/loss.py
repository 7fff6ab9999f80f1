"""KDPO's loss on target positions: tensors in, tensors out.

With y+ the chosen and y- the rejected token, both after the same context c,

    log p(y+ | c) - log p(y- | c) = z[y+] - z[y-]

because the normaliser cancels, so two logits per position are enough.  Equal tokens give 0, so
positions where the arms agree drop out by themselves.  Shapes: P positions, B pairs, V tokens.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor


def margins(logits: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """log p(chosen) - log p(rejected) at each position.  (P, V), (P,), (P,) -> (P,)."""
    tokens = torch.stack((chosen, rejected), dim=1)
    pairs = logits.gather(1, tokens)
    return pairs[:, 0] - pairs[:, 1]


def rivals(logits: Tensor, chosen: Tensor) -> Tensor:
    """The strongest token beside the chosen one.  (P, V), (P,) -> (P,) ids."""
    return logits.scatter(1, chosen[:, None], -torch.inf).argmax(dim=1)


def lead(logits: Tensor, chosen: Tensor) -> Tensor:
    """z[y+] - max over the others of z: by how much the chosen token wins.  (P, V) -> (P,)."""
    return margins(logits, chosen, rivals(logits, chosen))


def per_pair(values: Tensor, pair: Tensor, pairs: int) -> Tensor:
    """Sum position values by pair.  (P,), (P,) pair numbers -> (B,)."""
    return values.new_zeros(pairs).index_add(0, pair, values)


def preference_loss(policy_margin: Tensor, reference_margin: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta * h), h = policy margin - reference margin.  (B,), (B,) -> (B,)."""
    return -F.logsigmoid(beta * (policy_margin - reference_margin))


def logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log p of some tokens at each position.  (P, V), (P, k) -> (P, k).

    All that a loss reads is best read at once: each time costs a gradient as large as the logits.
    """
    return logits.log_softmax(1).gather(1, ids)


def top_logprobs(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens and log-probabilities.  (P, V) -> (P, k) ids, (P, k)."""
    values, ids = logits.topk(min(k, logits.shape[1]), dim=1)
    return ids, values - logits.logsumexp(dim=1, keepdim=True)


def keep_loss(logits: Tensor, ids: Tensor, reference: Tensor) -> Tensor:
    """KL(reference || policy) over the k cached tokens and one rest.  (P, V), (P, k) x 2 -> (P,).

    Joining all other tokens into one can only lessen a KL, so 0 means: nothing seen to change.
    """
    policy = logprobs(logits, ids)
    return (reference.exp() * (reference - policy)).sum(1) + _rest(reference, policy)


def _rest(reference: Tensor, policy: Tensor) -> Tensor:
    tiny = torch.finfo(reference.dtype).eps
    left = (1 - reference.exp().sum(1)).clamp_min(tiny)
    return left * (left.log() - (1 - policy.exp().sum(1)).clamp_min(tiny).log())
