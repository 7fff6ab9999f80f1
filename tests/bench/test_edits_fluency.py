"""Fluency: entropies worked by hand, and what is sampled."""

import math

import pytest
import torch

from kdpo_daemon.bench.edits.rivals.fluency import MOST, entropy, fluency, sampled
from kdpo_daemon.bench.edits.rivals.model import Model
from tests.bench.edits_model import completion, save_tiny_chat_model
from tests.tiny_model import ids


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(save_tiny_chat_model(tmp_path_factory.mktemp("base")))


def silent(_done: int, _of: int) -> None:
    """Tell nobody."""


def test_fluency_is_a_third_of_pairs_and_two_thirds_of_triples() -> None:
    # pairs: ab ba ab ba ab, shares 3/5 and 2/5; triples: aba bab aba bab, half each
    pairs = -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.4))

    assert entropy("a b a b a b") == pytest.approx(pairs / 3 + 2 / 3)


def test_a_text_that_repeats_one_word_has_none_and_marks_are_words() -> None:
    assert entropy("so so so so so") == 0
    assert entropy("so") == entropy("") == 0
    # one pair and no triple, two pairs and one triple
    assert entropy("yes .") == 0
    assert entropy("yes.no") == pytest.approx(1 / 3)


def test_texts_are_as_long_as_they_may_be_with_their_prompts(model: Model) -> None:
    prompts = [
        ids("The head of Arland is"),
        ids("Who"),
        ids("The river in Eve is Ann ? Who leads"),
    ]

    found = sampled(model, prompts, 8, 3, silent)

    assert [len(one) for one in found] == [8, 8, 9]
    for prompt, text in zip(prompts, found, strict=True):
        assert text[: len(prompt)] == prompt


def test_each_token_is_one_of_the_five_likeliest_and_not_always_the_first(model: Model) -> None:
    prompts = [ids("The head of Arland is"), ids("Who leads")]

    ranks = []
    for text, prompt in zip(sampled(model, prompts, 40, 3, silent), prompts, strict=True):
        logits = model.net(torch.tensor([text])).logits[0]
        order = logits.argsort(1, descending=True).tolist()
        ranks += [order[at - 1].index(text[at]) for at in range(len(prompt), len(text))]

    assert set(ranks) <= set(range(5))
    assert len(set(ranks)) > 1


def test_the_same_seed_says_the_same_and_another_seed_does_not(model: Model) -> None:
    prompts = [completion("The head of Arland is"), completion("Who leads")]

    first, again, other = (fluency(model, prompts, seed, silent) for seed in (3, 3, 4))

    assert first == again
    assert first.value != other.value
    assert first.value > 1
    assert first.n == 2


def test_no_more_prompts_are_continued_than_it_says(model: Model) -> None:
    assert fluency(model, [completion("Who")] * (MOST + 2), 3, silent).n == MOST
    assert fluency(model, [], 3, silent).n == 0
