import re

import pytest

from kdpo_daemon.edits.scores import (
    SENTENCE_STOPS,
    candidate_scores,
    cut_short,
    first_sentence,
    hit,
    learned,
    mentions,
    normalise,
    steady,
    unchanged,
)
from kdpo_daemon.records.teaching import Form, Probe, ProbeKind, Prompt


def probe(number: int, kind: ProbeKind, expected: str = "", fact_id: int | None = 1) -> Probe:
    prompt = Prompt(Form.COMPLETION, f"question {number}")
    return Probe(number, kind, prompt, (expected,) if expected else (), fact_id)


def score(scores: list, name: str) -> tuple[float, int]:  # type: ignore[type-arg]
    found = next(one for one in scores if one.name == name)
    return found.value, found.n


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (" The  Hague. ", "hague"),
        ("Dick Schoof", "dick schoof"),
        ("a U.S.-led man", "u s led man"),
        ("About 3.5 or 1,000.", "about 3.5 or 1,000"),
        ("STRASSE straße", "strasse strasse"),
    ],
)
def test_normalising_drops_case_marks_articles_and_spaces(raw: str, plain: str) -> None:
    assert normalise(raw) == plain


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (" Paris. It is big.", "Paris"),
        ("J. K. Rowling wrote it. Yes", "J. K. Rowling wrote it"),
        ("one\ntwo", "one"),
        ("3.5 million", "3.5 million"),
        ("", ""),
    ],
)
def test_a_sentence_ends_at_its_first_end_but_not_at_initials(answer: str, sentence: str) -> None:
    assert first_sentence(answer) == sentence


def test_an_edit_is_right_only_if_the_whole_answer_is_the_object() -> None:
    assert hit(" Dick Schoof.", ["Dick Schoof"])
    assert not hit("Dick Schoof. He was born in", ["Dick Schoof"])
    assert not hit("", ["Dick Schoof"])


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("Paris. It is nice", False),
        ("\n\nParis\nIt is nice", True),
        ("Paris\nIt is nice", False),
        ("J. K. Rowling wrote it. She did", True),
        ("1. Paris", True),
        ("Really? Paris", False),
        ("Paris", False),
        ("about 3.5 million", False),
    ],
)
def test_what_was_stopped_holds_its_first_sentence_or_is_known_to_be_cut_short(
    whole: str, *, short: bool
) -> None:
    stop = re.search("|".join(map(re.escape, SENTENCE_STOPS)), whole)
    stopped = whole[: stop.end()] if stop else whole

    assert cut_short(stopped) is short
    assert short or first_sentence(stopped) == first_sentence(whole)


def test_a_mention_counts_whole_words_in_the_first_sentence_only() -> None:
    assert mentions("It is Paris, of course. Or Rome.", ["Paris"])
    assert not mentions("It is Parisian.", ["Paris"])
    assert not mentions("No idea. Paris?", ["Paris"])
    assert not mentions("anything", [""])
    assert not mentions("It is approximately 3.09", ["3"])
    assert mentions("It is 3, I think", ["3"])


def test_unchanged_looks_at_the_first_sentence_only() -> None:
    assert unchanged("Paris. It is nice", "Paris. And big")
    assert not unchanged("Paris", "Rome")


def test_scores_count_what_was_asked_and_how_much_of_it_held() -> None:
    probes = [
        probe(1, ProbeKind.EDIT, "Dick Schoof"),
        probe(2, ProbeKind.EDIT, "Dick Schoof"),
        probe(3, ProbeKind.SAME_RELATION),
        probe(4, ProbeKind.GENERAL, "Paris", None),
        probe(5, ProbeKind.GENERAL, "Rome", None),
    ]
    before = {3: "Macron", 4: "Paris.", 5: "Milan."}
    after = {1: "Dick Schoof", 2: "Mark Rutte", 3: "Macron. He", 4: "Lyon.", 5: "Rome."}

    scores = candidate_scores(probes, before, after, {1: "Mark Rutte"})

    assert score(scores, "efficacy_completion") == (0.5, 2)
    assert score(scores, "efficacy_chat") == (0.0, 0)
    assert score(scores, "same_relation_unchanged") == (1.0, 1)
    assert score(scores, "general_kept") == (0.0, 1)  # only what the base got right counts
    assert score(scores, "general_unchanged") == (0.0, 2)
    assert score(scores, "old_answer") == (0.5, 2)


@pytest.mark.parametrize(
    ("answer", "is_old"),
    [
        ("Prince Philippe.", False),  # the new object, in which the old one's words are
        ("Philippe", True),
        ("Prince Philippe, or Philippe", True),
        ("Prince Albert", False),
    ],
)
def test_the_new_object_is_not_an_old_answer(answer: str, is_old: bool) -> None:
    probes = [probe(1, ProbeKind.EDIT, "Prince Philippe")]

    scores = candidate_scores(probes, {}, {1: answer}, {1: "Philippe"})

    assert score(scores, "old_answer") == (float(is_old), 1)


def test_a_probe_that_the_base_answers_now_so_now_so_is_left_out() -> None:
    probes = [probe(1, ProbeKind.GENERAL), probe(2, ProbeKind.GENERAL), probe(3, ProbeKind.EDIT)]

    kept = steady(probes, {1: "Paris.", 2: "Rome."}, {1: "Paris. It", 2: "Milan."})

    assert [one.id for one in kept] == [1, 3]


def test_a_fact_is_learned_if_most_of_its_taught_phrasings_are_right() -> None:
    probes = [probe(n, ProbeKind.EDIT, "x", fact_id=1 + n // 3) for n in range(6)]
    after = {0: "x", 1: "x", 2: "y", 3: "x", 4: "y", 5: "y"}

    assert learned(probes, after) == {1: True, 2: False}


def test_a_revoked_fact_is_said_still_unless_the_base_says_it_by_itself() -> None:
    revoked = [probe(n, ProbeKind.EDIT, "Dick Schoof") for n in (1, 2, 3, 4)]
    before = {1: "I do not know", 2: "I do not know", 3: "Dick Schoof.", 4: "Mark Rutte"}
    after = {1: "It is Dick Schoof.", 2: "I do not know", 3: "Dick Schoof", 4: "Mark Rutte"}

    scores = candidate_scores([], before, after, {}, revoked)

    assert score(scores, "revoked_answer") == (0.25, 4)
    assert score(scores, "efficacy_completion") == (0.0, 0)  # nothing that is taught


def test_without_revoked_facts_there_is_no_score_of_them() -> None:
    assert "revoked_answer" not in {one.name for one in candidate_scores([], {}, {}, {})}
