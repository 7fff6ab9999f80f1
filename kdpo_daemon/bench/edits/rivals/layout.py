"""How texts of token ids are laid out to be computed together.  N texts, L places."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Ids = tuple[int, ...]

_MOST = 2048  #: tokens with padding in one pass that is scored
_LONGER = 1.25  #: times as long as its shortest text the longest in a pass may be


def shared(prompts: Sequence[Ids]) -> int:
    """How many tokens all begin with alike; each keeps one at least to go on from."""
    most = min(map(len, prompts)) - 1
    first = prompts[0]
    return next((i for i in range(most) if any(one[i] != first[i] for one in prompts)), most)


def padded_left(rests: Sequence[Ids], before: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (N, L), and a mask (N, before + L) that sees all of what came before."""
    longest = max(map(len, rests))
    ids = torch.zeros(len(rests), longest, dtype=torch.int64)
    mask = torch.zeros(len(rests), before + longest, dtype=torch.int64)
    mask[:, :before] = 1
    for row, rest in enumerate(rests):
        ids[row, longest - len(rest) :] = torch.tensor(rest)
        mask[row, before + longest - len(rest) :] = 1
    return ids.to(device), mask.to(device)


def within(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Cut an order of growing lengths into groups of at most `_MOST`, with little padding."""
    group: list[int] = []
    for index in order:
        full = (len(group) + 1) * lengths[index] > _MOST
        if group and (full or lengths[index] > _LONGER * lengths[group[0]]):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
