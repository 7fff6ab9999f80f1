from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import batches, rows, tails
from tests.tiny_model import ids, save_tiny_model


def tokens(sequences: list[list[int]], width: int) -> int:
    return int(rows(sequences, width).real.sum())


def test_what_sequences_begin_with_alike_is_there_once() -> None:
    assert tokens([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6]], width=16) == 6


def test_equal_tokens_after_different_ones_are_apart() -> None:
    assert tokens([[1, 2, 3], [4, 2, 3]], width=16) == 6


def test_each_sequence_is_found_again_in_the_order_given() -> None:
    sequences = [[7, 8, 9], [1, 2], [7, 8], [1, 3, 3, 3]]

    batch = rows(sequences, width=6)

    for number, sequence in enumerate(sequences):
        found = batch.of(batch.ids[..., None], number, len(sequence))
        assert found.flatten().tolist() == sequence
        depths = batch.of(batch.depth[..., None], number, len(sequence))
        assert depths.flatten().tolist() == list(range(len(sequence)))


def test_a_row_is_as_wide_as_its_longest_sequence_at_least() -> None:
    batch = rows([[1, 2, 3, 4, 5]], width=2)

    assert batch.ids.tolist() == [[1, 2, 3, 4, 5]]


def test_rows_are_about_as_long_as_each_other() -> None:
    sequences = [[number, 7, 7, 7] for number in range(5)]

    # filled to the brim the first would have all 16 places, and the second 12 of padding
    assert rows(sequences, width=16).ids.shape == (2, 12)


def test_rows_are_even_by_what_counts_if_that_is_told() -> None:
    sequences = [[1, 2, 3, 4], [2, 2, 3, 4], [3, 2], [4, 2]]
    starts = [1, 1, 1, 1]

    whole = rows(sequences, width=10, starts=starts)
    ends = tails(whole, list(zip(starts, map(len, sequences), strict=True)))

    # even by all places the first two would be one row, and its ends six
    assert whole.row.tolist() == [0, 1, 1, 1]
    assert ends.ids.shape == (2, 5)


def test_values_are_spread_to_where_their_tokens_are() -> None:
    sequences = [[1, 2, 3], [1, 4]]
    batch = rows(sequences)
    values = [torch.tensor(one, dtype=torch.float32)[:, None] for one in sequences]

    spread = batch.spread(values)

    assert torch.equal(spread[..., 0], batch.ids.float())


def test_micro_batches_keep_to_their_budget_and_hold_every_sequence_once() -> None:
    sequences = [[number // 3, 1, 2, number] for number in range(12)]

    groups = batches(sequences, budget=10)

    assert sorted(index for group in groups for index in group) == list(range(12))
    assert len(groups) > 1
    for group in groups:
        assert tokens([sequences[index] for index in group], width=10) <= 10


@pytest.mark.parametrize("width", [8, 256])
def test_packed_sequences_get_the_logits_that_each_gets_alone(tmp_path: Path, width: int) -> None:
    base = save_tiny_model(tmp_path)
    model = EditedModel(base, "mlp.down_proj")
    model.edit(model.module_names[1:])
    said = ["The head of Arland is", "The head of Borland is", "Who leads Arland", "Who"]
    sequences = [ids(text) for text in said]
    row = torch.arange(len(sequences))
    last = torch.tensor([len(sequence) - 1 for sequence in sequences])

    with torch.no_grad():
        packed = rows(sequences, width)
        found = model.logits(packed, packed.locate(row, last), model.lower(packed))
        plain = AutoModelForCausalLM.from_pretrained(base)
        alone = torch.stack([plain(torch.tensor([one])).logits[0, -1] for one in sequences])

    assert torch.allclose(found, alone, atol=1e-5)
