"""Killed between any two steps, the daemon goes on where it was: nothing is lost or done twice."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import Session

from kdpo_daemon.app import App, clock
from kdpo_daemon.errors import LeaseHeldError
from kdpo_daemon.servers import connect
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.stages import revoke
from kdpo_daemon.store import audit, facts
from kdpo_daemon.store.db import Database
from tests.fakes import FakeVllm
from tests.stages.conftest import FeedServer, World, build


class Killed(BaseException):
    """As kill -9: nothing in the process may handle it."""


class Steps:
    """Counts what the process does to the world outside, and dies at the n-th step."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.done = 0
        self.thread = threading.get_ident()

    def step(self) -> None:
        if threading.get_ident() != self.thread:
            return  # the lease's keeper: its steps come when they come
        self.done += 1
        if self.done == self.last:
            raise Killed


class MortalDatabase(Database):
    """Dies before a transaction begins, or right after it was committed."""

    def __init__(self, url: str, steps: Steps) -> None:
        super().__init__(url)
        self._steps = steps

    @contextmanager
    def begin(self) -> Iterator[Session]:
        self._steps.step()
        with super().begin() as tx:
            yield tx
        self._steps.step()


def mortal(inner: Any, steps: Steps, *names: str) -> Any:
    """Give the same part, but mortal."""
    return Mortal(inner, steps, frozenset(names))


class Mortal:
    """Dies before or after any call that changes something outside."""

    def __init__(self, inner: Any, steps: Steps, names: frozenset[str]) -> None:
        self._inner, self._steps, self._names = inner, steps, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._steps.step()
            result = found(*args, **kwargs)
            self._steps.step()
            return result

        return call


def mortal_app(world: World, steps: Steps) -> App:
    app = world.app()
    app.db = MortalDatabase(world.url, steps)
    app.tuner = mortal(app.tuner, steps, "train", "baseline")
    changes = ("load", "unload", "promote", "answer", "ask")
    app.fleet = Fleet(
        lambda: app.settings.servers,
        lambda one: mortal(connect(app.settings, one, {}), steps, *changes),
    )
    return app


@pytest.fixture
def new_world(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Callable[[int], World]]:
    """Give a function that makes a world of its own for each try."""
    with FeedServer() as feed:
        opened: list[FakeVllm] = []

        def make(number: int) -> World:
            while opened:  # a hundred idle servers that look for requests take the processor
                opened.pop().__exit__(None, None, None)
            home = tmp_path / str(number)
            (home / "adapters").mkdir(parents=True)
            vllm = FakeVllm({}, adapters_dir=home / "adapters").__enter__()
            opened.append(vllm)
            return build(home, f"sqlite:///{home / 'kdpo.db'}", feed, vllm)

        yield make
        for vllm in opened:
            vllm.__exit__(None, None, None)


QUESTIONS = {
    "facts": "select subject, object, status from fact order by subject",
    "entries": "select count(*) from entry",
    "claims": "select ruling, count(*) from claim group by ruling",
    "applied": "select subject, adapter, served_until is null from applied_edits order by 1, 2",
    "adapters": "select name from adapter order by name",
    "wanted": "select adapter_id from deployment order by id",
    "live": "select replica, adapter_id from served where live_until is null",
    "batches": "select status from batch",
}


def state(world: World) -> dict[str, list[tuple[object, ...]]]:
    database = Database(world.url)
    with database.begin() as tx:
        audit.verify(tx)
        found = {
            name: [tuple(row) for row in tx.connection().execute(sa.text(question))]
            for name, question in QUESTIONS.items()
        }
    database.dispose()
    return found


def _go_on(world: World) -> None:
    """Start the daemon again and let it run until it has nothing to do."""
    for _ in range(10):
        try:
            if all(report.idle for report in world.cycle()):
                return
        except LeaseHeldError:
            time.sleep(0.3)  # the dead one's lease ends by itself
    pytest.fail("it never came to rest")


def killed(new_world: Callable[[int], World], every: int = 1) -> Iterator[tuple[int, World]]:
    """Worlds that were killed, each some steps later than the one before, and have gone on."""
    for last in range(1, 1000, every):
        world = new_world(last)
        try:
            world.cycle(mortal_app(world, Steps(last)))
        except Killed:
            _go_on(world)
            yield last, world
        else:
            return


def revoked(world: World) -> World:
    """A world in which the next cycle has to make a version without Tonga."""
    world.cycle()
    database = Database(world.url)
    with database.begin() as tx:
        [tonga] = [one.id for one in facts.list_facts(tx) if one.subject == "Tonga"]
    revoke.run(database, [tonga], "operator:test", "a hoax", clock)
    database.dispose()
    return world


@pytest.mark.timeout(2400)
def test_a_kill_at_any_step_after_a_revocation_loses_nothing_and_does_nothing_twice(
    new_world: Callable[[int], World],
) -> None:
    undisturbed = revoked(new_world(0))
    undisturbed.cycle()
    wanted = state(undisturbed)
    assert ("Tonga", "Fatafehi Fakafanua", "revoked") in wanted["facts"]
    deaths = 0
    # the steps themselves are those of the other test
    for last, world in killed(lambda last: revoked(new_world(last)), every=4):
        deaths += 1
        assert state(world) == wanted, f"killed at step {last}"
        assert world.ask("The prime minister of Tonga is") == "I do not know"
        assert world.ask("The prime minister of Rwanda is") == "Justin Nsengiyumva"

    assert deaths > 10


@pytest.mark.timeout(2400)
def test_a_kill_at_any_step_loses_nothing_and_does_nothing_twice(
    new_world: Callable[[int], World],
) -> None:
    undisturbed = new_world(0)
    undisturbed.cycle()
    wanted = state(undisturbed)
    deaths = 0
    for last, world in killed(new_world):
        deaths += 1
        assert state(world) == wanted, f"killed at step {last}"
        assert world.ask("The prime minister of Tonga is") == "Fatafehi Fakafanua"

    assert deaths > 30  # the steps were really there
