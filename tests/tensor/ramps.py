"""What ramps do at given tokens."""

from torch import Tensor

from kdpo_daemon.tuning.gates import Gated, opening


def heights(ramps: Gated, read: Tensor) -> Tensor:
    """How high n ramps are at some tokens: 1 where they are wide open, (N, n)."""
    opened = opening(ramps.gates, ramps.ups, read)
    return opened[:, 0::2] - opened[:, 1::2]
