"""What is wanted, what is served, and who may write."""

import pytest
import sqlalchemy as sa

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.store import deployments, leases
from kdpo_daemon.store.db import Database
from tests.store.builders import HOUR, NOW, adapter, batch, fact, go_live, version_0


def test_the_newest_deployment_is_wanted(database: Database) -> None:
    with database.begin() as tx:
        nothing = deployments.wanted(tx)
        zero = version_0(tx)
        made = fact(tx)
        one = adapter(tx, batch(tx, made), made)

        first = deployments.deploy(tx, zero.id, "daemon", "first start", 1, NOW)
        second = deployments.deploy(tx, one.id, "gate", "promoted", 1, NOW)
        again = deployments.deploy(tx, one.id, "gate", "promoted", 2, NOW + HOUR)
        back = deployments.deploy(tx, zero.id, "ada", "rollback", 2, NOW + HOUR)

        assert nothing is None
        assert again == second
        assert deployments.wanted(tx) == back
        assert deployments.list_deployments(tx) == [back, second, first]
        assert deployments.list_deployments(tx, limit=1) == [back]


def test_a_replica_answers_with_one_adapter_at_a_time(database: Database) -> None:
    with database.begin() as tx:
        zero = version_0(tx)
        made = fact(tx)
        one = adapter(tx, batch(tx, made), made)

        go_live(tx, zero, NOW)
        go_live(tx, one, NOW + HOUR)

        newest, oldest = deployments.served(tx)
        assert (newest.adapter, newest.live_from, newest.live_until) == (
            one.name,
            NOW + HOUR,
            None,
        )
        assert (oldest.adapter, oldest.live_from, oldest.live_until) == (
            zero.name,
            NOW,
            NOW + HOUR,
        )


def test_marking_live_twice_is_no_news(database: Database) -> None:
    with database.begin() as tx:
        made = deployments.deploy(tx, version_0(tx).id, "daemon", "first start", 1, NOW)

        first = deployments.mark_live(tx, "vllm-0", made, NOW)
        again = deployments.mark_live(tx, "vllm-0", made, NOW + HOUR)

        assert (first, again) == (True, False)
        assert len(deployments.served(tx)) == 1


def test_the_database_refuses_a_second_open_interval(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
        go_live(tx, version_0(tx), NOW)
        tx.connection().execute(
            sa.text(
                "INSERT INTO served (replica, deployment_id, adapter_id, live_from)"
                " SELECT replica, deployment_id, adapter_id, live_from FROM served"
            )
        )


def test_replicas_are_served_apart(database: Database) -> None:
    with database.begin() as tx:
        made = deployments.deploy(tx, version_0(tx).id, "daemon", "first start", 1, NOW)
        for name in ("b", "a"):
            deployments.set_replica(tx, name, f"http://{name}", ReplicaStatus.LOADING, "", NOW)
            deployments.mark_live(tx, name, made, NOW)

        states = deployments.replicas(tx)

        assert [(one.name, one.url, one.state) for one in states] == [
            ("a", "http://a", ReplicaStatus.LIVE),
            ("b", "http://b", ReplicaStatus.LIVE),
        ]
        assert {one.deployment_id for one in states} == {made.id}
        assert len(deployments.served(tx)) == 2


def test_a_replica_that_fails_keeps_what_was_live_last(database: Database) -> None:
    with database.begin() as tx:
        made = go_live(tx, version_0(tx), NOW)

        deployments.set_replica(
            tx, "vllm-0", "http://a", ReplicaStatus.FAILED, "no answer", NOW + HOUR
        )

        state = deployments.replicas(tx)[0]
        assert (state.state, state.error) == (ReplicaStatus.FAILED, "no answer")
        assert (state.deployment_id, state.checked_at) == (made.id, NOW + HOUR)


def test_a_lease_keeps_others_out_until_it_ends(database: Database) -> None:
    with database.begin() as tx:
        leases.acquire(tx, "writer", "a:1", NOW, 60)

        with pytest.raises(StoreError, match=r"held by a:1 until 2026-03-01T12:01:00\+00:00"):
            leases.acquire(tx, "writer", "b:2", NOW, 60)


def test_taking_over_an_ended_lease_raises_its_fencing(database: Database) -> None:
    with database.begin() as tx:
        first = leases.acquire(tx, "writer", "a:1", NOW, 60)
        kept = leases.acquire(tx, "writer", "a:1", NOW, 120)

        taken = leases.acquire(tx, "writer", "b:2", NOW + HOUR, 60)

        assert (first.fencing, kept.fencing, taken.fencing) == (1, 1, 2)
        with pytest.raises(StoreError, match="lost to b:2"):
            leases.renew(tx, first, NOW + HOUR, 60)


def test_the_same_holder_back_after_the_end_is_fenced_anew(database: Database) -> None:
    with database.begin() as tx:
        leases.acquire(tx, "writer", "a:1", NOW, 60)

        assert leases.acquire(tx, "writer", "a:1", NOW + HOUR, 60).fencing == 2


def test_renewing_moves_the_end(database: Database) -> None:
    with database.begin() as tx:
        lease = leases.acquire(tx, "writer", "a:1", NOW, 60)

        assert leases.renew(tx, lease, NOW + HOUR, 60).expires_at > NOW + HOUR
        with pytest.raises(StoreError):
            leases.acquire(tx, "writer", "b:2", NOW + HOUR, 60)


def test_a_released_lease_is_free_and_its_fencing_goes_on(database: Database) -> None:
    with database.begin() as tx:
        lease = leases.acquire(tx, "writer", "a:1", NOW, 60)

        leases.release(tx, lease)
        leases.release(tx, lease)

        assert leases.acquire(tx, "writer", "b:2", NOW, 60).fencing == 2


def test_a_lost_lease_cannot_be_released(database: Database) -> None:
    with database.begin() as tx:
        lost = leases.acquire(tx, "writer", "a:1", NOW, 60)
        leases.acquire(tx, "writer", "b:2", NOW + HOUR, 60)

        leases.release(tx, lost)

        with pytest.raises(StoreError, match="held by b:2"):
            leases.acquire(tx, "writer", "c:3", NOW + HOUR, 60)
