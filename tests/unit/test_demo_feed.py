"""The demo feed: twelve real facts, each of them good from the document to the ruling."""

from datetime import UTC, datetime

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.acceptance import AcceptancePolicy, Load, decide
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.feeds.entries import entries_of
from kdpo_daemon.records.facts import Slot
from kdpo_daemon.records.intake import Claim, Entry, Fetched, OpenClaim, Ruling, Trust

NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return read_pack([packs.text("relations.toml")])


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    body = packs.text("demo_feed.xml").encode()
    return entries_of("demo", Fetched("http://127.0.0.1/demo_feed.xml", body), 500)


@pytest.fixture(scope="module")
def claims(entries: list[Entry], pack: Pack) -> list[Claim]:
    return [claim for entry in entries for claim in claims_of(entry, pack)]


def test_it_holds_twelve_facts_about_twelve_subjects(
    entries: list[Entry], claims: list[Claim]
) -> None:
    assert len(entries) == len(claims) == 12
    assert len({claim.subject for claim in claims}) == 12
    assert all(entry.title and entry.summary for entry in entries)


def test_every_fact_is_accepted(claims: list[Claim], pack: Pack) -> None:
    decisions = [
        decide(OpenClaim(1, claim, Trust.AUTO, NOW), Slot(), Load(), pack, AcceptancePolicy(), NOW)
        for claim in claims
    ]

    assert [decision.ruling for decision in decisions] == [Ruling.ACCEPTED] * 12


def test_the_facts_are_read_as_people_would_say_them(claims: list[Claim]) -> None:
    said = {(claim.subject, claim.role): claim.object for claim in claims}

    assert said == {
        ("Tonga", "prime minister"): "Fatafehi Fakafanua",
        ("Ireland", "president"): "Catherine Connolly",
        ("Japan", "prime minister"): "Sanae Takaichi",
        ("Rwanda", "prime minister"): "Justin Nsengiyumva",
        ("Suriname", "president"): "Jennifer Geerlings-Simons",
        ("Germany", "chancellor"): "Friedrich Merz",
        ("Canada", "prime minister"): "Mark Carney",
        ("Mozambique", "president"): "Daniel Francisco Chapo",
        ("Botswana", "president"): "Duma Boko",
        ("Senegal", "president"): "Bassirou Diomaye Faye",
        ("Finland", "president"): "Alexander Stubb",
        ("Tuvalu", "prime minister"): "Feleti Penitala Teo",
    }


def test_every_fact_is_a_change_of_2024_or_later_seen_before_it_was_published(
    entries: list[Entry], claims: list[Claim]
) -> None:
    for entry, claim in zip(entries, claims, strict=True):
        assert claim.valid_from is not None
        assert entry.published_at is not None
        assert datetime(2024, 1, 1, tzinfo=UTC) < claim.valid_from < entry.published_at
        assert claim.old_object != claim.object


def test_its_subjects_judge_nothing_and_keep_nothing(claims: list[Claim], pack: Pack) -> None:
    country = pack.subject_types["country"]

    subjects = {claim.subject for claim in claims}

    assert not subjects & {*country.keep_subjects, *country.judge_subjects}
