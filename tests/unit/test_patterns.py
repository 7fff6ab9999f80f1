"""Patterns of relations on sentences: what they claim, what they leave alone, what they cost."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.by_pattern import claims_by_pattern
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.facts.sentences import doubt, sentences
from kdpo_daemon.records.intake import Claim, Entry

DAY = datetime(2025, 1, 21, tzinfo=UTC)
ENTRY = Entry("1", "", "", DAY, "", None, "")
OWN = """
[relations.chief_executive]
titles = ["CEO", "chief executive"]
patterns = [
    "{subject} (names|appoints) {new} [as] [its] {title}",
    "{new} succeeds {old} as {title} of {subject}",
]
[relations.head_of_government]
patterns = ["{new} becomes {subject}'s prime minister"]
[relations.population]
patterns = ["{subject} now has {new} inhabitants"]
"""
SHIPPED = [packs.text(name) for name in packs.RELATIONS]


@pytest.fixture(scope="module")
def pack() -> Pack:
    return read_pack([*SHIPPED, OWN])


def read(pack: Pack, title: str, summary: str = "") -> list[Claim]:
    return claims_by_pattern(replace(ENTRY, title=title, summary=summary), pack)


def facts(pack: Pack, title: str, summary: str = "") -> list[tuple[str, ...]]:
    found = read(pack, title, summary)
    return [(one.subject, one.relation, one.object, one.role) for one in found]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Acme names Jane Doe CEO", ("Acme", "chief_executive", "Jane Doe", "CEO")),
        ("ACME Corp. Appoints Jane Doe As Its New CEO", ("ACME Corp.", "Jane Doe")),
        ("The Acme Group appoints Jane van der Doe chief executive", ("Acme Group", "van der")),
        ("Sport: Acme names Jane Q. Doe CEO after a row", ("Acme", "Jane Q. Doe")),
        ("LONDON (Reuters) - Acme names Jane Doe as CEO, replacing Al", ("Acme", "Jane Doe")),
        (
            "Jane Doe becomes Japan\u2019s prime minister",
            ("Japan", "head_of_government", "Jane Doe"),
        ),
        ("Bhutan now has 1.2 million inhabitants", ("Bhutan", "population", "1.2 million")),
        ("Foo 2.10.1 is now available", ("Foo", "latest_version", "2.10.1")),
        ("Qt Creator version v15.0 released", ("Qt Creator", "15.0")),
        ("Red Town have signed Al Jones from Blue City.", ("Al Jones", "team", "Red Town")),
        ("Mia Roe Sworn In As Director of the FBI", ("FBI", "Mia Roe", "director")),
    ],
)
def test_a_statement_gives_its_fact(pack: Pack, title: str, expected: tuple[str, ...]) -> None:
    [found] = facts(pack, title)

    assert all(any(part in value for value in found) for part in expected), found


def test_the_sentence_is_the_evidence_and_the_pattern_is_named(pack: Pack) -> None:
    summary = "It rained. The row at Acme Inc. ended. Jane Doe succeeds Al Fox as CEO of Acme."

    [claim] = read(pack, "News of the day", summary)

    assert claim.quote == "Jane Doe succeeds Al Fox as CEO of Acme."
    assert claim.extractor == "pattern {new} succeeds {old} as {title} of {subject}"
    assert (claim.old_object, claim.valid_from) == ("Al Fox", DAY)


def test_an_acting_officer_is_noted_and_not_made_part_of_the_role(pack: Pack) -> None:
    [claim] = read(pack, "Mark T. Uyeda Named Acting Chairman of the SEC")

    assert (claim.object, claim.role, claim.note) == ("Mark T. Uyeda", "chairman", "acting")


STATED = "Acme names Jane Doe CEO"


@pytest.mark.parametrize(
    "title",
    [
        "Acme names Jane Doe CEO?",
        "Will Acme name Jane Doe CEO",
        "Is it true: Acme names Jane Doe CEO",
        "Acme denies: Acme names Jane Doe CEO",
        "Rumour: Acme names Jane Doe CEO",
        "Report: Acme names Jane Doe CEO",
        "Acme names Jane Doe CEO, sources say",
        "Acme names Jane Doe CEO, Al Fox claims",
        "Acme names Jane Doe CEO if Al Fox goes",
        "Acme names Jane Doe CEO after the board could not agree",
        "Acme names Jane Doe CEO, board isn't amused",
        "Acme names former rival Jane Doe CEO",
        "Acme names Jane Doe CEO, who was formerly its lawyer",
        "Acme names ex-boss Jane Doe CEO",
        "Acme could name Jane Doe CEO",
        "Acme to name Jane Doe CEO",
        "Acme never names Jane Doe CEO",
        "Acme names Jane Doe CEO of the Year",
        "Acme names Jane Doe CEO in Europe",
        "Acme names Jane Doe CEO candidate",
        "How Acme names Jane Doe CEO",
        "1999: Acme names Jane Doe CEO",
        "Opinion: Acme names Jane Doe CEO",
        "Al Fox says that Acme names Jane Doe CEO",
        "acme names jane doe ceo",
        "Acme names Jane CEO",
        "Acme names J. Doe CEO",
        "Acme names Veteran Banker Jane CEO",
        "Acme Names Red Town Jane Doe CEO",
        "Jane Doe becomes Japan's prime minister-designate",
        "Jane Doe becomes Japan's prime ministerial hope",
        "Foo 2 is now available",
        "Gerücht: Foo erreicht Version 2.0",
        "Foo erreicht Version 2.0 wohl im März",
    ],
)
def test_what_is_asked_denied_guessed_told_or_past_gives_nothing(pack: Pack, title: str) -> None:
    assert facts(pack, STATED)
    assert facts(pack, title) == []


def test_a_doubt_holds_for_its_own_sentence(pack: Pack) -> None:
    summary = "Jane Doe could not be reached. Al Fox denies it."

    assert len(facts(pack, STATED, summary)) == 1


def test_one_fact_said_twice_is_one_claim_and_an_entry_has_five_at_most(pack: Pack) -> None:
    many = ". ".join(f"Acme {name} names Jane Doe CEO" for name in "ABCDEFGH")

    assert len(facts(pack, STATED, f"{STATED}.")) == 1
    assert len(facts(pack, "", many)) == 5


def test_the_year_of_the_entry_tells_what_is_past(pack: Pack) -> None:
    now, past = f"{STATED}, in force 2025", f"{STATED}, in force 2019"

    assert doubt(now, 2025) == ""
    assert doubt(past, 2025) == "tells of 2019"
    assert doubt(past, None) == ""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Mark T. Uyeda left. Dr. Al Fox of Acme Inc. stayed.", 2),
        ("It ended! Who won? Nobody.", 3),
        ("He said “no.” Then he left", 2),
        ("In the U.S. Senate, version 1.2 passed", 1),
        ("", 0),
    ],
)
def test_sentences_end_where_they_end_and_lose_no_letter(text: str, count: int) -> None:
    found = sentences(text)

    assert len(found) == count
    assert " ".join(found) == text


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{new} takes over", "must have {subject} and {new}"),
        ("{new} leads {subject} and {subject}", "once each"),
        ("{new} leads {company} of {subject}", "{company}"),
        ("{new} {subject} wins", "no word between"),
        ("{new} [of] {subject} wins", "no word between"),
        ("{new}{subject} wins", "nothing between"),
        ("{new} [and {old}] leads {subject}", "brackets"),
        ("{new} leads [the {subject}", "brackets"),
        ("{new} (is|was leads {subject}", "brackets"),
        ("{new} - {subject}", "no word of its own"),
        ("{new} [leads] {subject}", "no word of its own"),
        ("{new} becomes {title} of {subject}", "no `titles`"),
        ("{new} could lead {subject}", "doubtful"),
        ("{new} leads {subject} " + "[now] " * 7, "optional"),
        ("{new} leads {subject} " + "well " * 50, "longer than"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(template: str, why: str) -> None:
    own = f"[relations.mayor]\npatterns = [{json.dumps(template)}]"

    with pytest.raises(SettingsError, match=r"relations\.mayor\.patterns") as refused:
        read_pack([*SHIPPED, own])

    assert why in str(refused.value)
    assert "(names|appoints)" in refused.value.hint


def test_patterns_of_kdpo_toml_come_on_top_and_want_a_known_relation() -> None:
    own = {"team": ["{subject} plays for {new} today"]}

    more = read_pack(SHIPPED, own).relations["team"].patterns

    assert [one.text for one in more][-1] == own["team"][0]
    assert len(more) == len(read_pack(SHIPPED).relations["team"].patterns) + 1
    with pytest.raises(
        SettingsError, match=r"extraction\.patterns\.teams.*no \[relations.teams\]"
    ):
        read_pack(SHIPPED, {"teams": own["team"]})


def test_every_repetition_in_a_compiled_pattern_has_a_bound(pack: Pack) -> None:
    patterns = [
        one.pattern.pattern for relation in pack.relations.values() for one in relation.patterns
    ]

    assert len(patterns) > 10
    for pattern in patterns:
        assert re.search(r"(?<!\\)[*+]|\{\d*,\}", pattern) is None, pattern


@pytest.mark.parametrize(
    "text",
    [
        "A" * 4000,
        "Aa " * 1300,
        "Aa of the " * 400,
        "A: " * 1300,
        "Aa names " * 440,
        "Aa named " + "Bb " * 1300,
        "A.B. " * 800,
        "1.1.1.1.1 " * 400,
        "Aa 1.1 is now " * 280,
        "(" * 2000 + ")" * 2000,
    ],
)
def test_hostile_text_is_read_to_its_end(pack: Pack, text: str) -> None:
    for length in (399, 4000):
        assert facts(pack, text[:600], text[:length]) == []
