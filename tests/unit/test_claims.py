"""Entries and imported lines become claims."""

import json
from datetime import UTC, datetime

import pytest

from kdpo_daemon import packs
from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.claims import claims_of, entry_of_line
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.intake import Claim, Entry, RawFact

PUBLISHED = datetime(2024, 7, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return read_pack([packs.text("relations.toml")])


def carrying(fact: RawFact | None) -> Entry:
    return Entry("key", "title", "", PUBLISHED, "", fact, "1:0")


def test_an_entry_without_a_fact_claims_nothing(pack: Pack) -> None:
    assert claims_of(carrying(None), pack) == []


def test_a_claim_says_it_in_clean_words_and_quotes_the_publishers(pack: Pack) -> None:
    fact = RawFact(
        "Netherlands",
        "head_of_government",
        new="Prime Minister Dick SCHOOF (since 2 July 2024)",
        old="Prime Minister Mark RUTTE (since 14 October 2010)",
        valid_from="2020-01-01",
    )

    assert claims_of(carrying(fact), pack) == [
        Claim(
            subject="Netherlands",
            relation="head_of_government",
            role="prime minister",
            object="Dick Schoof",
            old_object="Mark Rutte",
            valid_from=datetime(2024, 7, 2, tzinfo=UTC),
            quote="Prime Minister Dick SCHOOF (since 2 July 2024)",
        )
    ]


def test_a_name_that_was_only_corrected_replaces_itself(pack: Pack) -> None:
    fact = RawFact(
        "Belize",
        "head_of_government",
        new="Prime Minister John BRICEÑO (since 12 November 2020)",
        old="Prime Minister Juan Antonio BRICENO (since 12 November 2020)",
    )

    (claim,) = claims_of(carrying(fact), pack)

    assert (claim.object, claim.old_object) == ("John Briceño", "John Briceño")


@pytest.mark.parametrize(
    ("valid_from", "day"),
    [("2022-09-17", datetime(2022, 9, 17, tzinfo=UTC)), ("", PUBLISHED), ("soon", PUBLISHED)],
)
def test_the_date_is_the_entrys_own_or_that_of_publication(
    pack: Pack, valid_from: str, day: datetime
) -> None:
    fact = RawFact("Kazakhstan", "capital", new="Astana", old="Nur-Sultan", valid_from=valid_from)

    (claim,) = claims_of(carrying(fact), pack)

    assert (claim.object, claim.old_object, claim.role) == ("Astana", "Nur-Sultan", "")
    assert claim.valid_from == day


def test_a_vacant_office_gives_a_claim_without_an_object(pack: Pack) -> None:
    fact = RawFact("Japan", "head_of_government", new="vacant (since 7 September 2025)")

    (claim,) = claims_of(carrying(fact), pack)

    assert (claim.object, claim.note) == ("", "vacant")


def test_a_vacant_old_value_leaves_the_old_object_open(pack: Pack) -> None:
    fact = RawFact("Japan", "head_of_government", new="Sanae TAKAICHI", old="vacant")

    (claim,) = claims_of(carrying(fact), pack)

    assert (claim.object, claim.old_object) == ("Sanae Takaichi", "")


@pytest.mark.parametrize(
    ("raw", "read"), [("Astana", "Astana"), ("Mayor Ada BELL (since 2 May 2024)", "Ada Bell")]
)
def test_an_unknown_relation_is_read_by_the_form_of_its_value(
    pack: Pack, raw: str, read: str
) -> None:
    (claim,) = claims_of(carrying(RawFact("Bath", "mayor", new=raw)), pack)

    assert claim.object == read


def test_a_line_becomes_an_entry_like_any_other(pack: Pack) -> None:
    line = {
        "subject": "Netherlands",
        "relation": "head_of_government",
        "old": "Mark Rutte",
        "new": "Dick\u202e \n Schoof",
        "valid_from": "2 July 2024",
        "source": "https://example.org/1",
    }

    entry = entry_of_line(json.dumps(line), 1)
    (claim,) = claims_of(entry, pack)

    assert entry.link == "https://example.org/1"
    assert (claim.object, claim.old_object) == ("Dick Schoof", "Mark Rutte")
    assert claim.valid_from == datetime(2024, 7, 2, tzinfo=UTC)


def test_the_same_line_has_the_same_key_and_another_value_another_one() -> None:
    line = '{"subject": "Kazakhstan", "relation": "capital", "new": "%s"}'

    assert entry_of_line(line % "Astana", 1) == entry_of_line(line % "Astana", 7)
    assert entry_of_line(line % "Astana", 1).key != entry_of_line(line % "Almaty", 1).key


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "not a JSON object"),
        ('{"subject": "X", "relation": "capital"}', "new is missing"),
        ('{"subject": "X", "relation": "capital", "new": " "}', "new is missing"),
        ('{"subject": "X", "relation": "capital", "new": 3}', "new is not a text"),
        ('{"subject": "X", "relation": "capital", "new": "Y", "when": "Z"}', "unknown key"),
        ('{"subject": "X", "relation": "capital", "new": "Y", "valid_from": "Z"}', "no date"),
    ],
)
def test_a_faulty_line_is_refused_by_its_number(line: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as refused:
        entry_of_line(line, 12)

    assert refused.value.subject == "line 12"
    assert refused.value.hint
