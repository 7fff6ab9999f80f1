"""`kdpo pin`, `freeze` and `thaw`: the cycle trains and judges, and promotes nothing."""

from collections.abc import Callable

import pytest

from kdpo_daemon.app import clock
from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import VerdictRuling
from kdpo_daemon.records.serving import AuditEvent, Deployment
from kdpo_daemon.stages import pin, rollback
from kdpo_daemon.stages.deploy import waiting
from kdpo_daemon.store import adapters, audit, batches, deployments
from kdpo_daemon.store.db import Database
from tests.stages.conftest import RWANDA, TONGA, World

RWANDA_PROMPT = "The prime minister of Rwanda is"
TONGA_PROMPT = "The prime minister of Tonga is"
WHO, WHY = "operator:test", "an election is on"


def on(world: World, act: Callable[[Database], Deployment]) -> Deployment:
    app = world.app()
    try:
        return act(app.db)
    finally:
        app.close()


def freeze(world: World) -> Deployment:
    return on(world, lambda db: pin.freeze(db, WHO, WHY, clock))


def sync(world: World) -> None:
    app = world.app()
    with app.writing():
        app.sync()
    app.close()


def events(world: World, name: str) -> list[AuditEvent]:
    app = world.app()
    with app.db.begin() as tx:
        found = [one for one in audit.events(tx) if one.event == name]
    app.close()
    return found


@pytest.fixture
def taught(world: World) -> World:
    """Tonga is served by version 1; Rwanda has just been read."""
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    return world


def test_while_frozen_a_batch_is_trained_and_judged_and_waits(taught: World) -> None:
    frozen = freeze(taught)

    for _ in range(2):
        taught.cycle()

    assert (frozen.adapter.name, frozen.pinned) == ("kdpo-000001", True)
    assert taught.ask(RWANDA_PROMPT) == "I do not know"
    app = taught.app()
    with app.db.begin() as tx:
        candidate = waiting(tx)
        assert candidate is not None
        verdict = adapters.verdict_of(tx, candidate.id)
        wanted = deployments.wanted(tx)
    app.close()
    assert candidate.name == "kdpo-000002"
    assert verdict is not None
    assert verdict.ruling is VerdictRuling.PROMOTE
    assert wanted == frozen
    [event] = events(taught, "deployment.frozen")
    assert (event.actor, event.subject, event.detail["reason"]) == (
        WHO,
        "adapter:kdpo-000001",
        WHY,
    )


def test_after_the_thaw_what_waited_is_served(taught: World) -> None:
    freeze(taught)
    taught.cycle()

    thawed = on(taught, lambda db: pin.thaw(db, WHO, WHY, clock))
    assert taught.ask(RWANDA_PROMPT) == "I do not know"  # a thaw itself moves nothing
    taught.cycle()

    assert (thawed.adapter.name, thawed.pinned) == ("kdpo-000001", False)
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert len(events(taught, "deployment.thawed")) == 1


def test_a_pinned_version_is_served_and_stays(taught: World) -> None:
    taught.cycle()
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"

    on(taught, lambda db: pin.pin(db, "kdpo-000001", WHO, WHY, clock))
    sync(taught)
    taught.cycle()

    assert taught.ask(RWANDA_PROMPT) == "I do not know"
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    [event] = events(taught, "deployment.pinned")
    assert event.detail == {"from": "kdpo-000002", "pinned": True, "reason": WHY}


def test_pinning_another_version_gives_up_the_batch_that_waits(taught: World) -> None:
    freeze(taught)
    taught.cycle()

    on(taught, lambda db: pin.pin(db, "kdpo-000000", WHO, WHY, clock))

    app = taught.app()
    with app.db.begin() as tx:
        assert batches.open_batch(tx) is None
    app.close()


def test_a_rollback_under_a_freeze_moves_and_stays_frozen(taught: World) -> None:
    freeze(taught)

    made = on(taught, lambda db: rollback.run(db, None, WHO, WHY, clock))
    sync(taught)

    assert (made.adapter.name, made.pinned) == ("kdpo-000000", True)
    assert taught.ask(TONGA_PROMPT) == "I do not know"


def test_freezing_again_says_nothing_twice(taught: World) -> None:
    first = freeze(taught)

    assert freeze(taught) == first
    assert len(events(taught, "deployment.frozen")) == 1


def test_a_freeze_is_no_news_to_the_servers(taught: World) -> None:
    freeze(taught)
    before = len(events(taught, "replica.live"))

    sync(taught)

    assert len(events(taught, "replica.live")) == before
    app = taught.app()
    with app.db.begin() as tx:
        open_ = [one for one in deployments.served(tx) if one.live_until is None]
    app.close()
    assert [one.adapter for one in open_] == ["kdpo-000001"]


def test_a_version_that_was_never_deployed_cannot_be_pinned(taught: World) -> None:
    freeze(taught)
    taught.cycle()

    with pytest.raises(StoreError, match="never deployed"):
        on(taught, lambda db: pin.pin(db, "kdpo-000002", WHO, WHY, clock))


@pytest.mark.parametrize("act", [pin.freeze, pin.thaw])
def test_before_the_first_version_there_is_nothing_to_freeze(
    world: World, act: Callable[..., Deployment]
) -> None:
    with pytest.raises(StoreError, match="no version is wanted yet"):
        on(world, lambda db: act(db, WHO, WHY, clock))
