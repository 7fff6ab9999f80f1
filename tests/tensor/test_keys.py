"""Where rows begin: on a small random model, whose inputs can be read directly."""

from pathlib import Path

import pytest
import torch

from kdpo_daemon.tuning.keys import answer_keys, factor, solved_rows
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.passages import Passages
from tests.tiny_model import ids, save_tiny_model

TEXTS = [ids("The head of Arland is Ann"), ids("Who leads Borland ? Bob Cid Dora")]
#: The last word of each prompt; from there on two and four tokens are predicted.
STARTS = [4, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EditedModel:
    directory: Path = save_tiny_model(tmp_path_factory.mktemp("base"))
    model = EditedModel(directory, "mlp.down_proj")
    model.edit(model.module_names)
    return model


def inputs_at(model: EditedModel, text: tuple[int, ...], layer: int, place: int) -> torch.Tensor:
    batch = rows([text])
    row, column = batch.locate(torch.tensor([0]), torch.tensor([place]))
    return model.inputs(batch, model.lower(batch))[layer][row[0], column[0]]


def test_the_highest_layer_reads_where_the_first_token_is_predicted_and_so_on_around(
    model: EditedModel,
) -> None:
    found = answer_keys(Passages(model, TEXTS, STARTS))

    for layer, places in ((2, (4, 3)), (1, (5, 4)), (0, (4, 5))):
        for number, place in enumerate(places):
            expected = inputs_at(model, TEXTS[number], layer, place)
            assert torch.allclose(found[layer, number], expected, atol=1e-5)


def test_a_solved_row_answers_one_to_its_key_and_least_to_ordinary_text() -> None:
    torch.manual_seed(1)
    text = torch.randn(200, 6) * torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 0.1])
    key = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 1.0]])

    row = solved_rows(key, factor(text.T @ text / 200, ridge=1e-6))

    assert (row @ key.T).item() == pytest.approx(1.0, abs=1e-4)
    plain = key / key.square().sum()
    assert (text @ row.T).square().mean() < (text @ plain.T).square().mean() / 10
