"""Reading texts in parts: what was read of them goes on where it ended, on small models."""

import pytest
import torch

from kdpo_daemon.tuning import seen
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Texts, each, look, read_to, said_aloud
from tests.tiny_model import ids, save_tiny_model

TEXTS = [
    ids(text) for text in ("Who leads Arland ?", "Who leads", "The river in Borland is", "Who")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EditedModel:
    model = EditedModel(save_tiny_model(tmp_path_factory.mktemp("base"), depth=4), "mlp")
    model.edit(model.module_names[-1:])
    return model


@pytest.mark.parametrize("stops", [(0,), (1,), (1, 2), (2,), (3,)])
def test_it_makes_no_difference_where_reading_paused(
    model: EditedModel, stops: tuple[int, ...]
) -> None:
    texts = Texts(TEXTS)
    for layer in stops:
        texts = read_to(model, layer, texts)

    layers = [max(stops), 3]
    whole, anew = look(model, layers, texts), look(model, layers, Texts(TEXTS))
    for one, other in zip(whole, anew, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    part = dict(each(model, layers, texts.part(slice(2, None))))
    for number, inputs in each(model, layers, Texts(TEXTS[2:])):
        for one, other in zip(part[number], inputs, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_what_was_read_is_not_read_again(model: EditedModel) -> None:
    """Below the layer nothing moves: if it did, nobody would see it."""
    texts = read_to(model, 2, Texts(TEXTS))
    [before] = look(model, [3], texts)
    weight = model.model.model.layers[0].mlp.down_proj.weight
    with torch.no_grad():
        weight.mul_(3)
    try:
        assert torch.equal(look(model, [3], texts)[0], before)
        assert not torch.allclose(look(model, [3], Texts(TEXTS))[0], before, atol=1e-3)
    finally:
        with torch.no_grad():
            weight.div_(3)


def test_each_token_that_is_said_is_a_sign_of_life(
    model: EditedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine 64 texts of 64 tokens are longer than a child may be silent."""
    monkeypatch.setattr(seen, "_TEXTS", 6)
    monkeypatch.setattr(seen, "_WORDS", 5)
    monkeypatch.setattr(seen, "_AT_ONCE", 3)
    signs: list[None] = []

    texts = said_aloud(model, lambda: signs.append(None))

    assert [len(one) for one in texts] == [6] * 6
    assert len(signs) >= 2 * 5
