"""Codes of subjects: directions that are far from each other, and a part that tells the batch.

Two codes of different batches differ in that part, whoever they are of.  By it a gate that all
facts of a batch share is shut to what other batches say: a linear map of thirty values could not
tell fifty subjects from five hundred.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdpo_daemon.tuning.room import Room

_CANDIDATES = 512  #: of chance, of which the one farthest from all others is taken
_COMMON = 0.4  #: share of a code's square that all subjects of a batch have in common


def new_marks(room: Room, count: int, there: Sequence[Tensor]) -> Tensor:
    """Flags with codes of length 1, far from each other and from those there are, (block, n).

    `there` are marks of other batches, (block, m) each.
    """
    known = torch.cat([torch.zeros(room.codes, 0), *(one[1:] for one in there)], dim=1)
    codes = _length_one(known)
    chance = torch.Generator().manual_seed(codes.shape[1])

    def tried(size: int) -> Tensor:
        return _length_one(torch.randn(size, _CANDIDATES, generator=chance))

    family = _farthest(tried(room.family), _length_one(codes[: room.family])) * _COMMON**0.5
    for _ in range(count):
        each = tried(room.codes - room.family) * (1 - _COMMON) ** 0.5
        both = torch.cat([family.expand(-1, _CANDIDATES), each])
        codes = torch.cat([codes, _farthest(both, codes)], dim=1)
    new = codes[:, codes.shape[1] - count :]
    return torch.cat([torch.ones(1, count), new])


def _farthest(tried: Tensor, known: Tensor) -> Tensor:
    """Give the one of some codes, (d, m), that is least like the known ones, (d, 1)."""
    nearest = (tried.T @ known).amax(1) if known.shape[1] else torch.zeros(tried.shape[1])
    return tried[:, nearest.argmin()][:, None]


def _length_one(codes: Tensor) -> Tensor:
    found: Tensor = codes / codes.norm(dim=0).clamp_min(1e-6)
    return found
