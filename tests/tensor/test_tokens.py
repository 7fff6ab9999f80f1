import torch

from kdpo_daemon.records.teaching import Form, Pair
from kdpo_daemon.tuning.tokens import mentions, sequence_of, states, targets, told

END = 0  # also the padding: masks must not care


def pair(prompt: list[int], chosen: list[int], old: list[int]) -> Pair:
    return Pair(
        fact_id=1,
        form=Form.COMPLETION,
        prompt="",
        subject="",
        chosen="",
        prompt_ids=tuple(prompt),
        chosen_ids=tuple(chosen),
        rejected_ids=tuple(reversed(chosen)),
        old_ids=tuple(old),
        margin=0.0,
        replay=False,
    )


def test_each_target_is_predicted_from_the_place_before_it() -> None:
    pairs = [pair([5, 6], [7, END], []), pair([5], [8, 9, END], [])]

    at = targets(pairs)

    assert [sequence_of(one) for one in pairs] == [(5, 6, 7), (5, 8, 9)]
    assert at.row.tolist() == [0, 0, 1, 1, 1]
    assert at.place.tolist() == [1, 2, 0, 1, 2]
    assert at.chosen.tolist() == [7, END, 8, 9, END]


def test_the_end_token_is_a_target_even_where_it_is_the_padding() -> None:
    at = targets([pair([5], [7, END], [])])

    assert at.chosen.tolist()[-1] == END


def test_the_old_object_counts_only_where_the_two_part() -> None:
    at = targets([pair([5], [1, 2, 3, END], [1, 9, 3, END])])

    assert at.old.tolist() == [1, 9, 3, END]
    assert torch.equal(at.old != at.chosen, torch.tensor([False, True, False, False]))


def test_an_old_object_that_goes_on_is_told_from_a_new_one_that_ends() -> None:
    at = targets([pair([5], [1, END], [1, 2, END])])

    assert at.old.tolist() == [1, 2]


def test_without_an_old_object_no_position_has_one() -> None:
    at = targets([pair([5], [1, END], [])])

    assert torch.equal(at.old, at.chosen)


def decode(ids: list[int]) -> str:
    words = ["The", " capital", " of", " New", " Zea", "land", "?", " Ôt", "Ô"]
    return "".join(words[number] for number in ids)


def test_a_prompt_states_its_subject_within_tokens_too() -> None:
    assert states([0, 1, 2, 3, 4, 5, 6], "New Zealand", decode)
    assert states([0, 1, 2, 3, 4], "New Z", decode)


def test_a_prompt_without_the_subject_does_not_state_it() -> None:
    assert not states([0, 1, 2], "New Zealand", decode)
    assert not states([0, 1, 2], "", decode)


def of_bytes(ids: list[int]) -> str:
    """Tokens that are bytes, of which a rare letter takes two or more."""
    return bytes(ids).decode("utf-8", errors="replace")


def test_a_letter_that_is_cut_between_tokens_is_told_by_the_last_of_them() -> None:
    assert told(list("aėb語".encode()), of_bytes) == [1, 1, 2, 3, 3, 3, 4]


def test_a_subject_is_named_where_its_last_letter_is_whole() -> None:
    ids = list("of Trebaitė is, Trebaitė".encode())

    assert mentions(ids, "Trebaitė", of_bytes) == [11, len(ids) - 1]
