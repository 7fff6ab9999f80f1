"""The LoRA part of a linear layer on CPU, packed ones (gate_up_proj, qkv_proj) included.

Works with copies of an adapter's matrices that are cut to its own rank and hold numbers of the
type in which this processor multiplies fast: bfloat16 where it has instructions for that, else
float32 (without them torch takes ten times longer for bfloat16).  vLLM's slots are as wide as
`--max-lora-rank`, for all modules, also those that an adapter leaves alone: these cost nothing.

A batch has n rows; A is (rank, in), B is (out, rank); a layer has one pair for each slice of its
output, so gate_up_proj has two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from kdpo_daemon.vllm_plugin import lora_ops

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Group = tuple[int, lora_ops.Rows]


@dataclass(frozen=True)
class Matrices:
    """One adapter's part in one slice of a layer's output, ready to be multiplied with."""

    into: "Tensor"  #: A transposed, (in, rank)
    out: "Tensor"  #: B transposed, (rank, width of the slice)


@dataclass
class Products:
    """Multiplies; remembers the copies until a slot gets another adapter."""

    work: "torch.dtype"  #: the type that is multiplied in
    _ready: "dict[tuple[int, int], Matrices | None]" = field(default_factory=dict)

    def add(
        self,
        output: "Tensor",
        inputs: "Tensor",
        into: "Sequence[Tensor]",
        out: "Sequence[Tensor]",
        scale: float,
        groups: "Sequence[Group]",
    ) -> None:
        """Add `scale * B A x` of each row's adapter to the slices of the output, side by side.

        Args:
            output: (n, out of all slices), changed in place.
            inputs: (n, in).
            into: A of each slice by slot, (slots, 1, rank, in).
            out: B of each slice by slot, (slots, 1, out of the slice, rank).
            scale: what the products are multiplied by.
            groups: the slots of the batch with their rows.

        """
        for slot, rows in groups:
            found = [self._matrices(a, b, slot) for a, b in zip(into, out, strict=True)]
            if not any(found):
                continue
            given = inputs[rows].to(self.work)
            first = 0
            for one, stacked in zip(found, out, strict=True):
                columns = slice(first, first + stacked.shape[-2])
                first = columns.stop
                if one:
                    product = given @ one.into @ one.out
                    output[rows, columns] += product if scale == 1 else scale * product

    def forget(self, into: "Sequence[Tensor]", slot: int) -> None:
        """Drop the copies of what was in a layer's slot."""
        for stacked in into:
            self._ready.pop((stacked.data_ptr(), slot), None)

    def _matrices(self, into: "Tensor", out: "Tensor", slot: int) -> Matrices | None:
        """Give the copies; None where the adapter leaves the slice alone."""
        key = (into.data_ptr(), slot)  # vLLM makes these tensors once, for good
        if key not in self._ready:
            self._ready[key] = self._cut(into[slot, 0], out[slot, 0])
        return self._ready[key]

    def _cut(self, into: "Tensor", out: "Tensor") -> Matrices | None:
        used = into.any(dim=1).nonzero()  # ranks beyond the adapter's own are zero
        if not len(used):
            return None
        rank = int(used[-1]) + 1
        return Matrices(
            into[:rank].to(self.work, copy=True).T,
            out[:, :rank].to(self.work).contiguous().T,
        )


def install() -> None:
    """Let vLLM's linear layers compute their LoRA part here."""
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    if getattr(PunicaWrapperCPU, "kdpo", False):
        return
    products = Products(_fast())
    PunicaWrapperCPU.kdpo = True
    PunicaWrapperCPU.kdpo_groups = ()  # until the first batch comes
    PunicaWrapperCPU.update_metadata = _grouping(PunicaWrapperCPU.update_metadata)
    PunicaWrapperCPU.add_lora_linear = _adding(PunicaWrapperCPU.add_lora_linear, products)
    BaseLinearLayerWithLoRA.reset_lora = _forgetting(BaseLinearLayerWithLoRA.reset_lora, products)


def _fast() -> "torch.dtype":
    import torch

    cpu = torch.cpu
    has = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    return torch.bfloat16 if has else torch.float32


def _grouping(stock: Callable[..., None]) -> Callable[..., None]:
    """Group the rows once for each step, not in each of its layers."""

    @wraps(stock)
    def update_metadata(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        self.kdpo_groups = tuple(lora_ops.groups(self.token_lora_indices))

    return update_metadata


def _adding(stock: Callable[..., None], products: Products) -> Callable[..., None]:
    @wraps(stock)
    def add_lora_linear(  # noqa: PLR0913 - vLLM's signature
        self: Any,
        y: "Tensor",
        x: "Tensor",
        lora_a_stacked: "tuple[Tensor, ...]",
        lora_b_stacked: "tuple[Tensor, ...]",
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        plain = tuple(b.shape[-2] for b in lora_b_stacked) == output_slices
        if kwargs or not plain:  # no layer that we know of; right all the same, by our bgmv
            stock(self, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, **kwargs)
            return
        products.add(y, x, lora_a_stacked, lora_b_stacked, scale, self.kdpo_groups)

    return add_lora_linear


def _forgetting(stock: Callable[..., None], products: Products) -> Callable[..., None]:
    """Every new content of a slot, and its end, begins with a reset."""

    @wraps(stock)
    def reset_lora(self: Any, index: int) -> None:
        products.forget(self.lora_a_stacked, index)
        stock(self, index)

    return reset_lora
