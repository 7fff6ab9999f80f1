"""MLPs without the neurons that are in no use, on small models."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdpo_daemon.tuning.mlps import quicken_mlps
from kdpo_daemon.tuning.model import EditedModel
from tests.tensor.rooms import save_roomy_model
from tests.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roomy_model(tmp_path_factory.mktemp("base"))


def mlp_of(base: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    return model.model.layers[1].mlp


@torch.no_grad()
def test_empty_neurons_are_left_out_until_they_are_written_to(base: Path) -> None:
    plain, quick = mlp_of(base), mlp_of(base)
    quicken_mlps([quick])
    read = torch.randn(5, plain.gate_proj.in_features, generator=torch.Generator().manual_seed(0))
    widths: list[int] = []
    quick.act_fn.register_forward_hook(lambda *seen: widths.append(seen[2].shape[1]))

    def same() -> bool:
        return torch.allclose(quick(read), plain(read), atol=1e-5)

    assert same()
    for one in (plain, quick):
        for part in (one.gate_proj, one.up_proj):
            part.weight[-3] = 1.0
        one.down_proj.weight[:, -3] = 1.0
    assert same()
    whole = plain.gate_proj.out_features
    assert widths == [whole - 64, whole - 2]


def test_a_model_reads_and_says_the_same(base: Path, tmp_path: Path) -> None:
    text = torch.tensor([[3, 4, 5, 6]])
    for directory in (base, save_tiny_model(tmp_path)):
        plain: Any = AutoModelForCausalLM.from_pretrained(directory)
        quick = EditedModel(directory, "mlp").model
        assert torch.allclose(quick(text).logits, plain(text).logits, atol=1e-4)


def test_a_projection_that_is_edited_itself_is_still_asked(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[:1])
    before = model.model(torch.tensor([[3, 4, 5]])).logits

    model.rows[0] = torch.ones(1, model.rows[0].shape[1])
    model.columns[0] = torch.ones(model.columns[0].shape[0], 1)

    assert not torch.allclose(model.model(torch.tensor([[3, 4, 5]])).logits, before, atol=1e-3)
