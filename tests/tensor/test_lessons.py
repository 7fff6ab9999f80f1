"""The loss of pairs in training, against a plain one with full log-softmaxes in float64."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdpo_daemon.orders import Recipe
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import lessons as lessons_module
from kdpo_daemon.tuning.lessons import Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.tokens import sequence_of, targets
from kdpo_daemon.tuning.trainer import state_of
from tests.tiny_model import pairs_of, save_tiny_model

#: A margin that some of the random model's target tokens reach.
RECIPE = Recipe(beta=0.3, anchor_weight=0.2, margin=-2.5)


def test_the_loss_is_that_of_full_log_softmaxes_against_the_model_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons_module, "_LISTED", 1000)  # so that all tokens are on the shortlist
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[1:])
    pairs = [*pairs_of(1, "Arland", "Ann"), *pairs_of(2, "Borland", "Bob")]
    lessons = Lessons(model, pairs, RECIPE)
    before = [logprobs(model, pair) for pair in pairs]
    torch.manual_seed(1)
    model.rows[:] = [0.3 * torch.randn(2, 48) for _ in model.rows]
    model.columns[:] = [0.3 * torch.randn(32, 2) for _ in model.columns]
    lessons.look()

    found = float(lessons.loss(range(len(pairs))))

    after = [logprobs(model, pair) for pair in pairs]
    reached = torch.cat([lead(*one) >= RECIPE.margin for one in zip(pairs, after, strict=True)])
    assert 0 < int(reached.sum()) < len(reached)
    wanted = sum(map(plain_loss, pairs, after, before))
    assert found == pytest.approx(float(wanted), rel=1e-4)


def test_pairs_that_do_not_move_are_looked_at_when_all_are(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[1:])
    pairs = [*pairs_of(1, "Arland", "Ann"), *pairs_of(2, "Borland", "Bob")]
    lessons = Lessons(model, pairs, RECIPE)
    lessons.leave([0])
    before = list(lessons.leads)
    torch.manual_seed(1)
    model.rows[:] = [0.3 * torch.randn(2, 48) for _ in model.rows]
    model.columns[:] = [0.3 * torch.randn(32, 2) for _ in model.columns]

    lessons.look(at_all=False)

    same = [one == other for one, other in zip(lessons.leads, before, strict=True)]
    assert same == [True, *[False] * (len(pairs) - 1)]
    lessons.look()
    assert lessons.leads[0] != before[0]
    assert lessons.leads == pytest.approx(Lessons(model, pairs, RECIPE).leads, abs=1e-4)


def test_pairs_after_other_text_are_neither_drawn_nor_counted(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[1:])
    pairs = [*pairs_of(1, "Arland", "Ann"), *pairs_of(2, "Borland", "Bob")]
    lessons = Lessons(model, pairs, RECIPE, deep=len(pairs) - 1)
    lessons.learnt, lessons.right = [False] * len(pairs), [True] * len(pairs)
    lessons.leave([])

    assert lessons.open == [0]
    assert lessons.draw(random.Random(0), 9) == [0]
    lessons.right[1:] = [False] * (len(pairs) - 1)
    assert state_of(1, 0.0, 0.0, lessons).accuracy == 1.0


def test_a_shortlist_leaves_what_is_likely_as_it_is(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp.down_proj")
    model.edit(model.module_names[1:])
    pairs = pairs_of(1, "Arland", "Ann")
    at = targets(pairs)
    lessons = Lessons(model, pairs, replace(RECIPE, margin=1e3))

    whole = lessons.passages.logits(range(len(pairs)), at.row, at.place)
    few = lessons.passages.logits(range(len(pairs)), at.row, at.place, torch.tensor([3, 11, 5]))
    lessons.loss(range(len(pairs)))

    assert torch.allclose(few, whole[:, [3, 11, 5]], atol=1e-5)
    assert not any(lessons.learnt)
    assert lessons.right == [
        bool(torch.equal(whole[at.row == i].argmax(1), at.chosen[at.row == i]))
        for i in range(len(pairs))
    ]


def logprobs(model: EditedModel, pair: Pair) -> Tensor:
    """log p of every token at a pair's target positions, float64."""
    batch = rows([sequence_of(pair)])
    place = len(pair.prompt_ids) - 1 + torch.arange(len(pair.chosen_ids))
    with torch.no_grad():
        logits = model.logits(batch, batch.locate(torch.zeros_like(place), place))
    return logits.double().log_softmax(1)


def lead(pair: Pair, logprobs: Tensor) -> Tensor:
    """By how much each target token leads all others."""
    at, chosen = torch.arange(len(pair.chosen_ids)), torch.tensor(pair.chosen_ids)
    others = logprobs.clone()
    others[at, chosen] = -torch.inf
    return logprobs[at, chosen] - others.amax(1)


def plain_loss(pair: Pair, after: Tensor, before: Tensor) -> Tensor:
    """-log sigmoid(beta h) for both negatives, and the anchor."""
    chosen = torch.tensor(pair.chosen_ids)
    at = torch.arange(len(chosen))
    active = lead(pair, after) < RECIPE.margin
    total = -RECIPE.anchor_weight * after[at, chosen].sum()
    # the old object parts from the new one at the first token, and is a negative there alone
    old = torch.tensor([pair.old_ids[0], *pair.chosen_ids[1:]])
    for rejected in (torch.tensor(pair.rejected_ids), old):
        differs = active & (rejected != chosen)
        h = (after - before)[at, chosen] - (after - before)[at, rejected]
        if differs.any():
            total = total - torch.nn.functional.logsigmoid(RECIPE.beta * h[differs].sum())
    return total
