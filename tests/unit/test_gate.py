from dataclasses import replace

import pytest

from kdpo_daemon.edits.gate import GatePolicy, judge
from kdpo_daemon.records.adapters import Score, VerdictRuling

GOOD = {
    "efficacy_completion": 1.0,
    "efficacy_chat": 1.0,
    "general_kept": 1.0,
    "perplexity_ratio": 1.0,
    "old_answer": 0.0,
}


def scores(**changes: float) -> list[Score]:
    return [Score(name, value, 10) for name, value in (GOOD | changes).items()]


def test_a_candidate_that_holds_every_bound_is_promoted_with_the_figures_as_reasons() -> None:
    verdict = judge(scores(), GatePolicy())

    assert verdict.ruling is VerdictRuling.PROMOTE
    assert "efficacy_chat 1.000 of 10, wanted at least 0.9" in verdict.reasons


def test_one_broken_bound_rejects_and_only_broken_bounds_are_reasons() -> None:
    verdict = judge(scores(perplexity_ratio=1.2), GatePolicy(perplexity_ratio=1.05))

    assert verdict.ruling is VerdictRuling.REJECT
    assert verdict.reasons == ("perplexity_ratio 1.200 of 10, wanted at most 1.05",)


def test_a_bound_itself_still_holds() -> None:
    assert judge(scores(efficacy_chat=0.9), GatePolicy()).ruling is VerdictRuling.PROMOTE
    assert judge(scores(efficacy_chat=0.89), GatePolicy()).ruling is VerdictRuling.REJECT


def test_without_any_answer_to_an_edit_nothing_is_promoted() -> None:
    unasked = [replace(one, n=0) if one.name == "efficacy_chat" else one for one in scores()]

    verdict = judge(unasked, GatePolicy())

    assert verdict.reasons == ("efficacy_chat was not measured: no probes",)


@pytest.mark.parametrize("name", ["old_answer", "revoked_answer"])
def test_the_share_of_old_and_of_revoked_answers_is_bounded_from_above(name: str) -> None:
    assert judge(scores(**{name: 0.2}), GatePolicy()).ruling is VerdictRuling.REJECT
