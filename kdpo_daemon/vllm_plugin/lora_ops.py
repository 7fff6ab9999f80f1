"""LoRA products on CPU, one per adapter in the batch.

vLLM 0.32's own (vllm/lora/ops/torch_ops/lora_ops.py) copy both matrices of an adapter for every
token, and index them by -1 for tokens of requests without an adapter, which is the last slot:
those get the last slot's adapter.  Rows without an adapter are left alone here, as vLLM's GPU
kernels do.

A batch has n rows; weights are stacked by slot: (slots, out, in) or (slots, 1, out, in).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Rows = slice | Tensor


def install() -> None:
    """Put our functions in the place of vLLM's, wherever these were imported by name.

    Linear layers go past them (`lora_linear`); embeddings, logits and whatever is new come here.
    """
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for module in (lora_ops, torch_ops, punica_cpu):  # the first is what the sgmv functions call
        for function in (bgmv_shrink, bgmv_expand, bgmv_expand_slice):
            setattr(module, function.__name__, function)


def bgmv_shrink(
    inputs: "Tensor",
    lora_b_weights: "Tensor",
    output_tensor: "Tensor",
    lora_indices_tensor: "Tensor",
    scaling: float = 1.0,
) -> None:
    """Write `scaling * A x` of each row's adapter: (n, in) -> (n, rank)."""
    for slot, rows in groups(lora_indices_tensor):
        product = _product(inputs[rows], lora_b_weights[slot], output_tensor)
        output_tensor[rows, : product.shape[1]] = scaling * product


def bgmv_expand(
    inputs: "Tensor",
    lora_b_weights: "Tensor",
    output_tensor: "Tensor",
    lora_indices_tensor: "Tensor",
    add_inputs: bool = True,
) -> None:
    """Add (or write) `B x` of each row's adapter: (n, rank) -> (n, out), as wide as both are."""
    width = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    bgmv_expand_slice(
        inputs, lora_b_weights, output_tensor, lora_indices_tensor, 0, width, add_inputs
    )


def bgmv_expand_slice(  # noqa: PLR0913 - vLLM's signature
    inputs: "Tensor",
    lora_b_weights: "Tensor",
    output_tensor: "Tensor",
    lora_indices_tensor: "Tensor",
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """Add (or write) `B x` of each row's adapter into some columns of the output."""
    columns = slice(slice_offset, slice_offset + slice_size)
    for slot, rows in groups(lora_indices_tensor):
        product = _product(inputs[rows], lora_b_weights[slot], output_tensor)[:, :slice_size]
        if add_inputs:
            output_tensor[rows, columns] += product
        else:
            output_tensor[rows, columns] = product


def groups(slots: "Tensor") -> "Iterator[tuple[int, Rows]]":
    """Each adapter's slot with its rows; -1 stands for no adapter."""
    present = sorted(set(slots.tolist()))
    for slot in present:
        if slot >= 0:
            # All rows of one adapter is the common case, and needs no gathering.
            yield slot, slice(None) if len(present) == 1 else (slots == slot).nonzero()[:, 0]


def _product(inputs: "Tensor", weights: "Tensor", output_tensor: "Tensor") -> "Tensor":
    """(n, in), (out, in) or (1, out, in) -> (n, out), in the output's type as in vLLM."""
    matrix = weights.view(weights.shape[-2:]).to(output_tensor.dtype)
    return inputs.to(output_tensor.dtype) @ matrix.T
