"""The layers of a causal LM: where they are, and what stands in for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdpo_daemon.errors import TuningError


@dataclass(frozen=True)
class Below:
    """Hidden states that were computed before."""

    layer: int  #: that they enter
    states: Tensor  #: (R, L, D)


class Relay(nn.Module):
    """Stands in for a layer: hands on what comes in, or hidden states computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.given: Tensor | None = None
        self.seen: Tensor | None = None

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Give hidden states of shape (R, L, D)."""
        self.seen = hidden
        return hidden if self.given is None else self.given


def module_names(model: nn.Module, target_module: str) -> list[str]:
    """Give the names of the modules that end in this one, layer by layer.

    Raises:
        TuningError: refused, since there are none.

    """
    names = [name for name, _ in model.named_modules() if name.endswith("." + target_module)]
    if not names:
        raise TuningError(
            f"no module of this model is named ...{target_module}",
            subject="recipe",
            hint="set the recipe's target_module to a linear module that every layer has",
            refused=True,
        )
    return names


def layer_list(module_names: Sequence[str]) -> tuple[str, str]:
    """Give owner and name of the list of layers: model.layers.0.mlp.down_proj -> model, layers."""
    parts = module_names[0].split(".")
    number = next(place for place, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: number - 1]), parts[number - 1]
