"""Places that nobody has seen: the same question about others, and in other words."""

from dataclasses import replace
from pathlib import Path

import torch

from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.tuning.imagined import (
    asked_of_others,
    ends,
    in_passing,
    moves,
    reworded,
    said_of_others,
)
from kdpo_daemon.tuning.model import EditedModel
from tests.tensor.words import decode, pair
from tests.tiny_model import save_tiny_model


def test_the_same_is_asked_of_other_subjects() -> None:
    pairs = [
        pair(1, "Arland", "who", "rules", "Ar", "land", "?"),
        pair(2, "Bo", "rules", "Bo", "who"),
        pair(3, "Cypria", "Cy", "pria", "and", "Cy", "pria", "?"),
    ]

    found = asked_of_others(pairs, [1, 3], decode, seed=0)

    assert {(fact, decode(list(ids)).strip()) for fact, ids in found} == {
        (1, "who rules Bo ?"),
        (1, "who rules Cypria ?"),
        (3, "Bo and Bo ?"),
        (3, "Arland and Arland ?"),
    }
    assert asked_of_others(pairs[:1], [1], decode, seed=0) == []


def test_as_many_others_are_asked_as_a_gate_needs() -> None:
    pairs = [pair(n, subject, "who", subject) for n, subject in enumerate(["Ar", "Bo", "Cy"], 1)]
    many = [
        replace(one, prompt_ids=(*one.prompt_ids, *[0] * n)) for one in pairs for n in range(9)
    ]

    found = asked_of_others(many, [2], decode, seed=4)

    assert len(found) == 8
    assert found == asked_of_others(many, [2], decode, seed=4)
    assert found != asked_of_others(many, [2], decode, seed=5)


def test_a_move_is_what_one_phrasing_differs_from_another_by(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp")
    model.edit(model.module_names[-2:])
    asked: list[Prompt] = []

    def ask(prompt: Prompt) -> tuple[int, ...]:
        asked.append(prompt)
        # the model reads one of two texts, whatever the relation and the subject
        return (3, 4, 5) if len(asked) % 2 else (6, 7)

    words = reworded(ask)
    found = [moves(read, words.counts) for read in ends(model, model.edited, words.asked)]

    one, other = (torch.cat([x, y]) for x, y in zip(*_ends(model), strict=True))
    assert len(found) == 2
    for moved, places in zip(found, (one, other), strict=True):
        assert moved.shape == (len(asked), places.shape[1])
        apart = (places[0] - places[1]).norm()
        # among n phrasings that are two by turns each is as far from the mean as two are apart,
        # or a little farther from it than from itself
        assert (moved.norm(dim=1) < apart).all()
        assert (moved.norm(dim=1) > apart / 3).all()
    assert {prompt.form for prompt in asked} == set(Form)
    assert not any("{" in prompt.text for prompt in asked)


def _ends(model: EditedModel) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return ends(model, model.edited, [(3, 4, 5)]), ends(model, model.edited, [(6, 7)])


def test_the_last_token_is_what_is_read(tmp_path: Path) -> None:
    model = EditedModel(save_tiny_model(tmp_path), "mlp")
    model.edit(model.module_names[-1:])

    alone = ends(model, model.edited, [(3, 4, 5)])[0]
    among = ends(model, model.edited, [(9, 9), (3, 4, 5), (3, 4)])[0]

    assert torch.allclose(alone[0], among[1], atol=1e-5)
    assert not torch.allclose(among[1], among[2], atol=1e-3)
    assert ends(model, model.edited, [])[0].shape == (0, alone.shape[1])


def test_text_is_read_as_if_a_subject_had_been_named() -> None:
    carried = slice(2, 5)  # flag and code
    text = torch.zeros(7, 6)
    text[:, 0] = torch.arange(7)
    text[4, 2] = 1.0  # names a subject as it is
    places = [
        torch.tensor([[9.0, 9, 2, 1, 0, 9], [9, 9, 2, 3, 0, 9]]),
        torch.tensor([[9.0, 9, 2, 0, 1, 9]]),
    ]

    found = in_passing(text, places, carried)

    assert found[:, 0].tolist() == [0, 2, 5]  # every other one of those that name none
    assert found[:, carried].tolist() == [[2, 2, 0], [2, 0, 1], [2, 2, 0]]
    assert not found[:, [1, 5]].any()
    assert not text[:4, carried].any()  # which stays as it was


def test_what_is_said_of_one_subject_is_read_as_if_it_were_said_of_the_most_like() -> None:
    carried = slice(1, 4)  # flag and code
    one, near, far = [1.0, 1, 0], [1.0, 0.6, 0.8], [1.0, -1, 0]
    places = {
        1: torch.tensor([[7.0, *one], [8.0, *one]]),
        2: torch.tensor([[9.0, *one]]),  # another fact of the same subject
        3: torch.tensor([[6.0, *near]]),
        4: torch.tensor([[5.0, *far]]),
    }

    found = said_of_others(places, carried)

    assert found[:, 0].tolist() == [7, 8, 9, 6, 5]
    assert torch.equal(found[:, carried], torch.tensor([near, near, near, one, near]))
    assert torch.equal(places[1][:, carried], torch.tensor([one, one]))  # which stay as they were
    assert said_of_others({1: places[1], 2: places[2]}, carried).shape == (0, 4)
