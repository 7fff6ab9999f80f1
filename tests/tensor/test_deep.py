"""Facts after other text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.records.teaching import Form, Pair
from kdpo_daemon.tuning import cues, gated
from kdpo_daemon.tuning.deep import named_after_text, pairs_after_text
from tests.tensor.child import trained
from tests.tensor.rooms import save_roomy_model
from tests.tensor.test_gated import TAUGHT, order
from tests.tiny_model import pairs_of

#: What a completion begins with, what chats do, and words.
BEGIN, TURN, THE, ARLAND, IS, ANN, TEXT = range(7)
WORDS = ["<s>", "<turn>", "The head of ", "Arland", " is", " Ann", " text"]
TEXTS = [tuple([TEXT] * 65), tuple([ANN] * 65)]


def decode(ids: list[int]) -> str:
    return "".join(WORDS[one] for one in ids)


def about(fact_id: int, form: Form, prompt: tuple[int, ...], *, subject: str = "Arland") -> Pair:
    plain = replace(pairs_of(fact_id, subject, "Ann")[0], form=form)
    return replace(plain, prompt_ids=prompt)


def test_a_subject_is_named_after_little_and_after_much_text() -> None:
    pairs = [
        about(1, Form.COMPLETION, (BEGIN, THE, ARLAND, IS)),
        about(1, Form.CHAT, (TURN, THE, ARLAND, IS)),
        about(2, Form.COMPLETION, (BEGIN, THE, IS), subject="Borland"),  # not named
    ]

    found = named_after_text(pairs, TEXTS, (BEGIN,), decode)

    assert found == {
        "Arland": [
            (BEGIN, *[TEXT] * 12, THE, ARLAND),
            (BEGIN, *[ANN] * 32, THE, ARLAND),
            (BEGIN, *[TEXT] * 64, THE, ARLAND),
        ]
    }


def test_of_each_fact_one_completion_is_asked_after_text_and_answered_as_before() -> None:
    first = about(1, Form.COMPLETION, (BEGIN, THE, ARLAND, IS))
    pairs = [
        about(1, Form.CHAT, (TURN, THE, ARLAND, IS)),
        first,
        about(1, Form.COMPLETION, (BEGIN, ARLAND, IS)),
        about(2, Form.CHAT, (TURN, ARLAND, IS)),
        about(3, Form.COMPLETION, (BEGIN, ARLAND, IS)),
    ]

    found = {pair.fact_id: pair for pair in pairs_after_text(pairs, TEXTS, (BEGIN,))}

    assert set(found) == {1, 3}
    prompts = {found[1].prompt_ids, found[3].prompt_ids}
    assert {len(one) for one in prompts} == {4 + 12, 3 + 32} or {len(one) for one in prompts} == {
        4 + 32,
        3 + 12,
    }
    assert found[1].prompt_ids[-3:] == first.prompt_ids[-3:]
    assert replace(found[1], prompt_ids=first.prompt_ids) == first


def test_without_text_nothing_is_put_before_a_prompt() -> None:
    pairs = [about(1, Form.COMPLETION, (BEGIN, THE, ARLAND, IS))]

    assert named_after_text(pairs, [], (BEGIN,), decode) == {"Arland": []}
    assert pairs_after_text(pairs, [], (BEGIN,)) == []


def test_gates_are_told_from_completions_after_text_and_cues_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cued: list[Pair] = []
    taught: list[tuple[list[Pair], int]] = []
    cue, gate = cues.cued, gated.lessons_of

    def seen_by_cues(model: Any, room: Any, lessons: cues.Taught, *rest: Any) -> Any:
        cued.extend(lessons.pairs)
        assert len(lessons.texts.ids) == len(lessons.pairs)
        return cue(model, room, lessons, *rest)

    def seen_by_gates(
        model: Any, pairs: list[Pair], recipe: Any, lower: Any = None, deep: int = 0
    ) -> Any:
        taught.append((list(pairs), deep))
        return gate(model, pairs, recipe, lower, deep)

    monkeypatch.setattr(cues, "cued", seen_by_cues)
    monkeypatch.setattr(gated, "lessons_of", seen_by_gates)

    trained(order(save_roomy_model(tmp_path), TAUGHT), tmp_path)

    [(told, deep)] = taught
    facts = {pair.fact_id for pair in TAUGHT if pair.form is Form.COMPLETION}
    assert cued == list(TAUGHT)
    assert told[:-deep] == cued
    assert {pair.fact_id for pair in told[-deep:]} == facts
    longest = max(len(pair.prompt_ids) for pair in TAUGHT)
    assert all(len(pair.prompt_ids) > longest for pair in told[-deep:])
