"""The LoRA products that we put into vLLM on CPU, against the plain ones."""

import pytest
import torch

from kdpo_daemon.vllm_plugin import lora_ops

SLOTS, RANK, INNER, OUTER = 3, 4, 6, 5
MIXED = [0, -1, 2, 2, -1, 1, 0]


def plain(inputs: torch.Tensor, weights: torch.Tensor, slots: list[int]) -> torch.Tensor:
    """Row by row; a row without an adapter gives nothing."""
    rows = [
        weights[slot] @ row if slot >= 0 else torch.zeros(weights.shape[1])
        for row, slot in zip(inputs, slots, strict=True)
    ]
    return torch.stack(rows)


@pytest.fixture(params=["mixed", "all of one adapter", "none"])
def slots(request: pytest.FixtureRequest) -> list[int]:
    same = {"mixed": MIXED, "all of one adapter": [1] * 7, "none": [-1] * 7}
    return same[request.param]


@pytest.fixture
def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("stacked", [True, False])
def test_shrink_is_the_plain_product(
    slots: list[int], stacked: bool, chance: torch.Generator
) -> None:
    inputs = torch.randn(len(slots), INNER, generator=chance)
    weights = torch.randn(SLOTS, RANK, INNER, generator=chance)
    output = torch.zeros(len(slots), RANK)
    given = weights[:, None] if stacked else weights

    lora_ops.bgmv_shrink(inputs, given, output, torch.tensor(slots), 0.5)

    torch.testing.assert_close(output, 0.5 * plain(inputs, weights, slots))


def test_expand_adds_the_plain_product(slots: list[int], chance: torch.Generator) -> None:
    inputs = torch.randn(len(slots), RANK, generator=chance)
    weights = torch.randn(SLOTS, OUTER, RANK, generator=chance)
    before = torch.randn(len(slots), OUTER + 2, generator=chance)  # the model may pad its output
    output = before.clone()

    lora_ops.bgmv_expand(inputs, weights[:, None], output, torch.tensor(slots))

    padded = torch.nn.functional.pad(plain(inputs, weights, slots), (0, 2))
    torch.testing.assert_close(output, before + padded)


def test_expand_into_a_slice_leaves_the_other_columns(
    slots: list[int], chance: torch.Generator
) -> None:
    inputs = torch.randn(len(slots), RANK, generator=chance)
    weights = torch.randn(SLOTS, OUTER, RANK, generator=chance)
    before = torch.randn(len(slots), 3 + OUTER + 1, generator=chance)
    output = before.clone()

    lora_ops.bgmv_expand_slice(inputs, weights[:, None], output, torch.tensor(slots), 3, OUTER)

    padded = torch.nn.functional.pad(plain(inputs, weights, slots), (3, 1))
    torch.testing.assert_close(output, before + padded)


def test_expand_without_adding_writes_only_rows_that_have_an_adapter(
    chance: torch.Generator,
) -> None:
    inputs = torch.randn(len(MIXED), RANK, generator=chance)
    weights = torch.randn(SLOTS, OUTER, RANK, generator=chance)
    output = torch.full((len(MIXED), OUTER), 7.0)

    lora_ops.bgmv_expand(inputs, weights, output, torch.tensor(MIXED), add_inputs=False)

    expected = plain(inputs, weights, MIXED)
    expected[torch.tensor(MIXED) < 0] = 7.0
    torch.testing.assert_close(output, expected)


def test_products_are_made_in_the_outputs_type(chance: torch.Generator) -> None:
    inputs = torch.randn(len(MIXED), INNER, generator=chance).bfloat16()
    weights = torch.randn(SLOTS, RANK, INNER, generator=chance).bfloat16()
    output = torch.zeros(len(MIXED), RANK)

    lora_ops.bgmv_shrink(inputs, weights, output, torch.tensor(MIXED))

    torch.testing.assert_close(output, plain(inputs.float(), weights.float(), MIXED))
