"""MLPs without what is empty in them: a widened model's neurons that nothing uses yet."""

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

_PARTS = ("gate_proj", "up_proj", "down_proj")


def quicken_mlps(modules: Iterable[Any]) -> None:
    """Let gated MLPs among some modules compute nothing after their last neuron in use.

    Of the demo model widened by 640 neurons that is a fifth of all that is computed.
    """
    for mlp in modules:
        if hasattr(mlp, "act_fn") and all(_plain(getattr(mlp, part, None)) for part in _PARTS):
            mlp.forward = _Narrow(mlp)


def _plain(module: object) -> bool:
    return isinstance(module, nn.Linear) and module.bias is None


class _Narrow:
    """An MLP's forward pass; what it found of the weights holds until they are written to."""

    def __init__(self, mlp: Any) -> None:
        self._mlp = mlp
        self._versions: tuple[int, ...] = ()
        self._weights: tuple[Tensor, ...] = ()

    def __call__(self, read: Tensor) -> Tensor:
        gate, up, down = self._current()
        return F.linear(self._mlp.act_fn(F.linear(read, gate)) * F.linear(read, up), down)

    def _current(self) -> tuple[Tensor, ...]:
        whole = [getattr(self._mlp, part).weight for part in _PARTS]
        # torch counts how often a tensor was written to in place
        versions = tuple(one._version for one in whole)
        if versions != self._versions:
            gate, up, down = whole
            full = down.any(0).nonzero()
            count = int(full.max()) + 1 if len(full) else 0
            self._weights = gate[:count], up[:count], down[:, :count]
            self._versions = versions
        return self._weights
