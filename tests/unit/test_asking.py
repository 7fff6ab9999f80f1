"""What is asked about a subject besides its fact: other relations, to be kept and to judge."""

from dataclasses import replace

import pytest

from kdpo_daemon import packs
from kdpo_daemon.edits.pairs import PlanPolicy
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts import asking
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.teaching import Form, ProbeKind
from kdpo_daemon.stages.questions import left_by, probes_for
from tests.unit.test_pairs import FACT

OFFICES = """
[relations.mayor]
subject_type = "town"
train = { completion = ["The {role} of {subject} is"], chat = ["Who is the {role} of {subject}?"] }
judge = { completion = ["In {subject} the {role} is"], chat = ["Who leads {subject} as {role}?"] }

[relations.treasurer]
subject_type = "town"
also = ["bursar"]
train = { completion = ["{subject}'s {role} is"], chat = ["Name the {role} of {subject}."] }
judge = { completion = ["As {role} of {subject} works"], chat = ["{subject} has which {role}?"] }

[relations.river]
subject_type = "town"
train = { completion = ["Through {subject} runs the"], chat = ["Which river is in {subject}?"] }
judge = { completion = ["{subject} lies on the"], chat = ["What river does {subject} lie on?"] }

[subject_types.town]
keep_subjects = ["Bonn", "Graz", "Turin"]
judge_subjects = ["Lyon", "Porto", "Ghent"]
keep = { completion = ["{subject} is a town in"], chat = ["Where is {subject}?"] }
judge = { completion = ["{subject} lies on the"], chat = ["How old is {subject}?"] }
"""


@pytest.fixture
def pack() -> Pack:
    return read_pack([OFFICES])


def kept(pack: Pack, role: str = "", own: tuple[str, ...] = ()) -> set[str]:
    prompts = asking.keep_prompts(pack, pack.relations["mayor"], "Rome", role, (), own)
    return {one.text for one in prompts if "Rome" in one.text}


def judging(pack: Pack, role: str = "", own: tuple[str, ...] = (), count: int = 9) -> list[str]:
    mayor = pack.relations["mayor"]
    return [one.text for one in asking.same_subject(pack, mayor, "Rome", role, count, own)]


def test_who_holds_a_subject_s_other_offices_is_kept_in_all_words_for_them(pack: Pack) -> None:
    assert kept(pack) == {
        "Rome is a town in",
        "Where is Rome?",
        "Rome's treasurer is",
        "Name the treasurer of Rome.",
        "Rome's bursar is",
        "Name the bursar of Rome.",
    }


def test_what_a_subject_type_judges_by_is_kept_in_no_words(pack: Pack) -> None:
    """Its river: the same subject is to be judged on what training did not touch."""
    assert not any("river" in text or "runs" in text for text in kept(pack))


def test_other_offices_judge_in_phrasings_that_are_not_kept(pack: Pack) -> None:
    asked = judging(pack)

    assert {"Rome lies on the", "How old is Rome?"} < set(asked)
    assert sum("treasurer" in text for text in asked) == 1
    assert sum("bursar" in text for text in asked) == 1
    assert not set(asked) & kept(pack)


def test_of_few_questions_half_are_about_other_offices_and_half_in_each_form() -> None:
    shipped = read_pack([packs.text(name) for name in packs.RELATIONS])
    leads = shipped.relations["head_of_government"]

    for subject in ("Japan", "Peru", "Fiji"):
        prompts = asking.same_subject(shipped, leads, subject, "prime minister", 4)
        far = {*shipped.subject_types["country"].judge.completion}
        far |= {*shipped.subject_types["country"].judge.chat}
        near = [one.text.replace(subject, "{subject}") not in far for one in prompts]
        assert near == [True, False, False, True]
        assert [one.form for one in prompts] == [Form.COMPLETION, Form.CHAT] * 2


def test_an_office_that_goes_by_the_fact_s_own_role_is_not_asked_about(pack: Pack) -> None:
    """A president leads a state, or a government."""
    for texts in (kept(pack, role="bursar"), set(judging(pack, role="bursar"))):
        assert any("treasurer" in text for text in texts)
        assert not any("bursar" in text for text in texts)


def test_nor_is_one_of_which_the_subject_has_a_fact_that_may_change(pack: Pack) -> None:
    for texts in (kept(pack, own=("treasurer",)), set(judging(pack, own=("treasurer",)))):
        assert texts
        assert not any("treasurer" in text or "bursar" in text for text in texts)


def test_a_pack_that_would_train_on_what_judges_by_another_word_is_refused() -> None:
    leaking = OFFICES.replace("Who leads {subject} as {role}?", "Name the bursar of {subject}.")

    with pytest.raises(SettingsError, match=r"relations\.mayor\.judge.*also trained on"):
        read_pack([leaking])


def test_facts_of_a_subject_are_looked_up_for_that_subject_alone(pack: Pack) -> None:
    fact = replace(FACT, subject="Rome", relation="mayor", role="")

    def texts(*taken: tuple[str, str]) -> tuple[str, str]:
        probes = probes_for(fact, pack, PlanPolicy(same_subject=9), frozenset(taken))
        asked = [one.prompt.text for one in probes if one.kind is ProbeKind.SAME_SUBJECT]
        left = [one.text for one in left_by(fact, pack, frozenset(taken))]
        return " ".join(asked), " ".join(one for one in left if "Rome" in one)

    for said in texts(("Rome", "mayor"), ("Turin", "treasurer")):
        assert "treasurer" in said
    for said in texts(("Rome", "mayor"), ("Rome", "treasurer")):
        assert "treasurer" not in said
