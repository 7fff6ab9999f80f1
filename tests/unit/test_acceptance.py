"""Each ruling on a claim, with its reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.acceptance import AcceptancePolicy, Load, decide
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.facts import Decision, Fact, FactStatus, Slot, Standing
from kdpo_daemon.records.intake import Claim, OpenClaim, Ruling, Trust

POLICY = AcceptancePolicy()
SEEN = datetime(2024, 7, 4, tzinfo=UTC)
CLAIM = Claim(
    subject="Netherlands",
    relation="head_of_government",
    role="prime minister",
    object="Dick Schoof",
    old_object="Mark Rutte",
    valid_from=datetime(2024, 7, 2, tzinfo=UTC),
    quote="Prime Minister Dick SCHOOF (since 2 July 2024)",
)
STANDING = Fact(
    id=7,
    subject="Netherlands",
    relation="head_of_government",
    role="prime minister",
    object="Mark Rutte",
    old_object="",
    valid_from=datetime(2010, 10, 14, tzinfo=UTC),
    observed_at=datetime(2024, 1, 1, tzinfo=UTC),
    status=FactStatus.LIVE,
    reason="",
)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return read_pack([packs.text("relations.toml")])


def waiting(claim: Claim, trust: Trust = Trust.AUTO, approved_by: str = "") -> OpenClaim:
    return OpenClaim(1, claim, trust, SEEN, approved_by)


def ruled(
    claim: OpenClaim, standing: Fact | None, pack: Pack, policy: AcceptancePolicy
) -> Decision:
    """Decide with nothing else said on the slot."""
    slot = Slot(standing=(Standing(standing, "herald", "1"),) if standing else ())
    return decide(claim, slot, Load(), pack, policy, SEEN)


def test_a_good_claim_is_accepted(pack: Pack) -> None:
    assert ruled(waiting(CLAIM), None, pack, POLICY) == Decision(
        Ruling.ACCEPTED, "passed the rules"
    )


def test_a_newer_claim_supersedes_the_standing_fact(pack: Pack) -> None:
    decision = ruled(waiting(CLAIM), STANDING, pack, POLICY)

    assert (decision.ruling, decision.supersedes) == (Ruling.ACCEPTED, 7)


def test_an_unknown_relation_waits_for_templates(pack: Pack) -> None:
    decision = ruled(waiting(replace(CLAIM, relation="national_bird")), None, pack, POLICY)

    assert decision == Decision(
        Ruling.HELD,
        "no templates for relation 'national_bird';"
        " add [relations.national_bird] to a pack named in kdpo.toml",
    )


def test_a_vacant_office_is_held_even_if_a_person_approves(pack: Pack) -> None:
    vacant = waiting(replace(CLAIM, object="", note="vacant"), approved_by="ada")

    decision = ruled(vacant, None, pack, POLICY)

    assert decision == Decision(Ruling.HELD, "names nobody or nothing for sure: vacant")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("x" * 61, "61 characters"),
        ("Dick\nSchoof", "line breaks"),
        ("Dick\u2028Schoof", "line breaks"),
        ("Dick\x07Schoof", "control characters"),
        ("...", "no letter"),
        ("see https://example.org", "address"),
        ("www.example.org", "address"),
        ("{subject}", "braces"),
        ("<b>Dick</b>", "markup"),
        ("<|im_end|>", "markup"),
        ("[INST] Dick", "braces"),
        ("Dick &amp; Co", "markup"),
    ],
)
def test_absurd_words_are_rejected(pack: Pack, words: str, why: str) -> None:
    for claim in (replace(CLAIM, object=words), replace(CLAIM, subject=words)):
        decision = ruled(waiting(claim, approved_by="ada"), None, pack, POLICY)

        assert decision.ruling is Ruling.REJECTED
        assert why in decision.reason


def test_an_object_that_is_the_subject_is_rejected(pack: Pack) -> None:
    decision = ruled(waiting(replace(CLAIM, object="NETHERLANDS")), None, pack, POLICY)

    assert decision == Decision(Ruling.REJECTED, "object is the subject")


def test_a_respelling_of_the_old_object_is_rejected(pack: Pack) -> None:
    claim = replace(CLAIM, object="Bernard Goumou", old_object="Bernard Gomou")

    decision = ruled(waiting(claim), None, pack, POLICY)

    assert decision.ruling is Ruling.REJECTED
    assert decision.reason.startswith("same value")


def test_a_respelling_of_the_standing_fact_is_rejected(pack: Pack) -> None:
    standing = replace(STANDING, object="Dick Schoof")
    claim = replace(CLAIM, object="Dick SCHÖÖF", old_object="")

    decision = ruled(waiting(claim), standing, pack, POLICY)

    assert decision == Decision(Ruling.REJECTED, "same value as fact 7: 'Dick Schoof'")


def test_near_spellings_of_plain_values_are_changes(pack: Pack) -> None:
    claim = Claim("Ruritania", "capital", "", "Port Elsa", "Port Elisa", None, "Port Elsa")

    assert ruled(waiting(claim), None, pack, POLICY).ruling is Ruling.ACCEPTED


@pytest.mark.parametrize(
    ("old", "new", "ruling"),
    [
        ("communist state", "communist party-led state", Ruling.HELD),
        ("federal republic", "republic", Ruling.HELD),
        ("parliamentary republic", "presidential republic", Ruling.ACCEPTED),
        ("semi-presidential republic", "presidential republic", Ruling.ACCEPTED),
        ("presidential Islamic republic", "theocratic", Ruling.ACCEPTED),
    ],
)
def test_a_description_in_much_the_same_words_waits_for_a_person(
    pack: Pack, old: str, new: str, ruling: Ruling
) -> None:
    claim = Claim("Ruritania", "government_type", "", new, old, None, new)
    standing = replace(STANDING, subject="Ruritania", relation="government_type", object=old)

    said = ruled(waiting(claim), None, pack, POLICY)
    unsaid = ruled(waiting(replace(claim, old_object="")), standing, pack, POLICY)
    approved = ruled(waiting(claim, approved_by="ada"), standing, pack, POLICY)

    assert said.ruling is unsaid.ruling is ruling
    assert approved.ruling is Ruling.ACCEPTED


@pytest.mark.parametrize(
    ("relation", "new", "standing", "why"),
    [
        ("population", "67.4 million", "67,391,582", "same value"),
        ("employees", "164 thousand", "164,000", "same value"),
        ("currency", "EUR", "euros", "same value"),
        ("latest_version", "3.12.0", "3.12", "same value"),
        ("head_of_state", "Владимир Путин", "Vladimir Putin", "same value"),
    ],
)
def test_two_ways_to_write_a_value_are_no_change(
    pack: Pack, relation: str, new: str, standing: str, why: str
) -> None:
    claim = Claim("Ruritania", relation, "", new, "", None, new)
    fact = replace(STANDING, subject="Ruritania", relation=relation, object=standing)

    decision = ruled(waiting(claim), fact, pack, POLICY)

    assert decision.ruling is Ruling.REJECTED
    assert why in decision.reason


def test_an_earlier_version_waits_for_a_person(pack: Pack) -> None:
    standing = replace(STANDING, subject="Python", relation="latest_version", object="3.13.1")
    repair = Claim("Python", "latest_version", "", "3.11.9", "", None, "3.11.9")

    held = ruled(waiting(repair), standing, pack, POLICY)
    later = ruled(waiting(replace(repair, object="3.13.2")), standing, pack, POLICY)

    assert held.ruling is Ruling.HELD
    assert "is earlier than '3.13.1'" in held.reason
    assert later.ruling is Ruling.ACCEPTED


def test_names_that_share_words_are_other_values(pack: Pack) -> None:
    claim = Claim("Ruritania", "capital", "", "New Elsa", "Elsa", None, "New Elsa")

    assert ruled(waiting(claim), None, pack, POLICY).ruling is Ruling.ACCEPTED


def test_a_claim_older_than_the_standing_fact_is_rejected(pack: Pack) -> None:
    standing = replace(STANDING, valid_from=datetime(2024, 7, 3, tzinfo=UTC))

    decision = ruled(waiting(CLAIM), standing, pack, POLICY)

    assert decision.ruling is Ruling.REJECTED
    assert decision.reason == "older than fact 7, which is valid from 2024-07-03"


def test_a_fact_that_has_not_begun_keeps_no_claim_out_for_good(pack: Pack) -> None:
    """One false date, such as 2204 for 2024, must not silence a slot for ever."""
    ahead = replace(STANDING, valid_from=datetime(2204, 7, 2, tzinfo=UTC))

    assert ruled(waiting(CLAIM), ahead, pack, POLICY) == Decision(
        Ruling.HELD,
        "older than fact 7, which begins only on 2204-07-02; approve it if it holds now",
    )
    assert ruled(waiting(CLAIM, approved_by="ada"), ahead, pack, POLICY) == Decision(
        Ruling.ACCEPTED, "approved by ada", supersedes=7
    )


def test_a_fact_that_had_begun_when_a_claim_was_seen_is_newer(pack: Pack) -> None:
    began = replace(STANDING, valid_from=SEEN)

    assert ruled(waiting(CLAIM), began, pack, POLICY).ruling is Ruling.REJECTED
    assert ruled(waiting(CLAIM, approved_by="ada"), began, pack, POLICY).ruling is Ruling.REJECTED


def test_a_claim_that_was_seen_before_the_fact_is_older_whatever_it_waited_for(
    pack: Pack,
) -> None:
    later = SEEN + timedelta(days=900)
    newer = replace(STANDING, valid_from=later, observed_at=later)

    assert ruled(waiting(CLAIM, approved_by="ada"), newer, pack, POLICY).ruling is Ruling.REJECTED


def test_a_claim_without_a_date_supersedes(pack: Pack) -> None:
    decision = ruled(waiting(replace(CLAIM, valid_from=None)), STANDING, pack, POLICY)

    assert decision.ruling is Ruling.ACCEPTED


def test_a_feed_without_trust_waits_for_a_person(pack: Pack) -> None:
    held = ruled(waiting(CLAIM, Trust.MANUAL), None, pack, POLICY)
    approved = ruled(waiting(CLAIM, Trust.MANUAL, "ada"), None, pack, POLICY)

    assert held == Decision(Ruling.HELD, "its feed needs a person's approval")
    assert approved == Decision(Ruling.ACCEPTED, "approved by ada")


def test_a_person_is_not_asked_about_what_the_rules_reject(pack: Pack) -> None:
    claim = waiting(replace(CLAIM, object="Mark Rutte"), Trust.MANUAL)

    assert ruled(claim, None, pack, POLICY).ruling is Ruling.REJECTED


def test_what_begins_later_waits_for_a_person(pack: Pack) -> None:
    later = replace(CLAIM, valid_from=datetime(2024, 8, 1, tzinfo=UTC))

    assert ruled(waiting(later), None, pack, POLICY) == Decision(
        Ruling.HELD, "begins only on 2024-08-01; approve it then"
    )
    assert ruled(waiting(later, approved_by="ada"), None, pack, POLICY).ruling is Ruling.ACCEPTED


@pytest.mark.parametrize(
    ("capital", "ruling"),
    [
        ("administered from London", Ruling.HELD),
        ("often regarded as being on Diego Garcia", Ruling.HELD),
        ("the Valley", Ruling.ACCEPTED),
        ("den Haag", Ruling.ACCEPTED),
        ("al-Khobar", Ruling.ACCEPTED),
        ("eThekwini", Ruling.ACCEPTED),
    ],
)
def test_a_remark_on_a_place_waits_for_a_person(pack: Pack, capital: str, ruling: Ruling) -> None:
    claim = Claim("Ruritania", "capital", "", capital, "Old Town", None, capital)

    assert ruled(waiting(claim), None, pack, POLICY).ruling is ruling
    assert ruled(waiting(claim, approved_by="ada"), None, pack, POLICY).ruling is Ruling.ACCEPTED


def test_a_holder_that_does_not_read_like_a_name_waits_for_a_person(pack: Pack) -> None:
    odd = replace(CLAIM, object="Director Dick SCHOOF")

    assert "does not read like a name" in ruled(waiting(odd), None, pack, POLICY).reason
    assert ruled(waiting(odd, approved_by="ada"), None, pack, POLICY).ruling is Ruling.ACCEPTED
