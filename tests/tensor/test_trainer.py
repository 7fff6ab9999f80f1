"""What a step of training draws, how much each pair counts, and what ordinary text is."""

from random import Random

import pytest
import torch

from kdpo_daemon.orders import Recipe
from kdpo_daemon.tuning.keys import Moments
from kdpo_daemon.tuning.lessons import Lessons
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.trainer import draws, pace_of
from tests.tiny_model import COUNTRIES, PEOPLE, ids, pairs_of, save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EditedModel:
    base = EditedModel(save_tiny_model(tmp_path_factory.mktemp("base")), "mlp.down_proj")
    base.edit(base.module_names[1:])
    return base


@pytest.fixture
def lessons(model: EditedModel) -> Lessons:
    """Twelve pairs, none of them learnt."""
    taught = [
        pair
        for number, (country, person) in enumerate(zip(COUNTRIES, PEOPLE, strict=True))
        for pair in pairs_of(number, country, person)
    ]
    return Lessons(model, taught, Recipe())


def test_a_step_takes_open_pairs_and_looks_again_at_a_few_that_are_learnt(
    lessons: Lessons,
) -> None:
    lessons.learnt[:8] = [True] * 8

    chosen = lessons.draw(Random(0), 8)

    assert {i for i in chosen if i >= 8} == {8, 9, 10, 11}
    assert len([i for i in chosen if i < 8]) == 2  # a quarter of what a step takes


def test_a_step_takes_no_more_open_pairs_than_it_may(lessons: Lessons) -> None:
    assert len(set(lessons.draw(Random(0), 5))) == 5


def test_the_fewer_pairs_are_open_the_more_each_counts_down_to_a_least(lessons: Lessons) -> None:
    pace = pace_of(lessons, Recipe(pair_rows=10, least_pairs=3))

    assert pace.share(lessons) == 10
    lessons.learnt[:7] = [True] * 7
    assert pace.share(lessons) == 5
    lessons.learnt[:11] = [True] * 11
    assert pace.share(lessons) == 3


def test_with_more_to_learn_a_step_takes_more_and_each_slot_is_pulled_as_much(
    lessons: Lessons,
) -> None:
    few = pace_of(lessons, Recipe(pair_rows=2, steps=12, draws=2.0, slots=12, least_pairs=1))
    many = pace_of(lessons, Recipe(pair_rows=2, steps=6, draws=4.0, slots=2, least_pairs=1))

    assert (few.rows, few.pull) == (2, 1.0)  # twelve pairs, each drawn twice in twelve steps
    assert (many.rows, many.pull) == (8, len({(p.subject, p.form) for p in lessons.pairs}) / 2)
    assert many.share(lessons) == 8 / many.pull


def test_what_is_learnt_before_training_does_not_set_its_pace(lessons: Lessons) -> None:
    lessons.learnt[:11] = [True] * 11

    pace = pace_of(lessons, Recipe(pair_rows=1, steps=1, draws=1.0, slots=1))

    assert (pace.rows, pace.pull) == (1, 1.0)


def test_every_keep_prompt_comes_once_before_any_comes_again() -> None:
    drawn = draws(7, 3, Random(0))

    round_ = [number for _ in range(2) for number in next(drawn)]

    assert len(set(round_)) == 6
    # one is left, too few for a step: all are shuffled anew
    assert sorted({n for _ in range(2) for n in next(drawn)} | set(round_)) == list(range(7))


def test_more_keep_prompts_than_there_are_gives_all_of_them() -> None:
    assert sorted(next(draws(2, 5, Random(0)))) == [0, 1]


def test_tokens_that_predict_an_answer_count_more_as_ordinary_text(model: EditedModel) -> None:
    text = ids("The head of Arland is")
    batch = rows([text])
    inputs = model.inputs(batch, model.lower(batch))
    weights = torch.tensor([1.0, 1.0, 1.0, 5.0, 5.0], dtype=torch.float64)

    moments = Moments(answer_weight=5.0)
    moments.add(inputs, torch.ones(1, 5), torch.tensor([[0, 0, 0, 1, 1]]) > 0)

    read = inputs[0][0].double()
    expected = (read * weights[:, None]).T @ read / weights.sum()
    assert torch.allclose(moments.means()[0].double(), expected, rtol=1e-4, atol=1e-6)
