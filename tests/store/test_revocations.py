"""Facts that a person revoked: they end, free their slot, and are due while a version has them."""

import pytest

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.store import adapters, claims, deployments, facts, revocations
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import (
    HOUR,
    NOW,
    adapter,
    batch,
    claim,
    entry,
    fact,
    go_live,
    poll,
    standing,
    version_0,
)

WHY = "revoked by ada: a hoax"


def served(tx: Session, *taught: Fact) -> Adapter:
    """Let a version answer that teaches these facts."""
    made = adapter(tx, batch(tx, taught[0], None, *taught[1:]), *taught)
    go_live(tx, made, NOW)
    return made


@pytest.mark.parametrize("status", [FactStatus.PLANNED, FactStatus.LIVE, FactStatus.ROLLED_BACK])
def test_a_fact_that_is_taught_can_be_revoked_and_gives_its_slot_back(
    database: Database, status: FactStatus
) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.set_fact_status(tx, [made.id], status, "in batch 1", NOW)

        revoked = revocations.revoke(tx, made.id, WHY, NOW + HOUR)

        assert (revoked.status, revoked.reason) == (FactStatus.REVOKED, WHY)
        assert standing(tx) is None
        assert fact(tx, "Bo Diaz").status is FactStatus.PENDING


def test_nothing_that_becomes_of_its_batch_brings_a_revoked_fact_back(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        served(tx, made)
        revocations.revoke(tx, made.id, WHY, NOW)

        for status in (FactStatus.PENDING, FactStatus.LIVE, FactStatus.ROLLED_BACK):
            facts.set_fact_status(tx, [made.id], status, "failed", NOW, failed_attempt=True)

        kept = facts.get_fact(tx, made.id)
        assert (kept.status, kept.reason, kept.attempts) == (FactStatus.REVOKED, WHY, 0)


@pytest.mark.parametrize("status", [FactStatus.PENDING, FactStatus.KNOWN, FactStatus.QUARANTINED])
def test_what_no_version_teaches_is_rejected_and_not_revoked(
    database: Database, status: FactStatus
) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.set_fact_status(tx, [made.id], status, "for the test", NOW)

        with pytest.raises(StoreError, match=rf"fact:1: is {status}.*`kdpo facts reject fact:1`"):
            revocations.revoke(tx, made.id, WHY, NOW)


def test_a_fact_that_waits_for_another_try_can_be_revoked_while_a_version_teaches_it(
    database: Database,
) -> None:
    with database.begin() as tx:
        made = fact(tx)
        served(tx, made)
        facts.set_fact_status(tx, [made.id], FactStatus.QUARANTINED, "did not learn it", NOW)

        assert revocations.revoke(tx, made.id, WHY, NOW).status is FactStatus.REVOKED


def test_what_has_ended_is_not_revoked_and_the_remedy_is_named(database: Database) -> None:
    with database.begin() as tx:
        old = fact(tx)
        served(tx, old)
        new = fact(tx, "Bo Diaz")
        with pytest.raises(StoreError, match=r"fact:1: is superseded.*Fact:2 takes its place"):
            revocations.revoke(tx, old.id, WHY, NOW)

        served(tx, new)
        revocations.revoke(tx, new.id, WHY, NOW)
        with pytest.raises(StoreError, match=r"fact:2: is revoked.*It stays so"):
            revocations.revoke(tx, new.id, WHY, NOW)
        with pytest.raises(StoreError, match="fact:9: is not in the database"):
            revocations.revoke(tx, 9, WHY, NOW)
        with pytest.raises(StoreError, match=r"fact:2: is revoked.*kdpo facts add"):
            facts.release(tx, new.id, "approved by ada", NOW)


def test_what_it_had_replaced_stands_again_and_is_pending(database: Database) -> None:
    with database.begin() as tx:
        old, new = fact(tx), fact(tx, "Bo Diaz")
        served(tx, new)

        revocations.revoke(tx, new.id, WHY, NOW)

        back = facts.get_fact(tx, old.id)
        assert (back.status, back.superseded_by) == (FactStatus.PENDING, None)
        assert standing(tx) == back


@pytest.mark.parametrize("ended", ["revoked", "rejected"])
def test_what_it_had_replaced_is_live_if_the_wanted_version_teaches_it_still(
    database: Database, ended: str
) -> None:
    with database.begin() as tx:
        old = fact(tx)
        version = served(tx, old)
        new = fact(tx, "Bo Diaz")
        if ended == "revoked":
            batch(tx, new)
            revocations.revoke(tx, new.id, WHY, NOW)
        else:
            facts.end(tx, new.id, "rejected by ada", NOW)

        assert facts.get_fact(tx, old.id).status is FactStatus.LIVE
        assert [one.id for one in adapters.taught_again(tx, version.id)] == [old.id]


def test_a_revocation_is_due_until_a_version_without_the_fact_is_wanted(
    database: Database,
) -> None:
    with database.begin() as tx:
        first, other = fact(tx, subject="A"), fact(tx, subject="B")
        both = served(tx, first, other)
        assert revocations.due(tx) == []
        revoked = revocations.revoke(tx, first.id, WHY, NOW)

        assert revocations.due(tx) == [revoked]
        assert [one.id for one in adapters.taught_again(tx, both.id)] == [other.id]
        taught = revocations.taught_by(tx)
        assert taught == {first.id: ["kdpo-000001"]}
        assert revocations.told(revoked, taught) == f"{WHY}; taught still by kdpo-000001"
        assert revocations.among(tx, {first.id, other.id}) == [first.id]

        bare = deployments.deploy(tx, version_0(tx).id, "daemon", "no fact is left", 1, NOW)
        assert revocations.due(tx) == []
        assert revocations.taught_by(tx) == taught  # a server answers with it
        deployments.mark_live(tx, "vllm-0", bare, NOW)
        assert revocations.taught_by(tx) == {}
        assert revocations.told(revoked, {}) == WHY


def test_failed_tries_are_counted_and_told(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        served(tx, made)
        revocations.revoke(tx, made.id, WHY, NOW)

        revocations.postpone(tx, {made.id: NOW + HOUR})

        [due] = revocations.due(tx)
        assert (due.attempts, due.not_before) == (1, NOW + HOUR)
        told = revocations.told(due, revocations.taught_by(tx))
        assert told.endswith("taught still by kdpo-000001, failed tries without it: 1")


def test_the_rules_are_told_what_was_revoked(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        served(tx, made)
        assert not any(one.revoked for one in claims.slot_of(tx, "Utopia", made.relation).said)
        revocations.revoke(tx, made.id, WHY, NOW)
        poll(tx, (entry(new="Bo Diaz"), claim("Bo Diaz")), body=b"2")

        said = claims.slot_of(tx, "Utopia", made.relation).said

        assert [(one.object, one.revoked) for one in said] == [
            ("Ada Byron", True),
            ("Bo Diaz", False),
        ]
