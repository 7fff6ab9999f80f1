"""Versions' files are deleted when nothing needs them, and only then."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kdpo_daemon.app import App, clock
from kdpo_daemon.checkpoints import WEIGHTS, draft_of, publish
from kdpo_daemon.edits.retention import RetentionPolicy
from kdpo_daemon.errors import StoreError
from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.orders import Manifest, Recipe, TrainingScores
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import AuditEvent
from kdpo_daemon.records.teaching import BatchStatus
from kdpo_daemon.serving import aliases
from kdpo_daemon.stages import Report, pin, rollback
from kdpo_daemon.stages import prune as prune_stage
from kdpo_daemon.stages.prune import Prune
from kdpo_daemon.store import adapters, audit, batches, deployments
from kdpo_daemon.store.db import Session
from tests.stages.conftest import World
from tests.store import builders

NOTHING_KEPT = RetentionPolicy(versions=0, hours=0, drain_s=60)
LATER = timedelta(seconds=61)


@pytest.fixture
def app(world: World) -> Iterator[App]:
    """A daemon that has served versions 0 to 3, one after the other."""
    app = world.app()
    for number in range(4):
        made = published(world.home, number)
        with app.db.begin() as tx:
            deploy(tx, made)
        with app.writing():
            assert app.sync().problems == ()
    yield app
    app.close()


def published(home: Path, number: int) -> Adapter:
    final = home / "adapters" / f"kdpo-{number:06d}"
    scores = TrainingScores(1, 1.0, 1.0, 0.0, rank=1, seconds=0.0)
    manifest = Manifest(
        adapter=final.name,
        base_name="model",
        base_sha256=model_sha256(home / "model"),
        parent=None,
        order_sha256="",
        fact_ids=(),
        recipe=Recipe(),
        seed=0,
        scores=scores,
        files={},
        code_version="",
        created_at=clock(),
    )
    with draft_of(final) as draft:
        (draft / WEIGHTS).write_bytes(b"weights")
        (draft / "adapter_config.json").write_text('{"r": 1, "lora_alpha": 1}', "utf-8")
        digest = publish(draft, final, manifest, scores)
    return Adapter(number, final.name, str(final), digest, number or None, None)


def deploy(tx: Session, made: Adapter) -> None:
    """Put down a version and want it; all but version 0 have a batch that was promoted."""
    batch = None
    if made.id:
        fact = builders.fact(tx, subject=f"Utopia {made.id}")
        batch = builders.batch(tx, fact).id
        batches.set_batch_status(tx, batch, BatchStatus.PROMOTED, clock())
    digest = made.manifest_sha256
    manifest = Path(made.path, "manifest.json").read_text("utf-8")
    saved = adapters.save_adapter(
        tx, made.name, made.path, manifest, digest, batch, None, [], clock()
    )
    deployments.deploy(tx, saved.id, "test", "a test", 0, clock())


def prune(app: App, now: datetime, policy: RetentionPolicy = NOTHING_KEPT) -> Report:
    folder = app.settings.serving.adapters
    return Prune(app.db, app.replicas, folder, policy, lambda: now).run()


def twice(app: App, policy: RetentionPolicy = NOTHING_KEPT) -> Report:
    """Once to see what is unused, and again when it has been for longer than a request takes."""
    now = clock()
    assert prune(app, now, policy).idle
    return prune(app, now + LATER, policy)


def there(world: World) -> list[str]:
    return sorted(one.name for one in (world.home / "adapters").glob("*kdpo-*"))


def events(app: App) -> list[AuditEvent]:
    with app.db.begin() as tx:
        return [one for one in audit.events(tx) if one.event == "adapter.deleted"]


def everything_but(*numbers: int) -> list[str]:
    return [f"kdpo-{number:06d}" for number in range(4) if number not in numbers]


def test_what_nothing_needs_is_deleted_and_the_audit_log_says_so(world: World, app: App) -> None:
    report = twice(app)

    assert report.counts == {"deleted": 1}
    assert there(world) == everything_but(1)
    [event] = events(app)
    assert (event.actor, event.subject) == ("daemon", "adapter:kdpo-000001")
    assert event.detail["path"] == str(world.home / "adapters" / "kdpo-000001")
    assert prune(app, clock() + 2 * LATER).idle


def test_a_deleted_version_can_no_more_be_wanted(app: App) -> None:
    twice(app)

    for act in (rollback.run, pin.pin):
        with pytest.raises(StoreError, match="its files were deleted"):
            act(app.db, "kdpo-000001", "operator:test", "a test", clock)


def test_a_rollback_passes_over_what_is_deleted(app: App) -> None:
    twice(app)
    rollback.run(app.db, None, "operator:test", "a test", clock)

    made = rollback.run(app.db, None, "operator:test", "a test", clock)

    assert made.adapter.name == "kdpo-000000"


def test_before_the_drain_time_nothing_goes(world: World, app: App) -> None:
    now = clock()
    prune(app, now)

    assert prune(app, now + timedelta(seconds=59)).idle
    assert there(world) == everything_but()


def test_a_version_that_a_server_lists_stays(world: World, app: App) -> None:
    path = str(world.home / "adapters" / "kdpo-000001")
    world.vllm.loaded["mine"] = world.vllm._read_adapter("mine", path)

    assert twice(app).idle
    assert there(world) == everything_but()


def test_what_was_listed_in_between_waits_for_its_drain_time_again(world: World, app: App) -> None:
    now = clock()
    prune(app, now)
    path = str(world.home / "adapters" / "kdpo-000001")
    world.vllm.loaded["mine"] = world.vllm._read_adapter("mine", path)
    prune(app, now + LATER)
    del world.vllm.loaded["mine"]

    assert prune(app, now + LATER + timedelta(seconds=30)).idle
    assert prune(app, now + LATER + timedelta(seconds=91)).counts == {"deleted": 1}


def test_a_server_that_cannot_be_asked_counts_as_using_everything(world: World, app: App) -> None:
    now = clock()
    prune(app, now)
    world.vllm.fail("/v1/models", 503)

    assert prune(app, now + LATER).idle
    assert there(world) == everything_but()


def test_a_version_that_any_pointer_names_stays(world: World, app: App) -> None:
    with app.db.begin() as tx:
        one = adapters.adapter_by_name(tx, "kdpo-000001")
    aliases.point(world.home / "adapters", "other", one)

    assert twice(app).idle
    assert there(world) == everything_but()


def test_a_pointer_that_cannot_be_read_may_name_anything(world: World, app: App) -> None:
    (world.home / "adapters" / "aliases" / "other.json").write_text("{", "utf-8")

    assert twice(app).idle


def test_what_is_pinned_and_what_was_before_it_stay(world: World, app: App) -> None:
    pin.pin(app.db, "kdpo-000001", "operator:test", "a test", clock)

    twice(app)

    assert there(world) == everything_but(2)  # 3 was wanted before, 0 is the last resort


def test_the_newest_versions_stay(world: World, app: App) -> None:
    assert twice(app, RetentionPolicy(versions=3, hours=0, drain_s=60)).idle
    assert there(world) == everything_but()


def test_answers_that_went_on_after_the_last_look_have_their_drain_time(
    world: World, app: App
) -> None:
    """Back and away again between two looks: the row says unused, the interval says otherwise."""
    now = clock()
    prune(app, now - LATER)
    with app.writing():
        rollback.run(app.db, "kdpo-000001", "operator:test", "there", clock)
        app.sync()
        rollback.run(app.db, "kdpo-000003", "operator:test", "and back", clock)
        app.sync()
        rollback.run(app.db, "kdpo-000002", "operator:test", "for another former", clock)
        app.sync()

    assert prune(app, now + timedelta(seconds=30)).idle
    assert "kdpo-000001" in there(world)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("where", ["before", "renamed"])
def test_a_deletion_that_was_cut_off_is_finished(
    world: World, app: App, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(directory: Path) -> None:
        if where == "renamed":
            directory.rename(directory.with_name(f".{directory.name}.deleted"))
        raise Killed

    monkeypatch.setattr(prune_stage, "delete", cut)
    with pytest.raises(Killed):
        twice(app)
    monkeypatch.undo()
    assert any("kdpo-000001" in name for name in there(world))

    prune(app, clock() + 2 * LATER)

    assert there(world) == everything_but(1)
    assert len(events(app)) == 1


def test_a_directory_elsewhere_is_left_alone_and_told(world: World, app: App) -> None:
    folder = world.home / "elsewhere"
    folder.mkdir()
    now = clock()
    prune(app, now)

    policy = NOTHING_KEPT
    report = Prune(app.db, app.replicas, folder, policy, lambda: now + LATER).run()

    assert "not in" in report.problems[0]
    assert there(world) == everything_but()


def test_the_cycle_prunes(world: World, app: App) -> None:
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write("[retention]\nversions = 0\nhours = 0\ndrain_s = 0\n")
    again = world.app()
    last, act = again.stages()[-1]

    with again.writing():
        act()
        act()
    again.close()

    assert last == "prune"
    assert there(world) == everything_but(1)
