"""Where neurons go, and what rank a version will take: known before it is trained."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kdpo_daemon.edits.placement import (
    SHARED,
    Ground,
    Taken,
    cueing_below,
    dealt,
    rank_in_neurons,
    rank_in_rows,
    shared_by,
    too_many,
)
from kdpo_daemon.records.teaching import Form, Pair

MODEL = Ground((20, 28, 29), marking=(8, 9), cueing=(18, 19))
ANY = Pair(1, Form.CHAT, "", "Japan", "", (1,), (7, 8, 0), (1, 1, 1), (), 0.0, replay=False)


def facts(count: int, first: int = 1, tokens: int = 2) -> list[Pair]:
    """So many facts of other subjects, in two phrasings each."""
    return [
        replace(ANY, fact_id=n, subject=f"S{n}", form=form, chosen_ids=(*range(1, tokens + 1), 0))
        for n in range(first, first + count)
        for form in Form
    ]


def parent(*, facts: int = 10, later: int = 8, repairs: int = 0) -> Ground:
    """The model with a version of so many facts in each upper layer, two neurons each."""
    ids = range(1, 2 * facts + 1)
    taken = {
        20: Taken((SHARED,) * later, repairs and later),
        28: Taken(tuple(one for one in ids[::2] for _ in range(2)), repairs),
        29: Taken(tuple(one for one in ids[1::2] for _ in range(2)), repairs),
        18: Taken(tuple(one for one in ids[::2] for _ in range(2))),
        19: Taken(tuple(one for one in ids[1::2] for _ in range(2))),
        8: Taken((SHARED,) * facts),
        9: Taken((SHARED,) * facts),
    }
    return replace(MODEL, taken=taken, facts=frozenset(ids))


def test_facts_are_dealt_to_where_the_fewest_neurons_are() -> None:
    assert dealt({1: 0, 2: 0}, [7, 8, 9]) == {1: [7, 9], 2: [8]}
    assert dealt({1: 5, 2: 3}, [7, 8, 9]) == {2: [7, 8], 1: [9]}


def test_cues_are_written_in_the_two_layers_below_that_marks_reach() -> None:
    assert cueing_below(20, carrier=10) == (18, 19)
    assert cueing_below(2, carrier=1) == (1,)
    assert cueing_below(1, carrier=1) == ()


def test_cues_take_two_neurons_for_each_fact() -> None:
    one = Ground((20, 26, 27, 28, 29), marking=(8, 9), cueing=(19,))

    assert rank_in_neurons(one, facts(50)) == 100
    assert rank_in_neurons(replace(one, cueing=(18, 19)), facts(50)) == 50


def test_later_tokens_share_a_neuron_for_24_contexts_and_have_four_at_least() -> None:
    assert shared_by(facts(1)) == 4
    assert shared_by(facts(48)) == 4  # phrasings have their contexts in common
    assert shared_by(facts(50, tokens=3)) == 7


def test_facts_take_two_neurons_each_in_one_of_two_upper_layers() -> None:
    assert rank_in_neurons(MODEL, facts(50)) == 50
    assert rank_in_neurons(MODEL, facts(3)) == 8  # those of later tokens are more


def test_what_the_parent_keeps_counts_and_a_later_batch_comes_on_top() -> None:
    assert rank_in_neurons(parent(), facts(20)) == 20
    assert rank_in_neurons(parent(), facts(21)) == 22
    assert rank_in_neurons(parent(later=40), facts(21)) == 48


def test_facts_that_are_not_taught_again_give_their_neurons_back() -> None:
    assert rank_in_neurons(parent(later=0), facts(10)) == 10  # marks stay
    assert rank_in_neurons(replace(parent(later=0), marking=()), facts(10)) == 10
    unmarked = replace(parent(), taken={28: Taken((1, 3)), 29: Taken((2, 4))}, marking=())
    assert rank_in_neurons(unmarked, facts(2)) == 1


def test_a_subject_that_is_taught_again_takes_another_mark_and_its_facts_are_placed_anew() -> None:
    again = [replace(pair, fact_id=99) for pair in facts(1)]
    marks = dict.fromkeys((8, 9), Taken((SHARED,) * 60))
    many = replace(parent(), taken={**parent().taken, **marks})

    assert rank_in_neurons(many, facts(20)) == 60
    assert rank_in_neurons(many, [*facts(20), *again]) == 62
    # one subject's ten facts are all in one layer; with one more they are dealt out to both
    one = [replace(pair, subject="S1") for pair in facts(10)]
    uneven = Taken(tuple(fact for fact in range(1, 11) for _ in range(2)))
    apart = replace(MODEL, taken={28: uneven}, facts=frozenset(range(1, 11)), cueing=())
    assert rank_in_neurons(apart, one) == 20
    assert rank_in_neurons(apart, [*one, *again]) == 12


def test_neurons_that_are_freed_take_as_much_again() -> None:
    plain = Ground((20, 27, 28))

    assert rank_in_neurons(plain, facts(50)) == 50
    assert rank_in_neurons(parent(repairs=20), facts(22)) == 44


@pytest.mark.parametrize("layers", [(0, 1), (20, 27, 28), (5, 6, 7, 8)])
def test_more_facts_never_take_less(layers: tuple[int, ...]) -> None:
    ranks = [rank_in_neurons(Ground(layers), facts(count)) for count in range(40)]

    assert ranks == sorted(ranks)
    assert ranks[0] == 1  # a version that changes nothing


def test_rows_take_a_rank_for_each_subject_and_form() -> None:
    assert rank_in_rows((), facts(3)) == 6
    assert rank_in_rows({("S1", Form.CHAT), ("gone", Form.CHAT)}, facts(3)) == 7


def test_facts_that_do_not_fit_are_told_with_the_rank_they_would_take() -> None:
    def rank(pairs: Sequence[Pair]) -> int:
        return rank_in_neurons(MODEL, pairs)

    assert too_many(facts(50), [], rank, 50) == {}
    assert too_many(facts(50), [], rank, 48) == {49: 50, 50: 50}
    assert too_many(facts(50), facts(46, first=100), rank, 48) == dict.fromkeys(range(3, 51), 50)
    assert too_many(facts(2), facts(60, first=100), rank, 48) == {1: 62, 2: 62}


def test_a_fact_that_takes_nothing_more_goes_before_older_ones_that_wait() -> None:
    marks = dict.fromkeys((8, 9), Taken((SHARED,) * 20))
    full = replace(parent(), taken={**parent().taken, **marks})

    def rank(pairs: Sequence[Pair]) -> int:
        return rank_in_neurons(full, pairs)

    taught, kept = facts(20)[2:], facts(1)  # the parent keeps the first one, too

    assert too_many([*facts(1, first=80), *kept], taught, rank, 20) == {80: 22}
