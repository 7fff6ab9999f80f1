"""The LoRA part of whole layers, packed ones included, against the plain product."""

from collections.abc import Sequence

import pytest
import torch

from kdpo_daemon.vllm_plugin import lora_ops
from kdpo_daemon.vllm_plugin.lora_linear import Products

SLOTS, WIDEST, INNER = 4, 8, 6
#: Rows of three adapters and of none, as batches come; slot 3 is not asked.
MIXED = [0, -1, 2, 2, -1, 1, 0]
#: A layer of one slice, and packed ones with slices of the same and of different widths.
LAYERS = [(5,), (5, 5), (7, 3, 3)]


class Layer:
    """A layer's stacked matrices, as wide as the widest rank, filled like vLLM fills them."""

    def __init__(self, widths: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        self.chance = torch.Generator().manual_seed(0)
        self.widths = widths
        self.into = [torch.zeros(SLOTS, 1, WIDEST, INNER, dtype=dtype) for _ in widths]
        self.out = [torch.zeros(SLOTS, 1, width, WIDEST, dtype=dtype) for width in widths]

    def fill(self, slot: int, ranks: Sequence[int]) -> None:
        """Put an adapter into a slot; of rank 0 where it leaves a slice alone."""
        for into, out, rank in zip(self.into, self.out, ranks, strict=True):
            into[slot], out[slot] = 0, 0
            into[slot, 0, :rank] = torch.randn(rank, INNER, generator=self.chance)
            out[slot, 0, :, :rank] = torch.randn(out.shape[2], rank, generator=self.chance)

    def plain(self, inputs: torch.Tensor, slots: Sequence[int]) -> torch.Tensor:
        """Row by row and slice by slice, in full width."""
        rows = [
            torch.cat([b[slot, 0] @ (a[slot, 0] @ row) for a, b in self._pairs()])
            if slot >= 0
            else torch.zeros(sum(self.widths))
            for row, slot in zip(inputs, slots, strict=True)
        ]
        return torch.stack(rows)

    def _pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(a.float(), b.float()) for a, b in zip(self.into, self.out, strict=True)]

    def ours(
        self, products: Products, inputs: torch.Tensor, slots: list[int], output: torch.Tensor
    ) -> None:
        groups = list(lora_ops.groups(torch.tensor(slots)))
        products.add(output, inputs, self.into, self.out, 0.5, groups)


def filled(widths: Sequence[int], dtype: torch.dtype = torch.float32) -> Layer:
    layer = Layer(widths, dtype)
    layer.fill(0, [3] * len(widths))
    layer.fill(1, [WIDEST] * len(widths))
    layer.fill(2, [1, *[0] * (len(widths) - 1)])  # of a packed layer only the first slice
    return layer


@pytest.mark.parametrize("widths", LAYERS)
@pytest.mark.parametrize("slots", [MIXED, [1] * 7, [-1] * 7], ids=["mixed", "one", "none"])
def test_each_row_gets_its_own_adapters_product_and_nothing_else(
    widths: Sequence[int], slots: list[int]
) -> None:
    layer = filled(widths)
    inputs = torch.randn(len(slots), INNER, generator=layer.chance)
    before = torch.randn(len(slots), sum(widths), generator=layer.chance)
    output = before.clone()

    layer.ours(Products(torch.float32), inputs, slots, output)

    torch.testing.assert_close(output, before + 0.5 * layer.plain(inputs, slots))
    asked_for_none = torch.tensor(slots) < 0
    assert torch.equal(output[asked_for_none], before[asked_for_none])  # to the last bit


@pytest.mark.parametrize("work", [torch.float32, torch.bfloat16])
def test_a_model_in_bfloat16_is_right_in_either_type_of_work(work: torch.dtype) -> None:
    layer = filled((5, 5), torch.bfloat16)
    inputs = torch.randn(len(MIXED), INNER, generator=layer.chance).bfloat16()
    output = torch.zeros(len(MIXED), 10, dtype=torch.bfloat16)

    layer.ours(Products(work), inputs, MIXED, output)

    expected = 0.5 * layer.plain(inputs.float(), MIXED)
    torch.testing.assert_close(output.float(), expected, rtol=0.03, atol=0.03)


def test_a_slot_that_got_another_adapter_is_read_again() -> None:
    layer, products = filled((5, 5)), Products(torch.float32)
    inputs = torch.randn(2, INNER, generator=layer.chance)
    layer.ours(products, inputs, [1, 1], torch.zeros(2, 10))
    products.forget(layer.into, 1)
    layer.fill(1, [2, 4])
    output = torch.zeros(2, 10)

    layer.ours(products, inputs, [1, 1], output)

    torch.testing.assert_close(output, 0.5 * layer.plain(inputs, [1, 1]))


def test_a_layer_that_an_adapter_leaves_alone_is_not_multiplied() -> None:
    layer, products = filled((5,)), Products(torch.float32)
    untouched = torch.full((1, INNER), float("nan"))  # any product with it would show
    output = torch.ones(1, 5)

    layer.ours(products, untouched, [3], output)

    assert torch.equal(output, torch.ones(1, 5))


def test_an_adapter_is_multiplied_in_its_own_rank() -> None:
    """Slots are as wide as --max-lora-rank; an adapter of rank 1 must not pay for that."""
    layer = filled((5, 5))
    products = Products(torch.float32)
    layer.ours(products, torch.ones(3, INNER), [0, 1, 2], torch.zeros(3, 10))

    ranks = [one.into.shape[1] if one else 0 for one in products._ready.values()]

    assert ranks == [3, 3, WIDEST, WIDEST, 1, 0]
