"""Decisions, facts, and what takes their place."""

import threading

import pytest
import sqlalchemy as sa

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import Decision, FactStatus
from kdpo_daemon.records.intake import Ruling
from kdpo_daemon.records.teaching import AnswerPurpose
from kdpo_daemon.store import claims, facts, probes, stories
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import (
    HOUR,
    NOW,
    adapter,
    ask,
    batch,
    claim,
    entry,
    fact,
    go_live,
    judge,
    poll,
    probe,
    standing,
)


def test_an_accepted_claim_becomes_a_pending_fact(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)

        assert (made.subject, made.object) == ("Utopia", "Ada Byron")
        assert (made.status, made.reason) == (FactStatus.PENDING, "the feed is trusted")
        assert made.observed_at == NOW
        assert claims.open_claims(tx) == []


def test_deciding_twice_gives_the_same_fact(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]
        decision = Decision(Ruling.ACCEPTED, "trusted")

        first = facts.decide(tx, waiting.id, decision, NOW)
        second = facts.decide(tx, waiting.id, decision, NOW + HOUR)

        assert first == second
        assert len(facts.list_facts(tx)) == 1


@pytest.mark.parametrize("ruling", [Ruling.HELD, Ruling.REJECTED])
def test_a_claim_that_is_not_accepted_makes_no_fact(database: Database, ruling: Ruling) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]

        assert facts.decide(tx, waiting.id, Decision(ruling, "no"), NOW) is None

        assert facts.list_facts(tx) == []
        assert len(claims.open_claims(tx)) == (ruling is Ruling.HELD)


def decided_at(tx: Session) -> object:
    return tx.connection().execute(sa.text("SELECT decided_at FROM claim")).scalar_one()


def test_holding_again_for_the_same_reason_writes_nothing(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]
        facts.decide(tx, waiting.id, Decision(Ruling.HELD, "untrusted"), NOW)
        tx.flush()
        before = decided_at(tx)

        facts.decide(tx, waiting.id, Decision(Ruling.HELD, "untrusted"), NOW + HOUR)
        tx.flush()
        same = decided_at(tx)
        facts.decide(tx, waiting.id, Decision(Ruling.HELD, "vacant"), NOW + HOUR)
        tx.flush()

        assert same == before
        assert decided_at(tx) != before
        assert [why for _, why in claims.held_claims(tx)] == ["vacant"]


def test_an_approval_is_seen_by_the_next_look(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]
        facts.decide(tx, waiting.id, Decision(Ruling.HELD, "untrusted"), NOW)

        claims.approve(tx, waiting.id, "ada", NOW)

        assert claims.open_claims(tx)[0].approved_by == "ada"


def test_a_newer_fact_supersedes_the_standing_one(database: Database) -> None:
    with database.begin() as tx:
        old, new = fact(tx), fact(tx, "Bo Diaz")

        assert standing(tx, "Utopia", "head_of_government") == new
        assert new.old_object == "Ada Byron"
        replaced = facts.get_fact(tx, old.id)
        assert (replaced.status, replaced.superseded_by) == (FactStatus.SUPERSEDED, new.id)


def test_a_slot_is_found_whatever_the_case_and_spacing_of_its_subject(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx, subject="Straße  Nord")

        assert standing(tx, "STRASSE NORD", "head_of_government") == made
        assert standing(tx, "Strasse Nord", "capital") is None


def test_the_database_refuses_a_second_standing_fact_in_a_slot(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
        fact(tx)
        poll(tx, (entry(new="Bo"), claim("Bo")), body=b"2")
        waiting = claims.open_claims(tx)[0]
        facts.decide(tx, waiting.id, Decision(Ruling.ACCEPTED, "trusted"), NOW)


def test_a_superseded_fact_never_comes_back(database: Database) -> None:
    with database.begin() as tx:
        old, _ = fact(tx), fact(tx, "Bo Diaz")

        facts.set_fact_status(tx, [old.id], FactStatus.LIVE, "served", NOW)

        assert facts.get_fact(tx, old.id).status is FactStatus.SUPERSEDED


def test_facts_wait_until_their_time(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.set_fact_status(
            tx, [made.id], FactStatus.PENDING, "failed", NOW, not_before=NOW + HOUR
        )

        assert facts.pending_facts(tx, NOW, 10) == []
        assert [one.id for one in facts.pending_facts(tx, NOW + HOUR, 10)] == [made.id]


def test_pending_facts_come_oldest_first_up_to_the_limit(database: Database) -> None:
    with database.begin() as tx:
        first = fact(tx, subject="A")
        second = fact(tx, subject="B")
        fact(tx, subject="C")

        assert facts.pending_facts(tx, NOW, 2) == [first, second]


def test_a_held_fact_is_in_no_batch_until_it_is_released(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)

        facts.hold(tx, made.id, "held by ada", NOW)
        held = facts.pending_facts(tx, NOW, 10)
        facts.release(tx, made.id, "approved by ada", NOW)

        assert held == []
        assert [one.id for one in facts.pending_facts(tx, NOW, 10)] == [made.id]


def test_a_fact_that_is_ended_gives_the_slot_back_to_the_one_it_replaced(
    database: Database,
) -> None:
    with database.begin() as tx:
        old, new = fact(tx), fact(tx, "Bo Diaz")

        facts.end(tx, new.id, "rejected by ada", NOW)

        assert facts.get_fact(tx, new.id).status is FactStatus.SUPERSEDED
        back = facts.get_fact(tx, old.id)
        assert (back.status, back.superseded_by) == (FactStatus.PENDING, None)
        assert standing(tx) == back


def test_a_served_fact_is_not_ended_before_it_is_taken_back(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.set_fact_status(tx, [made.id], FactStatus.LIVE, "served", NOW)

        with pytest.raises(StoreError, match=r"is live.*kdpo rollback"):
            facts.end(tx, made.id, "rejected by ada", NOW)
        with pytest.raises(StoreError, match=r"is live; this can be done while it is pending"):
            facts.hold(tx, made.id, "held by ada", NOW)


def test_several_facts_stand_side_by_side_where_a_relation_has_several_values(
    database: Database,
) -> None:
    with database.begin() as tx:
        for n, name in enumerate(("Ada Byron", "Bo Diaz")):
            poll(tx, (entry(name), claim(name)), body=name.encode())
            waiting = claims.open_claims(tx)[0]
            assert facts.decide(tx, waiting.id, Decision(Ruling.ACCEPTED, "x", beside=True), NOW)
            assert len(claims.slot_of(tx, "Utopia", "head_of_government").standing) == n + 1


def test_a_failed_attempt_counts_once_however_often_it_is_put_down(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.set_fact_status(tx, [made.id], FactStatus.PLANNED, "in batch 1", NOW)

        for _ in range(2):
            facts.set_fact_status(
                tx, [made.id], FactStatus.PENDING, "not learned", NOW, failed_attempt=True
            )

        assert facts.get_fact(tx, made.id).attempts == 1


def test_groups_are_told_apart_and_end_with_what_they_are_for(database: Database) -> None:
    with database.begin() as tx:
        one, two, three = (fact(tx, subject=name) for name in "ABC")

        facts.group(tx, [one.id, two.id])
        facts.group(tx, [three.id])
        numbers = [facts.get_fact(tx, each.id).together for each in (one, two, three)]
        facts.group(tx, [one.id])
        split = [facts.get_fact(tx, each.id).together for each in (one, two, three)]
        facts.ungroup(tx, [one.id, two.id])

        assert (numbers, split) == ([1, 1, 2], [3, 1, 2])
        assert facts.get_fact(tx, one.id).together is None
        assert facts.get_fact(tx, three.id).together == 2


@pytest.mark.parametrize(
    ("status", "stays"),
    [
        (FactStatus.PENDING, True),
        (FactStatus.PLANNED, True),
        (FactStatus.QUARANTINED, True),
        (FactStatus.KNOWN, False),
        (FactStatus.LIVE, False),
        (FactStatus.ROLLED_BACK, False),
        (FactStatus.SUPERSEDED, False),
    ],
)
def test_a_fact_stays_in_its_group_only_while_it_may_be_taught_again(
    database: Database, status: FactStatus, *, stays: bool
) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.group(tx, [made.id])

        facts.set_fact_status(tx, [made.id], status, "so it is", NOW)

        assert (facts.get_fact(tx, made.id).together is not None) is stays


def test_a_fact_that_stands_again_is_in_no_group(database: Database) -> None:
    with database.begin() as tx:
        old = fact(tx)
        facts.group(tx, [old.id])
        new = fact(tx, "Bo Diaz")

        facts.end(tx, new.id, "rejected by ada", NOW)

        assert facts.get_fact(tx, old.id).status is FactStatus.PENDING
        assert facts.get_fact(tx, old.id).together is None


def test_facts_are_listed_and_counted_by_status(database: Database) -> None:
    with database.begin() as tx:
        old, new = fact(tx), fact(tx, "Bo Diaz")

        assert [one.id for one in facts.list_facts(tx)] == [new.id, old.id]
        assert [one.id for one in facts.list_facts(tx, limit=1)] == [new.id]
        assert [one.id for one in facts.list_facts(tx, FactStatus.SUPERSEDED)] == [old.id]
        assert facts.facts_with(tx, FactStatus.PENDING) == [new]
        assert facts.count_by_status(tx) == {FactStatus.PENDING: 1, FactStatus.SUPERSEDED: 1}


def test_a_fact_that_is_not_there_is_an_error(database: Database) -> None:
    with database.begin() as tx, pytest.raises(StoreError, match="fact:7: is not in the database"):
        facts.get_fact(tx, 7)


def test_the_story_of_a_fact_goes_from_its_evidence_to_the_servers(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        question = probes.save_probes(tx, [probe(made.id)], NOW)[0]
        ask(tx, question, "Cy Young", None, AnswerPurpose.PRIOR)
        trained = adapter(tx, batch(tx, made), made)
        ask(tx, question, "Ada Byron", trained.id, AnswerPurpose.CANARY)
        judge(tx, trained)
        go_live(tx, trained, NOW + HOUR)

        story = stories.story(tx, made.id)

        assert story.fact.status is FactStatus.LIVE
        assert story.evidence.claim.quote == "Ada Byron is prime minister."
        assert (story.evidence.feed, story.evidence.key) == ("gazette", "Utopia")
        assert [(one.adapter, one.text) for one in story.answers] == [
            ("", "Cy Young"),
            ("kdpo-000001", "Ada Byron"),
        ]
        teaching = story.teachings[0]
        assert teaching.adapter == trained
        assert len(teaching.scores) == 5
        assert teaching.deployments[0].reason == "promoted"
        assert (teaching.served[0].live_from, teaching.served[0].live_until) == (NOW + HOUR, None)


def test_a_second_writer_waits_and_finds_the_same_fact(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]
    made: list[int | None] = []

    def accept(tx: Session) -> None:
        made.append(facts.decide(tx, waiting.id, Decision(Ruling.ACCEPTED, "trusted"), NOW))

    def accept_too() -> None:
        with database.begin() as tx:
            accept(tx)

    second = threading.Thread(target=accept_too)
    with database.begin() as tx:
        accept(tx)
        second.start()
        second.join(0.3)
        waited = second.is_alive()
    second.join()

    assert waited
    assert made == [1, 1]
