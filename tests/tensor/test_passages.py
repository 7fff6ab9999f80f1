"""The ends of texts, computed alone, against the whole texts on PEFT's own terms."""

from pathlib import Path

import pytest
import torch

from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows, tails
from kdpo_daemon.tuning.passages import Passages
from tests.tiny_model import ids, save_tiny_model

#: The third begins with all of the second, whose end is what leads to the third's.
TEXTS = [
    ids("The head of Arland is Ann"),
    ids("Who leads Borland"),
    ids("Who leads Borland ? Bob"),
]
STARTS = [4, 1, 3]
TEXT, PLACE = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([4, 5, 1, 2, 3, 4])


@pytest.fixture
def model(tmp_path: Path) -> EditedModel:
    """A model with an adapter that changes every token."""
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[1:])
    change(model, seed=1)
    return model


def change(model: EditedModel, seed: int) -> None:
    torch.manual_seed(seed)
    model.rows[:] = [0.3 * torch.randn(2, 48) for _ in model.rows]
    model.columns[:] = [0.3 * torch.randn(32, 2) for _ in model.columns]


def whole(model: EditedModel) -> torch.Tensor:
    batch = rows(TEXTS)
    with torch.no_grad():
        return model.logits(batch, batch.locate(TEXT, PLACE))


def ends(passages: Passages) -> torch.Tensor:
    with torch.no_grad():
        return passages.logits([0, 1, 2], TEXT, PLACE)


def test_ends_get_the_logits_that_they_get_in_whole_texts(model: EditedModel) -> None:
    assert torch.allclose(ends(Passages(model, TEXTS, STARTS)), whole(model), atol=1e-5)


def test_what_leads_to_the_ends_stands_still_until_it_is_looked_at_again(
    model: EditedModel,
) -> None:
    passages = Passages(model, TEXTS, STARTS)
    before = ends(passages)
    change(model, seed=2)

    between = ends(passages)
    passages.refresh(range(len(TEXTS)))

    assert not torch.allclose(between, before, atol=1e-2)  # the ends themselves have moved
    assert not torch.allclose(between, whole(model), atol=1e-3)
    assert torch.allclose(ends(passages), whole(model), atol=1e-5)


def test_gradients_reach_the_adapter_through_the_ends(model: EditedModel) -> None:
    passages = Passages(model, TEXTS, STARTS)
    model.columns[:] = [one.requires_grad_() for one in model.columns]

    torch.autograd.backward(passages.logits([0], torch.tensor([0]), torch.tensor([5])).sum())

    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.columns)


def test_tails_hold_the_ends_alone(model: EditedModel) -> None:
    cut = tails(
        rows(TEXTS), [(start, len(text)) for start, text in zip(STARTS, TEXTS, strict=True)]
    )

    row, column = cut.locate(TEXT, PLACE)

    expected = [
        TEXTS[text][place] for text, place in zip(TEXT.tolist(), PLACE.tolist(), strict=True)
    ]
    assert cut.ids[row, column].tolist() == expected
    assert cut.depth[row, column].tolist() == PLACE.tolist()
    assert cut.ids.shape[1] == 6  # "?" is counted once, "The head of Arland" and "Who" not at all
