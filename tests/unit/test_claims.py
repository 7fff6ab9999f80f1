"""Entries become claims."""

from datetime import UTC, datetime

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.claims import claims_of
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
    ("subject", "relation", "raw", "read", "role"),
    [
        ("London", "mayor", "Mayor of London Sadiq Khan", "Sadiq Khan", "mayor"),
        ("Mali", "head_of_state", "President of Mali Assimi GOITA", "Assimi Goita", "president"),
        ("Amazon", "chief_executive", "Amazon CEO Andy Jassy", "Andy Jassy", "CEO"),
        ("Amazon", "chief_executive", "Amazon\u2019s CEO Andy Jassy", "Andy Jassy", "CEO"),
        ("Georgia", "captain", "Captain Georgia Bell", "Georgia Bell", "captain"),
        ("Jordan", "coach", "Jordan Peterson", "Jordan Peterson", ""),
    ],
)  # fmt: skip
def test_whose_office_it_is_stands_in_the_subject(
    pack: Pack, subject: str, relation: str, raw: str, read: str, role: str
) -> None:
    (claim,) = claims_of(carrying(RawFact(subject, relation, new=raw)), pack)

    assert (claim.object, claim.role) == (read, role)


def test_of_a_description_in_parts_only_what_changed_is_claimed(pack: Pack) -> None:
    fact = RawFact(
        "Barbados",
        "government_type",
        new="parliamentary republic; a Commonwealth realm",
        old="parliamentary democracy under a constitutional monarchy; a Commonwealth realm",
    )
    swapped = RawFact("Guam", "government_type", new="a territory; a democracy", old="a democracy; a territory")  # noqa: E501 # fmt: skip

    ((claim,), (other,)) = (claims_of(carrying(one), pack) for one in (fact, swapped))

    assert claim.object == "parliamentary republic"
    assert claim.old_object == "parliamentary democracy under a constitutional monarchy"
    assert (other.object, other.note) == ("", "several values")


def test_a_number_is_of_its_year(pack: Pack) -> None:
    fact = RawFact("Kenya", "population", new="57.05 million (2023 est.)", old="55.9 million (2022 est.)")  # noqa: E501 # fmt: skip

    (claim,) = claims_of(carrying(fact), pack)

    assert (claim.object, claim.old_object) == ("57.05 million", "55.9 million")
    assert claim.valid_from == datetime(2023, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "read"), [("Astana", "Astana"), ("Mayor Ada BELL (since 2 May 2024)", "Ada Bell")]
)
def test_an_unknown_relation_is_read_by_the_form_of_its_value(
    pack: Pack, raw: str, read: str
) -> None:
    (claim,) = claims_of(carrying(RawFact("Bath", "mayor", new=raw)), pack)

    assert claim.object == read
