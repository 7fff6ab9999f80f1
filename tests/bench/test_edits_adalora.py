"""`adalora` on a random model: what its schedule leaves, and what it teaches."""

from pathlib import Path

import pytest
import torch

from kdpo_daemon.bench.edits.plan import Work
from kdpo_daemon.bench.edits.rivals.adalora import AdaLora, from_orthogonal
from kdpo_daemon.bench.edits.rivals.editor import Bench, cross_entropy, lessons_of
from kdpo_daemon.bench.edits.rivals.model import Model
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.bench.edits.settings import AdaLoraSettings
from tests.bench import edits_model
from tests.bench.edits_model import (
    cut_at_the_second_batch,
    record,
    save_tiny_chat_model,
    scores_of,
    silent,
    tiny_plan,
)

SETTINGS = AdaLoraSettings(rank=4, first_rank=6, rate=5e-2, epochs=60)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("base"))


def begun(base: Path, directory: Path, batch: int = 2) -> Work:
    return edits_model.begun(tiny_plan(base, batch), directory, {"adalora": SETTINGS})


def test_what_is_taught_is_answered_in_both_forms(base: Path, tmp_path: Path) -> None:
    work = begun(base, tmp_path)

    run(work, "adalora", silent)

    found = scores_of(work, "adalora")
    assert found["efficacy_completion"] == found["efficacy_chat"] == found["forced_edit"] == 1


def test_a_batch_changes_weights_by_the_ranks_that_are_left_alone(
    base: Path, tmp_path: Path
) -> None:
    model = Model(base)
    before = {name: one.clone() for name, one in model.net.named_parameters()}
    editor = AdaLora(Bench(tiny_plan(base), model, tmp_path, lambda *_: None), SETTINGS)

    editor.edit([record(1, "Arland", "Ann")], [])

    after = dict(model.net.named_parameters())
    assert after.keys() == before.keys()
    ranks = {
        name: int(torch.linalg.matrix_rank(after[name] - one, atol=1e-4, rtol=0.0))
        for name, one in before.items()
        if not torch.equal(after[name], one)
    }
    assert {name.split(".")[-2] for name in ranks} == {"q_proj", "v_proj"}
    # six modules of three layers: of 6 ranks each, 4 are left on average
    assert 0 < sum(ranks.values()) <= 24
    assert max(ranks.values()) <= 6


def test_the_loss_is_cross_entropy_and_how_far_both_sides_are_from_orthogonal(
    base: Path, tmp_path: Path
) -> None:
    model = Model(base)
    editor = AdaLora(Bench(tiny_plan(base), model, tmp_path, lambda *_: None), SETTINGS)
    lessons = lessons_of(model, [record(1, "Arland", "Ann")])
    plain = cross_entropy(model, lessons)
    editor._wear(2)
    for name, one in model.net.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            torch.nn.init.eye_(one)

    exact = editor.loss(lessons)
    with torch.no_grad():
        for name, one in model.net.named_parameters():
            if "lora_A" in name:
                one.mul_(2)
    doubled = editor.loss(lessons)

    # a new adapter changes nothing; A A^T = 4 I of six rows is 3 * sqrt(6) off, B is not off
    assert float(exact.detach()) == pytest.approx(float(plain), rel=1e-5)
    apart = float((doubled - exact).detach())
    assert apart == pytest.approx(0.5 * 3 * 6**0.5 / 2, rel=1e-4)


def test_orthogonal_rows_are_not_off() -> None:
    assert float(from_orthogonal(torch.tensor([[0.6, 0.8], [0.8, -0.6]]))) == pytest.approx(
        0, abs=1e-6
    )
    # M M^T = ((1, 1), (1, 2)), which is ((0, 1), (1, 1)) off
    assert float(from_orthogonal(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))) == pytest.approx(3**0.5)


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(base: Path, tmp_path: Path) -> None:
    whole = begun(base, tmp_path / "whole", batch=1)
    run(whole, "adalora", silent)
    cut = begun(base, tmp_path / "cut", batch=1)

    cut_at_the_second_batch(cut, "adalora", 4)
    run(cut, "adalora", silent)

    states = [one.state("adalora", 2) / "weights.safetensors" for one in (whole, cut)]
    assert states[0].read_bytes() == states[1].read_bytes()
    assert scores_of(cut, "adalora") == scores_of(whole, "adalora")
