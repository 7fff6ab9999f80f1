"""The lease is kept while it can be, and nothing is begun once it may be another daemon's."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session

from kdpo_daemon.app import clock
from kdpo_daemon.errors import LeaseHeldError, StoreError
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.stages import rollback
from kdpo_daemon.store import deployments, leases
from kdpo_daemon.store.db import Database
from kdpo_daemon.telemetry import StateMetrics
from kdpo_daemon.writer import Writer
from tests.fakes import FakeVllm
from tests.stages.conftest import World

START = datetime(2026, 3, 1, tzinfo=UTC)


class Shaky(Database):
    """Fails the first transactions after it was told to."""

    failures = 0
    error: Exception = StoreError("database is locked")

    @contextmanager
    def begin(self) -> Iterator[Session]:
        if self.failures > 0:
            self.failures -= 1
            raise self.error
        with super().begin() as tx:
            yield tx


@pytest.fixture
def db(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Shaky]:
    shaky = Shaky(f"sqlite:///{tmp_path / 'kdpo.db'}")
    shaky.upgrade()
    yield shaky
    shaky.dispose()


def soon(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_database_that_is_busy_for_a_moment_does_not_cost_the_lease(db: Shaky) -> None:
    writer = Writer(1, lambda: START)
    with writer.holding(db):
        db.failures = 1

        assert soon(lambda: db.failures == 0)
        time.sleep(0.4)  # and the next renewal goes well
        assert not writer.lost
        assert writer.fencing() == 1


def test_a_lease_that_another_daemon_took_is_lost(db: Shaky) -> None:
    now = [START]
    writer = Writer(1, lambda: now[0])
    with writer.holding(db):
        with db.begin() as tx:
            leases.acquire(tx, "writer", "another", START + timedelta(hours=1), 3600)

        assert soon(lambda: writer.lost)
        with pytest.raises(StoreError, match="is not held"):
            writer.fencing()


def test_a_daemon_that_slept_past_the_end_of_its_lease_begins_nothing(db: Shaky) -> None:
    """As on a machine that was suspended: another took over, and the keeper had no turn yet."""
    now = [START]
    writer = Writer(3600, lambda: now[0])
    with writer.holding(db):
        now[0] = START + timedelta(hours=2)
        with db.begin() as tx:
            leases.acquire(tx, "writer", "another", now[0], 3600)

        with pytest.raises(StoreError, match="is not held"):
            writer.fencing()


def test_a_daemon_that_slept_goes_on_if_nobody_took_over(db: Shaky) -> None:
    now = [START]
    writer = Writer(3600, lambda: now[0])
    with writer.holding(db):
        now[0] = START + timedelta(hours=2)

        assert writer.fencing() == 1
        with db.begin() as tx, pytest.raises(LeaseHeldError):
            leases.acquire(tx, "writer", "another", now[0], 3600)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_keeper_that_crashed_counts_as_a_lost_lease(db: Shaky) -> None:
    writer = Writer(1, lambda: START)
    with writer.holding(db):
        db.error, db.failures = RuntimeError("a bug"), 1

        assert soon(lambda: writer.lost)


def test_a_roll_out_ends_where_the_lease_is_lost(pair: tuple[World, FakeVllm]) -> None:
    world, second = pair
    world.cycle()
    app = world.app()
    rollback.run(app.db, "kdpo-000000", "operator:test", "a drill", clock)

    def take_over(route: str) -> None:
        if route == "/v1/unload_lora_adapter":
            app._writer._lost.set()

    world.vllm.after = take_over
    with app.writing(), pytest.raises(StoreError, match="is not held"):
        app.sync()
    app.close()

    assert second.loaded["prod"].name == "kdpo-000001.prod"


def test_the_metric_shows_who_has_what_is_wanted_and_not_who_is_gone(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    world.cycle()
    app = world.app()
    with app.db.begin() as tx:
        deployments.set_replica(tx, "two", "", ReplicaStatus.FAILED, "no answer", clock())
        deployments.set_replica(tx, "pod-7", "", ReplicaStatus.LOADING, "", clock())
        deployments.mark_gone(tx, "pod-7", clock())
    metrics = {one.name: one for one in StateMetrics(app.db).collect()}
    app.close()

    told = {one.labels["replica"]: one.value for one in metrics["kdpo_adapter_in_sync"].samples}
    assert told == {"one": 1.0, "two": 0.0}
