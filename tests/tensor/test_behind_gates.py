"""With marks a batch looks at what is near its subjects, and at samples of the rest."""

from dataclasses import replace
from pathlib import Path

from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning.behind_gates import lessons_among, near_to
from kdpo_daemon.tuning.neurons import Planted
from kdpo_daemon.tuning.seen import Around, Ids
from tests.tiny_model import order_for, pairs_of, save_tiny_model


def about(fact_id: int, subject: str) -> list[Pair]:
    return [replace(one, subject=subject) for one in pairs_of(fact_id, "Arland", "Ann")]


def test_all_that_is_new_is_taught_and_some_of_what_is_kept_looked_at(tmp_path: Path) -> None:
    pairs = [pair for n in range(1, 91) for pair in about(n, f"Land{n}")]
    order = order_for(save_tiny_model(tmp_path), (*pairs, about(91, "Land7")[0]))
    before = Planted({}, tuple(range(1, 90)))  # 90 and 91 are new; 91 is about Land7, as 7 is

    found = {pair.fact_id for pair in lessons_among(order, before)}

    assert {7, 90, 91} < found
    assert len(lessons_among(order, before)) == 96 + 2 * len(about(1, "")) + 1
    assert lessons_among(order, before) == lessons_among(order, before)
    assert lessons_among(order, None) == list(order.pairs)


def test_all_texts_are_looked_at_and_of_answers_that_name_no_subject_a_sample() -> None:
    def decode(some: list[int]) -> str:
        return " ".join("Land1" if one == 1 else "word" for one in some)

    texts: list[Ids] = [(2, n) for n in range(2, 200)]
    answers: list[tuple[Ids, Ids]] = [((2,), (1,)), *(((2,), (n,)) for n in range(2, 200))]

    found = near_to(Around(texts, answers), {"Land1"}, decode, seed=3)

    assert found.texts == texts
    assert found.answers[0] == ((2,), (1,))
    assert len(found.answers) == 1 + 160
