"""Codes of subjects, and of batches: directions that are far from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdpo_daemon.tuning.room import Room

_CANDIDATES = 512  #: of chance, of which the one farthest from all others is taken


def new_marks(room: Room, count: int, there: Sequence[Tensor]) -> Tensor:
    """Flags with codes of length 1, far from each other and from those there are, (block, n).

    `there` are what neurons write of marks, or cues, of other batches, (block, m) each.
    """
    # what a ramp's second neuron writes, a flag below 0, is no code: it takes one back
    said = [one[1:, one[0] >= 0] for one in there]
    known = torch.cat([torch.zeros(room.codes, 0), *said], dim=1)
    codes = _length_one(known)
    chance = torch.Generator().manual_seed(codes.shape[1])
    for _ in range(count):
        tried = _length_one(torch.randn(room.codes, _CANDIDATES, generator=chance))
        codes = torch.cat([codes, _farthest(tried, codes)], dim=1)
    new = codes[:, codes.shape[1] - count :]
    return torch.cat([torch.ones(1, count), new])


def _farthest(tried: Tensor, known: Tensor) -> Tensor:
    """Give the one of some codes, (d, m), that is least like the known ones, (d, 1)."""
    nearest = (tried.T @ known).amax(1) if known.shape[1] else torch.zeros(tried.shape[1])
    return tried[:, nearest.argmin()][:, None]


def _length_one(codes: Tensor) -> Tensor:
    found: Tensor = codes / codes.norm(dim=0).clamp_min(1e-6)
    return found
