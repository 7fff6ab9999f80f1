"""What the model says by itself, against transformers' own generation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdpo_daemon.tuning import said as said_module
from kdpo_daemon.tuning.answers import Keepsake, answered, heard
from kdpo_daemon.tuning.keys import Moments
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.said import Said
from kdpo_daemon.tuning.seen import along
from tests.tiny_model import END, ids, save_tiny_model

PROMPTS = [
    ids(text)
    for text in ("The head of Arland is", "The head of Borland is", "Who leads Arland ?", "Who")
]
TOKENS = 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model(base: Path) -> EditedModel:
    model = EditedModel(base, "mlp.down_proj")
    model.edit(model.module_names[1:])
    return model


def answer_all(model: EditedModel, moments: Moments | None = None) -> list[Keepsake]:
    return answered(model, PROMPTS, TOKENS, moments or Moments(1.0), lambda _: None)


def test_answers_are_those_of_greedy_generation(base: Path, model: EditedModel) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(base)

    found = answer_all(model)

    for answer in found:
        out = plain.generate(
            torch.tensor([answer.prompt]), max_new_tokens=TOKENS, do_sample=False
        )[0, len(answer.prompt) :].tolist()
        assert answer.said == out


def test_an_answer_stops_at_the_end_token_and_the_others_go_on(model: EditedModel) -> None:
    said = [answer.said for answer in answer_all(model)]

    with ending(model, said[0][1]):
        stopped = [answer.said for answer in answer_all(model)]

    assert stopped[0] == said[0][: said[0].index(said[0][1]) + 1]
    assert any(len(one) > len(stopped[0]) for one in stopped)


def test_what_was_held_likely_is_what_the_plain_model_holds(
    base: Path, model: EditedModel
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base)

    for answer in answer_all(model):
        with torch.no_grad():
            logits = plain(torch.tensor([answer.text])).logits[0, answer.start :]
        expected = logits.log_softmax(1).gather(1, torch.stack(answer.ids))
        assert len(logits) == len(answer.said)
        assert torch.allclose(torch.stack(answer.logprobs), expected, atol=1e-5)


def test_lower_states_are_those_of_the_whole_texts(model: EditedModel) -> None:
    for answer in answer_all(model):
        whole = model.lower(rows([answer.text]))[0]
        assert torch.allclose(torch.cat(answer.lower), whole, atol=1e-5)


def test_moments_are_those_of_the_whole_texts(model: EditedModel) -> None:
    moments = Moments(answer_weight=3.0)

    found = answer_all(model, moments)

    assert torch.allclose(moments.means()[0], expected(model, found), rtol=1e-3, atol=1e-5)


def test_an_answer_that_has_ended_adds_nothing_to_the_moments(model: EditedModel) -> None:
    second = answer_all(model)[0].said[1]
    moments = Moments(answer_weight=3.0)

    with ending(model, second):
        found = answer_all(model, moments)

    assert {len(answer.said) for answer in found} != {TOKENS}
    assert torch.allclose(moments.means()[0], expected(model, found), rtol=1e-3, atol=1e-5)


def expected(model: EditedModel, found: list[Keepsake]) -> torch.Tensor:
    """The second moment of what the first edited module reads, from each text by itself."""
    square, total = torch.zeros(48, 48), 0.0
    seen: set[tuple[int, ...]] = set()
    for answer in found:
        batch = rows([answer.text])
        inputs = model.inputs(batch, model.lower(batch))[0][0]
        for place in range(len(answer.text)):
            if answer.text[: place + 1] not in seen:  # "The head of" is there once
                predicts = place >= answer.start or answer.text[: place + 1] in PROMPTS
                weight = 3.0 if predicts else 1.0
                square += weight * inputs[place][:, None] * inputs[place]
                total += weight
        seen |= {answer.prompt[: place + 1] for place in range(len(answer.prompt))}
    return square / total


@contextmanager
def ending(model: EditedModel, token: int) -> Iterator[None]:
    """Let answers end with another token."""
    config = model.model.generation_config
    config.eos_token_id = token
    try:
        yield
    finally:
        config.eos_token_id = END


def ask(said: Said, model: EditedModel, prompts: Sequence[tuple[int, ...]]) -> list[Any]:
    return said.answers(model, prompts, lambda _: None)


def test_what_was_said_is_not_asked_again(
    model: EditedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(Said(tmp_path, "a" * 64, TOKENS), model, PROMPTS[:2])
    assert first == [tuple(one.said) for one in answer_all(model)[:2]]
    texts = Said(tmp_path, "a" * 64, TOKENS).texts(model, lambda: None)
    asked: list[tuple[int, ...]] = []

    def note(_: object, prompts: Sequence[tuple[int, ...]], *others: Any) -> list[Any]:
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


def test_what_the_base_reads_is_looked_at_once_for_the_same_texts_and_layers(
    model: EditedModel, tmp_path: Path
) -> None:
    looks: list[tuple[list[int], list[tuple[int, ...]]]] = []

    def read(layers: list[int], texts: list[tuple[int, ...]]) -> dict[int, torch.Tensor]:
        def look(some: Sequence[int], of: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
            looks.append((list(some), list(of)))
            return along(model, some, of)

        return Said(tmp_path, "a" * 64, TOKENS).read("texts", layers, texts, look)

    first = read([0, 1], PROMPTS)
    assert [len(one) for one in first.values()] == [sum(map(len, PROMPTS))] * 2
    again = read([1], PROMPTS)
    assert list(again) == [1]
    assert torch.equal(again[1], first[1])
    assert len(looks) == 1

    read([1], PROMPTS[:2])  # other texts
    read([0, 1], PROMPTS[:2])  # a layer that is not there
    next(tmp_path.glob("*.safetensors")).write_bytes(b"torn")
    read([0, 1], PROMPTS[:2])
    wanted = [([0, 1], PROMPTS), ([1], PROMPTS[:2]), ([0, 1], PROMPTS[:2]), ([0, 1], PROMPTS[:2])]
    assert looks == wanted


def test_what_is_heard_along_an_answer_is_what_was_held_while_it_was_said(
    model: EditedModel,
) -> None:
    said = answer_all(model)

    found = heard(model, [(one.prompt, tuple(one.said)) for one in said])

    for one, other in zip(found, said, strict=True):
        assert (one.text, one.start) == (other.text, other.start)
        assert torch.equal(torch.stack(one.ids)[:, 0], torch.stack(other.ids)[:, 0])
        held = torch.stack(one.logprobs), torch.stack(other.logprobs)
        assert torch.allclose(*held, atol=1e-5)
        assert torch.allclose(torch.cat(one.lower), torch.cat(other.lower), atol=1e-5)
