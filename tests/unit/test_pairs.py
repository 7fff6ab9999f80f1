from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kdpo_daemon.edits.pairs import (
    PlanPolicy,
    Prior,
    Tokens,
    by_phrasing,
    kept,
    pair,
    prior,
    replayed,
)
from kdpo_daemon.edits.retry import RetryPolicy, after_failure, next_try
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import ForcedToken, Form, Prompt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACT = Fact(
    id=7,
    subject="Japan",
    relation="head_of_government",
    role="prime minister",
    object="Sanae Takaichi",
    old_object="Shigeru Ishiba",
    valid_from=None,
    observed_at=NOW,
    status=FactStatus.PENDING,
    reason="",
)


def test_a_fact_is_known_when_nearly_all_phrasings_mention_it() -> None:
    right, wrong = "Sanae Takaichi, who", "Shinzo Abe"

    assert prior([right] * 4 + [wrong], FACT, known_share=0.8) is Prior.NEW
    assert prior([right] * 3 + [wrong] * 2, FACT, known_share=0.8) is Prior.OTHER
    assert prior(["Shigeru Ishiba.", wrong], FACT, known_share=0.8) is Prior.OLD
    assert prior([], FACT, known_share=0.8) is Prior.OTHER


def test_a_pair_rejects_what_the_model_says_at_each_position() -> None:
    tokens = Tokens(prompt=(1, 2), chosen=(10, 11, 0), old=(20, 0))
    forced = [ForcedToken(-3.0, 15, -0.5), ForcedToken(-0.1, 11, -0.1), ForcedToken(-2.0, 4, -1.0)]

    made = pair(FACT, Prompt(Form.CHAT, "Who?"), tokens, forced, replay=False)

    assert made.rejected_ids == (15, 11, 4)
    assert made.margin == -3.5  # (-3.0 + 0.5) + 0 + (-2.0 + 1.0)
    assert (made.fact_id, made.chosen, made.subject) == (7, "Sanae Takaichi", "Japan")


def test_a_phrasing_that_was_taught_is_replayed_unless_it_is_read_otherwise_now() -> None:
    tokens, prompt = Tokens((1, 2), (10, 0), (20, 0)), Prompt(Form.CHAT, "Who?")
    made = pair(FACT, prompt, tokens, [ForcedToken(-3.0, 15, -0.5)] * 2, replay=False)
    taught = by_phrasing([made])

    assert replayed(taught, FACT, prompt, tokens) == replace(made, replay=True)
    assert replayed(taught, FACT, prompt, replace(tokens, prompt=(9, 1, 2))) is None
    assert replayed(taught, FACT, prompt, replace(tokens, old=())) is None
    assert replayed(taught, FACT, Prompt(Form.COMPLETION, "Who?"), tokens) is None
    assert replayed(taught, replace(FACT, id=8), prompt, tokens) is None


def test_a_failed_fact_waits_twice_as_long_each_time_and_is_then_quarantined() -> None:
    policy = RetryPolicy(max_attempts=3, wait_s=600)

    assert after_failure(0, policy, NOW) == (FactStatus.PENDING, NOW + timedelta(seconds=600))
    assert after_failure(1, policy, NOW) == (FactStatus.PENDING, NOW + timedelta(seconds=1200))
    assert after_failure(2, policy, NOW) == (FactStatus.QUARANTINED, None)


def test_what_must_come_to_pass_is_tried_for_ever_and_the_wait_stops_growing() -> None:
    policy = RetryPolicy(max_attempts=3, wait_s=600)

    waits = [next_try(attempts, policy, NOW) - NOW for attempts in (0, 1, 3, 30)]

    assert waits == [timedelta(seconds=600 * times) for times in (1, 2, 8, 8)]


def test_of_both_kinds_of_prompts_to_keep_some_are_drawn_and_a_seed_draws_the_same() -> None:
    policy = PlanPolicy(keep_special=2, keep_general=3)
    special = [Prompt(Form.CHAT, text) for text in ("a", "b", "a", "c")]
    general = [Prompt(Form.CHAT, str(number)) for number in range(50)]

    chosen = kept(special, general, [], policy, seed=1)

    assert len(set(chosen)) == 5
    assert len([one for one in chosen if one in general]) == 3
    assert chosen == kept(special, general, [], policy, seed=1)
    assert chosen != kept(special, general, [], policy, seed=2)


def test_fewer_prompts_to_keep_than_wanted_are_all_kept() -> None:
    special, general = [Prompt(Form.CHAT, "a")] * 2, [Prompt(Form.CHAT, "b")]

    assert kept(special, general, [], PlanPolicy(), seed=0) == [special[0], general[0]]


def test_some_prompts_about_each_new_subject_are_kept_before_all_others() -> None:
    policy = PlanPolicy(keep_special=1, keep_near=2, keep_general=0)
    subjects = ("Arland", "Borland")
    about = [Prompt(Form.CHAT, f"{one} {n}") for one in subjects for n in range(9)]
    others = [Prompt(Form.CHAT, f"Corland {n}") for n in range(90)]

    chosen = [one.text.split()[0] for one in kept([*others, *about], [], subjects, policy, seed=1)]

    assert chosen[:4] == ["Arland", "Arland", "Borland", "Borland"]
    assert len(chosen) == 5
