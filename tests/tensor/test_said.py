"""What the base says is heard once; with marks a batch looks at what is near, and at samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import said as said_module
from kdpo_daemon.tuning.answers import answered, heard
from kdpo_daemon.tuning.behind_gates import lessons_among, near_to
from kdpo_daemon.tuning.keys import Moments
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Planted
from kdpo_daemon.tuning.said import Said
from kdpo_daemon.tuning.seen import Around, Ids
from tests.tiny_model import ids, order_for, pairs_of, save_tiny_model

PROMPTS = [ids(text) for text in ("The head of Arland is", "Who leads Arland ?", "Who")]
TOKENS = 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> EditedModel:
    model = EditedModel(base, "mlp")
    model.edit(model.module_names[1:])
    return model


def ask(said: Said, model: EditedModel, prompts: Sequence[Ids]) -> list[Ids]:
    return said.answers(model, prompts, lambda _: None)


def test_answers_are_those_of_greedy_generation(
    base: Path, model: EditedModel, tmp_path: Path
) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(base)

    found = ask(Said(tmp_path, "a" * 64, TOKENS), model, PROMPTS)

    for prompt, answer in zip(PROMPTS, found, strict=True):
        out = plain.generate(torch.tensor([prompt]), max_new_tokens=TOKENS, do_sample=False)
        assert answer == tuple(out[0, len(prompt) :].tolist())


def test_what_was_said_is_not_asked_again(
    model: EditedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(Said(tmp_path, "a" * 64, TOKENS), model, PROMPTS[:2])
    texts = Said(tmp_path, "a" * 64, TOKENS).texts(model, lambda: None)
    asked: list[Ids] = []

    def note(_: object, prompts: Sequence[Ids], *others: Any) -> list[Any]:
        asked.extend(prompts)
        return answered(model, prompts, *others)

    monkeypatch.setattr(said_module, "answered", note)
    monkeypatch.setattr(said_module, "said_aloud", lambda *_: pytest.fail("it was said already"))
    again = Said(tmp_path, "a" * 64, TOKENS)

    assert ask(again, model, PROMPTS)[:2] == first
    assert asked == PROMPTS[2:]
    assert again.texts(model, lambda: None) == texts
    ask(Said(tmp_path, "b" * 64, TOKENS), model, PROMPTS[:1])  # another base says its own
    assert asked == [*PROMPTS[2:], PROMPTS[0]]


def test_a_file_that_cannot_be_read_is_said_again(model: EditedModel, tmp_path: Path) -> None:
    first = ask(Said(tmp_path, "a" * 64, TOKENS), model, PROMPTS)
    (file,) = tmp_path.iterdir()
    file.write_text('{"texts"', "utf-8")

    assert ask(Said(tmp_path, "a" * 64, TOKENS), model, PROMPTS) == first


def test_what_is_heard_along_an_answer_is_what_was_held_while_it_was_said(
    model: EditedModel,
) -> None:
    said = answered(model, PROMPTS, TOKENS, Moments(1.0), lambda _: None)

    found = heard(model, [(one.prompt, tuple(one.said)) for one in said])

    for one, other in zip(found, said, strict=True):
        assert (one.text, one.start) == (other.text, other.start)
        assert torch.equal(torch.stack(one.ids)[:, 0], torch.stack(other.ids)[:, 0])
        held = torch.stack(one.logprobs), torch.stack(other.logprobs)
        assert torch.allclose(*held, atol=1e-5)
        assert torch.allclose(torch.cat(one.lower), torch.cat(other.lower), atol=1e-5)


def about(fact_id: int, subject: str) -> list[Pair]:
    return [replace(one, subject=subject) for one in pairs_of(fact_id, "Arland", "Ann")]


def test_all_that_is_new_is_taught_and_some_of_what_is_kept_looked_at(base: Path) -> None:
    pairs = [pair for n in range(1, 91) for pair in about(n, f"Land{n}")]
    order = order_for(base, (*pairs, about(91, "Land7")[0]))
    before = Planted({}, tuple(range(1, 90)))  # 90 and 91 are new; 91 is about Land7, as 7 is

    found = {pair.fact_id for pair in lessons_among(order, before)}

    assert {7, 90, 91} < found
    assert len(lessons_among(order, before)) == 96 + 2 * len(about(1, "")) + 1
    assert lessons_among(order, before) == lessons_among(order, before)
    assert lessons_among(order, None) == list(order.pairs)


def test_what_names_a_subject_is_looked_at_and_a_sample_of_the_rest() -> None:
    def decode(some: list[int]) -> str:
        return " ".join("Land1" if one == 1 else "word" for one in some)

    texts: list[Ids] = [(1, 2), *((2, n) for n in range(2, 200))]
    answers: list[tuple[Ids, Ids]] = [((2,), (1,)), *(((2,), (n,)) for n in range(2, 200))]

    found = near_to(Around(texts, answers), about(1, "Land1"), decode, seed=3)

    assert found.texts[0] == (1, 2)
    assert len(found.texts) == 1 + 96
    assert found.answers[0] == ((2,), (1,))
    assert len(found.answers) == 1 + 160
