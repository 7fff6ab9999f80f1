"""Sources against each other, with each other, and against themselves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kdpo_daemon import packs
from kdpo_daemon.facts.acceptance import AcceptancePolicy, Load, decide, is_change
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.facts import Decision, Fact, FactStatus, Said, Slot, Standing
from kdpo_daemon.records.intake import Claim, OpenClaim, Ruling, Trust

POLICY = AcceptancePolicy()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ADA, BO, CY = "Ada Byron", "Bo Diaz", "Cy Young"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return read_pack([packs.text("relations.toml")])


def claim(new: str, since: datetime | None = NOW, old: str = "") -> Claim:
    return Claim("Utopia", "head_of_government", "prime minister", new, old, since, new)


def opened(
    new: str, source: str = "gazette", since: datetime | None = NOW, **others: object
) -> OpenClaim:
    """Give the claim number 100, which waits."""
    made = OpenClaim(
        id=100,
        claim=claim(new, since),
        trust=Trust.AUTO,
        observed_at=NOW,
        source=source,
        publisher=f"{source}.example",
        key="1",
    )
    return replace(made, **others)  # type: ignore[arg-type]


def said(  # the earlier claims have numbers below 100
    number: int,
    new: str,
    source: str = "herald",
    since: datetime | None = NOW,
    ruling: Ruling = Ruling.HELD,
    seen: datetime = NOW,
    **others: object,
) -> Said:
    made = Said(number, new, since, seen, source, f"{source}.example", "1", ruling, True)
    return replace(made, **others)  # type: ignore[arg-type]


def fact(new: str, old: str = "", since: datetime = NOW, source: str = "herald") -> Standing:
    made = Fact(
        id=7,
        subject="Utopia",
        relation="head_of_government",
        role="",
        object=new,
        old_object=old,
        valid_from=since,
        observed_at=NOW,
        status=FactStatus.LIVE,
        reason="",
    )
    return Standing(made, source, "1")


def ruled(
    pack: Pack,
    waiting: OpenClaim,
    *earlier: Said,
    standing: tuple[Standing, ...] = (),
    policy: AcceptancePolicy = POLICY,
    now: datetime = NOW,
) -> Decision:
    own = said(100, waiting.claim.object, waiting.source, waiting.claim.valid_from)
    return decide(waiting, Slot(standing, (*earlier, own)), Load(), pack, policy, now)


# ---------------------------------------------------------------- against each other


def test_two_sources_that_disagree_are_held_with_both_named(pack: Pack) -> None:
    decision = ruled(pack, opened(ADA), said(1, BO))

    assert decision == Decision(Ruling.HELD, "gazette says 'Ada Byron', herald says 'Bo Diaz'")


def test_what_was_believed_first_is_contradicted_too(pack: Pack) -> None:
    accepted = said(1, BO, ruling=Ruling.ACCEPTED)

    decision = ruled(pack, opened(ADA), accepted, standing=(fact(BO),))

    assert decision.ruling is Ruling.HELD


@pytest.mark.parametrize(
    "other",
    [
        said(1, BO, since=NOW - 30 * DAY),  # it was so then
        said(1, BO, ruling=Ruling.REJECTED),
        said(1, BO, current=False),  # its entry says otherwise by now
        said(1, "", since=NOW),  # names nobody
        said(1, "Ada BYRON"),  # another spelling
        said(1, BO, ruling=Ruling.ACCEPTED),  # but superseded since
    ],
    ids=["older", "rejected", "reworded", "empty", "same", "superseded"],
)
def test_what_excludes_nothing_contradicts_nothing(pack: Pack, other: Said) -> None:
    assert ruled(pack, opened(ADA), other).ruling is Ruling.ACCEPTED


def test_a_successor_named_as_such_is_no_contradiction(pack: Pack) -> None:
    newer = opened(ADA, claim=claim(ADA, NOW, old=BO))

    assert ruled(pack, newer, said(1, BO, since=NOW - DAY)).ruling is Ruling.ACCEPTED


def test_a_source_that_says_two_things_at_once_is_held(pack: Pack) -> None:
    decision = ruled(pack, opened(ADA), said(1, BO, "gazette", key="2"))

    assert decision.ruling is Ruling.HELD


def test_a_source_that_lists_old_and_new_is_believed(pack: Pack) -> None:
    old = said(1, BO, "gazette", since=NOW - DAY, key="2")

    assert ruled(pack, opened(ADA), old).ruling is Ruling.ACCEPTED


def test_two_publishers_outvote_one(pack: Pack) -> None:
    decision = ruled(pack, opened(ADA), said(1, BO), said(2, ADA, "courier"))

    assert decision.ruling is Ruling.ACCEPTED


def test_two_feeds_of_one_publisher_have_one_voice(pack: Pack) -> None:
    sister = said(2, ADA, "gazette-sport", publisher="gazette.example")

    assert ruled(pack, opened(ADA), said(1, BO), sister).ruling is Ruling.HELD


def test_a_trusted_source_is_believed_against_others(pack: Pack) -> None:
    policy = replace(POLICY, trusted_sources=("gazette",), sources_needed=3)

    assert ruled(pack, opened(ADA), said(1, BO), policy=policy).ruling is Ruling.ACCEPTED


def test_newer_beats_older_by_validity_not_by_arrival(pack: Pack) -> None:
    standing = (fact(BO, since=NOW),)

    late = ruled(pack, opened(ADA, since=NOW - 30 * DAY), standing=standing)
    newer = ruled(pack, opened(ADA, since=NOW + DAY), standing=standing)

    assert late.ruling is Ruling.REJECTED
    assert "older than fact 7" in late.reason
    assert (newer.ruling, newer.supersedes) == (Ruling.ACCEPTED, 7)


# ---------------------------------------------------------------- other names


LACE = "Ada Lovelace"


def by_alias(new: str, *aliases: str, old: str = "", old_aliases: tuple[str, ...] = ()) -> Claim:
    return replace(claim(new, NOW, old), aliases=aliases, old_aliases=old_aliases)


def test_another_name_of_what_stands_is_no_change_whoever_knows_it(pack: Pack) -> None:
    claimed = opened(LACE, claim=by_alias(LACE, "Countess", "Ada BYRON"))
    standing = replace(fact(ADA), aliases=(LACE,))

    for decision in (
        ruled(pack, claimed, standing=(fact(ADA),)),
        ruled(pack, opened(LACE), standing=(standing,)),
    ):
        assert decision == Decision(Ruling.REJECTED, "same value as fact 7: 'Ada Byron'")


def test_a_source_that_tells_two_apart_is_believed_although_they_share_a_name(pack: Pack) -> None:
    successor = opened(LACE, claim=by_alias(LACE, ADA, old=ADA))

    decision = ruled(pack, successor, standing=(fact(ADA, since=NOW - 30 * DAY),))

    assert decision.ruling is Ruling.ACCEPTED


def test_two_other_names_that_are_alike_say_nothing(pack: Pack) -> None:
    claimed = opened(LACE, claim=by_alias(LACE, "The Countess"))
    standing = replace(fact(BO, since=NOW - 30 * DAY), aliases=("The Countess",))

    assert ruled(pack, claimed, standing=(standing,)).ruling is Ruling.ACCEPTED


def test_publishers_agree_and_do_not_contradict_by_other_names(pack: Pack) -> None:
    claimed = opened(LACE, claim=by_alias(LACE, ADA))
    two = replace(POLICY, sources_needed=2)

    agreed = ruled(pack, claimed, said(1, ADA), policy=two)
    known_there = ruled(pack, opened(ADA), said(1, LACE, aliases=(ADA,)), policy=two)

    itself = ruled(pack, claimed, said(1, ADA, "gazette", key="2"))

    assert {agreed.ruling, known_there.ruling, itself.ruling} == {Ruling.ACCEPTED}


def test_what_a_claim_replaces_may_be_said_by_another_name(pack: Pack) -> None:
    newer = opened(BO, claim=by_alias(BO, old=LACE, old_aliases=(ADA,)))

    assert ruled(pack, newer, said(1, ADA, since=NOW - DAY)).ruling is Ruling.ACCEPTED


def test_of_several_values_the_one_that_is_named_by_another_name_gives_way(pack: Pack) -> None:
    moved = replace(by_alias("Acme", old="IBM", old_aliases=("Big Blue",)), relation="employer")

    ibm = replace(fact("Big Blue Ltd"), aliases=("IBM",))
    for standing in (fact("Big Blue"), ibm):
        decision = ruled(pack, opened("Acme", claim=moved), standing=(standing,))
        assert (decision.ruling, decision.supersedes) == (Ruling.ACCEPTED, 7)


# ---------------------------------------------------------------- with each other


def test_as_many_publishers_as_wanted_must_agree(pack: Pack) -> None:
    policy = replace(POLICY, sources_needed=2)

    alone = ruled(pack, opened(ADA), policy=policy)
    together = ruled(pack, opened(ADA), said(1, "Ada BYRON"), policy=policy)

    assert alone == Decision(Ruling.HELD, "said by 1 of 2 publishers: gazette.example")
    assert together.ruling is Ruling.ACCEPTED


def test_the_operators_own_word_needs_no_second(pack: Pack) -> None:
    policy = replace(POLICY, sources_needed=2, settle_s=3600)

    decision = ruled(pack, opened(ADA, by_hand=True), said(1, BO), policy=policy)

    assert decision.ruling is Ruling.ACCEPTED


# ---------------------------------------------------------------- against themselves


def test_a_claim_is_believed_when_it_has_stood_long_enough(pack: Pack) -> None:
    policy = replace(POLICY, settle_s=3600)

    fresh = ruled(pack, opened(ADA), policy=policy)
    settled = ruled(pack, opened(ADA), policy=policy, now=NOW + timedelta(hours=1))

    assert fresh == Decision(Ruling.HELD, "believed if it still stands at 2026-03-01 13:00 UTC")
    assert settled.ruling is Ruling.ACCEPTED


def test_a_rewording_does_not_start_the_time_anew_but_another_value_does(pack: Pack) -> None:
    policy = replace(POLICY, settle_s=3600)
    first = said(1, ADA, "gazette", seen=NOW - DAY)
    between = said(2, BO, "gazette", seen=NOW - DAY / 2, current=False)

    assert ruled(pack, opened(ADA), first, policy=policy).ruling is Ruling.ACCEPTED
    assert ruled(pack, opened(ADA), first, between, policy=policy).ruling is Ruling.HELD


def test_a_claim_whose_entry_was_reworded_meanwhile_is_rejected(pack: Pack) -> None:
    own = said(100, ADA, "gazette", current=False)

    decision = decide(opened(ADA), Slot((), (own,)), Load(), pack, POLICY, NOW)

    assert decision == Decision(Ruling.REJECTED, "its entry says otherwise by now")


def flips(*values: str, source: str = "gazette") -> list[Said]:
    return [
        said(n, value, source, seen=NOW - DAY / (n + 2), current=False)
        for n, value in enumerate(values)
    ]


def test_a_source_that_flips_a_fact_is_held(pack: Pack) -> None:
    decision = ruled(pack, opened(ADA), *flips(BO, ADA, BO))

    assert decision == Decision(Ruling.HELD, "gazette went back to an earlier value 2 times")


def test_one_correction_is_no_flip(pack: Pack) -> None:
    assert ruled(pack, opened(ADA), *flips(ADA, BO)).ruling is Ruling.ACCEPTED
    assert ruled(pack, opened(ADA), *flips(BO, CY)).ruling is Ruling.ACCEPTED


def test_flips_of_long_ago_are_forgotten(pack: Pack) -> None:
    ago = [replace(one, observed_at=NOW - 90 * DAY) for one in flips(BO, ADA, BO)]

    assert ruled(pack, opened(ADA), *ago).ruling is Ruling.ACCEPTED


def test_a_list_of_all_holders_does_not_flip_when_it_is_reworded(pack: Pack) -> None:
    old = [
        replace(one, key="2", valid_from=NOW - 900 * DAY) if one.object == BO else one
        for one in flips(BO, ADA, BO, ADA, BO)
    ]

    assert ruled(pack, opened(ADA), *old).ruling is Ruling.ACCEPTED


def test_an_entry_that_takes_its_fact_back_reopens_the_old_one(pack: Pack) -> None:
    standing = (fact(BO, old=ADA, since=NOW, source="gazette"),)

    decision = ruled(pack, opened(ADA, since=NOW - 900 * DAY), standing=standing)

    assert decision == Decision(Ruling.ACCEPTED, "passed the rules; gazette took fact 7 back", 7)


def test_who_returns_to_an_office_years_later_takes_nothing_back(pack: Pack) -> None:
    standing = (fact(BO, old=ADA, since=NOW - 1461 * DAY, source="gazette"),)

    decision = ruled(pack, opened(ADA, since=NOW), standing=standing)

    assert decision == Decision(Ruling.ACCEPTED, "passed the rules", 7)


def test_an_entry_that_says_otherwise_corrects_itself_whatever_its_date(pack: Pack) -> None:
    standing = (fact(BO, since=NOW, source="gazette"),)
    earlier = opened(ADA, since=NOW - DAY)

    corrected = ruled(pack, earlier, standing=standing)
    elsewhere = ruled(pack, replace(earlier, key="2"), standing=standing)
    before = replace(earlier, observed_at=NOW - DAY, approved_by="ada")

    assert (corrected.ruling, corrected.supersedes) == (Ruling.ACCEPTED, 7)
    assert elsewhere.ruling is Ruling.REJECTED
    assert ruled(pack, before, standing=standing).ruling is Ruling.REJECTED


def test_another_source_cannot_take_a_fact_back(pack: Pack) -> None:
    standing = (fact(BO, old=ADA, since=NOW, source="herald"),)

    decision = ruled(pack, opened(ADA, since=NOW - 900 * DAY), standing=standing)

    assert decision.ruling is Ruling.REJECTED


# ---------------------------------------------------------------- how many, and of what


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (51 * [("gazette", "head_of_government")], "gazette changes head_of_government 51 times"),
        (201 * [("gazette", "capital")], "gazette brings changes 201 times"),
        (
            [(f"herald {n % 5}", "head_of_government") for n in range(201)],
            "head_of_government is changed 201 times",
        ),
        (201 * [("herald", "head_of_government")], ""),  # a flood of its own keeps nobody out
        (50 * [("gazette", "head_of_government")], ""),
        (201 * [("herald", "capital")], ""),
    ],
)
@pytest.mark.parametrize("passed", [True, False], ids=["passed", "waiting"])
def test_too_many_changes_in_a_day_are_held(
    pack: Pack, load: list[tuple[str, str]], why: str, passed: bool
) -> None:
    counted = Load()
    for source, relation in load:
        if passed:
            counted.accepted[source, relation] += 1
        else:
            counted.waiting[source, relation, NOW.date()] += 1

    decision = decide(opened(ADA), Slot(), counted, pack, POLICY, NOW)
    by_hand = decide(opened(ADA, by_hand=True), Slot(), counted, pack, POLICY, NOW)

    assert decision.ruling is (Ruling.HELD if why else Ruling.ACCEPTED)
    assert why in decision.reason
    assert by_hand.ruling is Ruling.ACCEPTED


def test_changes_seen_on_another_day_do_not_count(pack: Pack) -> None:
    load = Load()
    load.waiting["gazette", "head_of_government", (NOW - DAY).date()] += 500

    assert decide(opened(ADA), Slot(), load, pack, POLICY, NOW).ruling is Ruling.ACCEPTED


def test_only_what_would_change_something_counts(pack: Pack) -> None:
    slot = Slot(standing=(fact(BO),))

    assert is_change(opened(ADA), slot, pack, POLICY)
    for other in (
        opened("Bo DIAZ"),
        opened(""),
        opened("<b>"),
        opened(ADA, by_hand=True),
        opened(ADA, approved_by="ada"),
        opened(ADA, claim=replace(claim(ADA), relation="national_bird")),
        opened(ADA, since=NOW - DAY),
    ):
        assert not is_change(other, slot, pack, POLICY)


@pytest.mark.parametrize(
    ("lists", "why"),
    [
        ({"deny_subjects": ("uto*",)}, "subject 'Utopia' is in [acceptance] deny_subjects"),
        ({"only_subjects": ("France",)}, "subject 'Utopia' is not in [acceptance] only_subjects"),
        ({"deny_relations": ("head_*",)}, "relation 'head_of_government' is in"),
        ({"only_relations": ("capital",)}, "relation 'head_of_government' is not in"),
    ],
)
def test_lists_of_the_operator_come_first(
    pack: Pack, lists: dict[str, tuple[str, ...]], why: str
) -> None:
    policy = AcceptancePolicy(**lists)  # type: ignore[arg-type]

    decision = ruled(pack, opened(ADA, approved_by="ada"), policy=policy)

    assert decision.ruling is Ruling.REJECTED
    assert why in decision.reason


def test_what_is_on_the_lists_passes(pack: Pack) -> None:
    policy = AcceptancePolicy(only_subjects=("utopia",), only_relations=("head_*",))

    assert ruled(pack, opened(ADA), policy=policy).ruling is Ruling.ACCEPTED


def test_a_person_who_holds_a_claim_is_heard_before_the_rules(pack: Pack) -> None:
    decision = ruled(pack, opened(ADA, held_by="ada: the count goes on"))

    assert decision == Decision(Ruling.HELD, "held by ada: the count goes on")


# ---------------------------------------------------------------- several values at once


@pytest.fixture(scope="module")
def several(pack: Pack) -> Pack:
    one = replace(pack.relations["head_of_government"], functional=False)
    return replace(pack, relations={**pack.relations, one.name: one})


def test_several_values_stand_side_by_side(several: Pack) -> None:
    decision = ruled(several, opened(ADA), said(1, BO), standing=(fact(BO),))

    assert decision == Decision(Ruling.ACCEPTED, "passed the rules", None, beside=True)


def test_of_several_values_the_one_that_is_named_gives_way(several: Pack) -> None:
    named = opened(ADA, claim=claim(ADA, NOW - 900 * DAY, old=BO))

    decision = ruled(several, named, standing=(fact(BO),))

    assert decision.supersedes == 7


def test_one_of_several_values_again_is_no_change(several: Pack) -> None:
    assert ruled(several, opened(ADA), standing=(fact(ADA),)).ruling is Ruling.REJECTED


# ---------------------------------------------------------------- what was read from free text


def read_from_text(waiting: OpenClaim) -> OpenClaim:
    return replace(waiting, claim=replace(waiting.claim, extractor="model x 1"))


def test_what_was_read_from_text_waits_for_a_person_even_of_a_trusted_source(pack: Pack) -> None:
    policy = AcceptancePolicy(trusted_sources=("gazette",))
    waiting = read_from_text(opened(ADA))

    held = decide(waiting, Slot(), Load(), pack, policy, NOW)
    approved = decide(replace(waiting, approved_by="ann"), Slot(), Load(), pack, policy, NOW)

    assert (held.ruling, approved.ruling) == (Ruling.HELD, Ruling.ACCEPTED)
    assert "read from free text by model x 1" in held.reason
    assert "read from free text by model x 1" in approved.reason


@pytest.mark.parametrize(
    ("needed", "publishers", "ruling"),
    [
        (0, 5, Ruling.HELD),
        (1, 5, Ruling.HELD),
        (2, 1, Ruling.HELD),
        (2, 2, Ruling.ACCEPTED),
        (3, 2, Ruling.HELD),
    ],
)
def test_or_for_as_many_publishers_as_the_operator_wants(
    pack: Pack, needed: int, publishers: int, ruling: Ruling
) -> None:
    policy = AcceptancePolicy(text_sources_needed=needed)
    others = tuple(
        said(n, ADA, source=f"other{n}", extractor="model x 1") for n in range(1, publishers)
    )

    decision = decide(read_from_text(opened(ADA)), Slot(said=others), Load(), pack, policy, NOW)

    assert decision.ruling is ruling, decision.reason


def test_what_was_read_from_text_neither_supports_nor_hinders_what_is_stated(pack: Pack) -> None:
    rival = Slot(said=(said(1, BO, extractor="model x 1"),))
    friend = Slot(said=(said(1, ADA, extractor="model x 1"),))
    two = AcceptancePolicy(sources_needed=2)

    assert decide(opened(ADA), rival, Load(), pack, POLICY, NOW).ruling is Ruling.ACCEPTED
    assert decide(opened(ADA), friend, Load(), pack, two, NOW).ruling is Ruling.HELD
    assert "says" in decide(read_from_text(opened(ADA)), rival, Load(), pack, POLICY, NOW).reason


def test_a_sources_headlines_do_not_make_what_it_states_waver_or_fresh(pack: Pack) -> None:
    heads = tuple(
        said(n, name, source="gazette", seen=NOW - (9 - n) * DAY / 8, extractor="model x 1")
        for n, name in enumerate([ADA, BO, ADA, BO, ADA, BO], 1)
    )
    before = said(7, ADA, source="gazette", seen=NOW - DAY, key="2")
    settled = AcceptancePolicy(settle_s=3600)
    slot = Slot(said=(before, *heads, said(100, ADA, source="gazette")))

    decision = decide(opened(ADA), slot, Load(), pack, settled, NOW)

    assert decision.ruling is Ruling.ACCEPTED, decision.reason


def test_what_waits_for_a_person_anyway_does_not_count_as_a_change(pack: Pack) -> None:
    waiting = read_from_text(opened(ADA))

    assert not is_change(waiting, Slot(), pack, POLICY)
    assert is_change(waiting, Slot(), pack, AcceptancePolicy(text_sources_needed=2))


# ---------------------------------------------------------------- against a person


def test_an_entry_that_says_again_what_was_revoked_waits_for_a_person(pack: Pack) -> None:
    before = said(1, ADA, "gazette", ruling=Ruling.ACCEPTED, revoked=True)

    again = ruled(pack, opened(ADA), before)
    approved = ruled(pack, opened(ADA, approved_by="ada"), before)

    assert again.ruling is Ruling.HELD
    assert again.reason.startswith("'Ada Byron' was revoked")
    assert approved.ruling is Ruling.ACCEPTED


@pytest.mark.parametrize(
    "other",
    [opened(BO), opened(ADA, source="herald"), opened(ADA, key="2"), opened(ADA, by_hand=True)],
    ids=["another value", "another feed", "another entry", "by hand"],
)
def test_any_other_claim_on_the_slot_of_a_revoked_fact_is_accepted(
    pack: Pack, other: OpenClaim
) -> None:
    before = said(1, ADA, "gazette", ruling=Ruling.ACCEPTED, revoked=True, since=NOW - 30 * DAY)

    assert ruled(pack, other, before).ruling is Ruling.ACCEPTED
