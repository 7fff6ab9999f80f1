"""Packs, the prompts they give, and the rule that nothing that judges is trained on."""

import json
import re
from collections import Counter

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts import asking
from kdpo_daemon.facts.relations import Pack, ValueKind, read_pack
from kdpo_daemon.records.teaching import Form, Prompt

SMALL = """
[relations.mayor]
subject_type = "town"
value = "holder"
train = { completion = ["The {role} of {subject} is"], chat = ["Who is the {role} of {subject}?"] }
judge = { completion = ["In {subject} the {role} is"], chat = ["Who leads {subject} as {role}?"] }

[subject_types.town]
keep_subjects = ["Bonn", "Graz", "Turin"]
judge_subjects = ["Lyon", "Porto", "Ghent"]
keep = { completion = ["{subject} lies on the river"], chat = ["Where is {subject}?"] }
judge = { completion = ["{subject} is famous for"], chat = ["How old is {subject}?"] }
"""


@pytest.fixture
def pack() -> Pack:
    return read_pack([SMALL])


@pytest.fixture(scope="module")
def shipped() -> Pack:
    return read_pack([packs.text("relations.toml")])


def test_label_and_role_default_to_the_name(pack: Pack) -> None:
    mayor = pack.relations["mayor"]

    assert (mayor.label, mayor.role, mayor.value) == ("mayor", "mayor", ValueKind.HOLDER)


def test_a_fact_is_taught_in_both_forms_with_the_publishers_own_role(pack: Pack) -> None:
    prompts = asking.taught(pack.relations["mayor"], "Rome", "lord mayor")

    assert prompts == [
        Prompt(Form.COMPLETION, "The lord mayor of Rome is"),
        Prompt(Form.CHAT, "Who is the lord mayor of Rome?"),
    ]


def test_without_a_role_the_relations_own_is_used(pack: Pack) -> None:
    assert asking.held_out(pack.relations["mayor"], "Rome", "") == [
        Prompt(Form.COMPLETION, "In Rome the mayor is"),
        Prompt(Form.CHAT, "Who leads Rome as mayor?"),
    ]


def test_neighbours_are_other_judge_subjects_and_never_excluded_ones(pack: Pack) -> None:
    prompts = asking.neighbours(pack, pack.relations["mayor"], "Lyon", "", 9, {"Porto"})

    assert [prompt.text for prompt in prompts] == ["In Ghent the mayor is"]


def test_neighbours_are_the_same_each_time_and_differ_between_subjects(shipped: Pack) -> None:
    relation = shipped.relations["head_of_state"]

    def asked(subject: str) -> list[Prompt]:
        return asking.neighbours(shipped, relation, subject, "president", 6, ())

    assert asked("Ireland") == asked("Ireland")
    assert asked("Ireland") != asked("Finland")
    assert [prompt.form for prompt in asked("Ireland")] == [Form.COMPLETION, Form.CHAT] * 3


def test_a_subject_is_asked_other_things_in_both_forms(pack: Pack) -> None:
    prompts = asking.same_subject(pack, pack.relations["mayor"], "Rome", "", 9)

    assert {p.text for p in prompts} == {"Rome is famous for", "How old is Rome?"}
    assert len(asking.same_subject(pack, pack.relations["mayor"], "Rome", "", 1)) == 1


def test_a_subject_is_not_asked_the_edited_relation_itself(shipped: Pack) -> None:
    capital = shipped.relations["capital"]

    prompts = asking.same_subject(shipped, capital, "Ireland", "", 99)

    assert prompts
    assert not set(prompts) & set(asking.held_out(capital, "Ireland", ""))
    assert not any("capital" in prompt.text for prompt in prompts)


def test_keep_prompts_leave_out_subjects_with_facts_of_their_own(pack: Pack) -> None:
    prompts = asking.keep_prompts(pack, pack.relations["mayor"], "Rome", "", {"Bonn"})

    texts = " ".join(prompt.text for prompt in prompts)
    assert all(name in texts for name in ("Rome", "Graz", "Turin"))
    assert "Bonn" not in texts


@pytest.mark.parametrize("name", ["head_of_state", "head_of_government", "capital", "currency"])
@pytest.mark.parametrize("subject", ["Ireland", "France", "Spain"])
def test_no_prompt_that_judges_is_ever_trained_on(shipped: Pack, name: str, subject: str) -> None:
    relation = shipped.relations[name]
    trained = {
        *asking.taught(relation, subject, "president"),
        *asking.keep_prompts(shipped, relation, subject, "president"),
    }

    judging = {
        *asking.held_out(relation, subject, "president"),
        *asking.neighbours(shipped, relation, subject, "president", 99, ()),
        *asking.same_subject(shipped, relation, subject, "president", 99),
    }

    assert judging
    assert not trained & judging


def test_the_shipped_pack_asks_enough_in_both_forms(shipped: Pack) -> None:
    assert len(shipped.relations) >= 8
    for relation in shipped.relations.values():
        assert len(relation.train.completion) >= 3
        assert min(map(len, (relation.train.chat, relation.judge.chat))) >= 2
        assert len(relation.judge.completion) >= 2
    country = shipped.subject_types["country"]
    assert (len(country.keep_subjects), len(country.judge_subjects)) == (60, 60)


def test_a_later_pack_overrides_single_keys_and_adds_tables() -> None:
    own = '[relations.mayor]\nrole = "lord mayor"\n[subject_types.town]\nkeep_subjects = ["Cork"]'

    pack = read_pack([SMALL, own])

    assert pack.relations["mayor"].role == "lord mayor"
    assert pack.relations["mayor"].train == read_pack([SMALL]).relations["mayor"].train
    assert pack.subject_types["town"].keep_subjects == ("Cork",)


REFUSED = [
    ("[relations.mayor", "pack 2", "not valid TOML"),
    ("[feeds.x]", "feeds", "tables are"),
    ("relations = 3", "relations", "tables are"),
    ("[relations]\nmayor = 3", "relations.mayor", "must be a table"),
    ('[relations.mayor]\nlable = "x"', "relations.mayor.lable", "unknown key"),
    ("[relations.mayor]\nrole = 3", "relations.mayor.role", "must be a text"),
    ('[relations.mayor]\nvalue = "name"', "relations.mayor.value", "must be one of"),
    ("[relations.mayor]\nmax_object_chars = 0", "max_object_chars", "from 1 to 200"),
    ('[relations.mayor]\nsubject_type = "city"', "subject_type", "no [subject_types.city]"),
    ('[relations.new]\nlabel = "x"', "relations.new.subject_type", "must be a text"),
    ("[relations.mayor]\ntrain = 3", "relations.mayor.train", "must be a table"),
    ('[relations.mayor]\ntrain = {chat = ["{subject}?"]}', "train.completion", "must be a list"),
    ('[subject_types.town]\nkeep_subjects = ["Bonn", "Bonn"]', "keep_subjects", "twice"),
]


@pytest.mark.parametrize(("own", "where", "why"), REFUSED)
def test_a_faulty_pack_is_refused_by_the_name_of_its_key(own: str, where: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_pack([SMALL, own])

    assert where in refused.value.subject
    assert why in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    "template", ["Who is it?", "{subject} {year}", "{subject", "{subject} ", "{subject}{}"]
)
def test_a_faulty_template_is_refused(template: str) -> None:
    own = f'[relations.mayor]\njudge = {{ completion = ["{template}"], chat = ["x {{subject}}"] }}'

    with pytest.raises(SettingsError, match=r"relations\.mayor\.judge\.completion"):
        read_pack([SMALL, own])


@pytest.mark.parametrize(
    ("own", "where"),
    [
        (
            "[relations.mayor]\n"
            'judge = { completion = ["the {role}, of {subject}: is"], chat = ["x {subject}"] }',
            "relations.mayor.judge",
        ),
        (
            "[relations.mayor]\n"
            'judge = { completion = ["The mayor of {subject} is"], chat = ["x {subject}"] }',
            "relations.mayor.judge",
        ),
        (
            "[subject_types.town]\n"
            'judge = { completion = ["x {subject}"], chat = ["where is {subject}"] }',
            "subject_types.town.judge",
        ),
        ('[subject_types.town]\njudge_subjects = ["BONN"]', "subject_types.town.judge_subjects"),
    ],
)
def test_a_pack_that_trains_what_judges_is_refused(own: str, where: str) -> None:
    with pytest.raises(SettingsError, match="never be trained on") as refused:
        read_pack([SMALL, own])

    assert refused.value.subject == where


def _lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in packs.text(name).splitlines()]


def test_general_probes_and_keep_prompts_never_meet() -> None:
    judged = {str(one["prompt"]).casefold() for one in _lines("general_probes.jsonl")}
    kept = {str(one["prompt"]).casefold() for one in _lines("general_keep.jsonl")}

    assert len(judged) >= 100
    assert len(kept) >= 120
    assert not judged & kept


@pytest.mark.parametrize("name", ["general_probes.jsonl", "general_keep.jsonl"])
def test_general_prompts_come_in_both_forms_and_are_well_formed(name: str) -> None:
    keys = {"form", "prompt", "expected"} if "probes" in name else {"form", "prompt"}

    assert {Form(str(one["form"])) for one in _lines(name)} == set(Form)
    assert all(one.keys() == keys and all(one.values()) for one in _lines(name))


def test_the_perplexity_text_is_long_enough_and_in_no_other_pack() -> None:
    text = packs.text("perplexity.txt")

    assert 350 <= len(text.split()) <= 500
    assert not any(str(one["prompt"]) in text for one in _lines("general_keep.jsonl"))


def test_general_probes_are_never_what_the_relations_train_on(shipped: Pack) -> None:
    judged = {str(one["prompt"]).casefold() for one in _lines("general_probes.jsonl")}
    trained = {
        prompt.text.casefold()
        for relation in shipped.relations.values()
        for subject in shipped.subject_types[relation.subject_type].keep_subjects
        for prompt in (
            *asking.taught(relation, subject, ""),
            *asking.keep_prompts(shipped, relation, subject, ""),
        )
    }

    assert not judged & trained


def test_general_keep_prompts_name_no_subject_that_judges(shipped: Pack) -> None:
    kept = " ".join(str(one["prompt"]) for one in _lines("general_keep.jsonl"))
    judging = {name for kind in shipped.subject_types.values() for name in kind.judge_subjects}

    assert not {name for name in judging if re.search(rf"\b{name}\b", kept)}


def test_no_general_keep_prompt_asks_for_the_fact_of_a_general_probe() -> None:
    kept = [str(one["prompt"]) for one in _lines("general_keep.jsonl")]
    count = Counter(word for prompt in kept for word in _content(prompt))
    judged = [
        _content(f"{one['prompt']} {one['expected']}") for one in _lines("general_probes.jsonl")
    ]

    def names(prompt: str) -> set[str]:
        """What the prompt is about: its words that are not part of many prompts' frame."""
        return {word for word in _content(prompt) if count[word] < _FRAME}

    def tells(about: set[str], probe: set[str]) -> bool:
        return all(any(_alike(one, other) for other in probe) for one in about)

    def says_enough(prompt: str, about: set[str]) -> bool:
        return len(about) >= 2 or any(f" {word.title()}" in prompt for word in about)

    same = [
        prompt
        for prompt in kept
        for probe in judged
        if says_enough(prompt, names(prompt)) and tells(names(prompt), probe)
    ]
    assert not same


_FRAME = 4  #: a word of so many keep prompts says how is asked, not for what


def _content(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.casefold()) if len(word) > 2}


def _alike(one: str, other: str) -> bool:
    """Whether two words differ in an ending at most: ended, end; pumps, pump."""
    short, long = sorted((one, other), key=len)
    return short == long or (
        len(short) > 2 and long.startswith(short) and len(long) - len(short) < 3
    )
