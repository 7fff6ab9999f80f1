"""Several servers: the first is the canary; a broken one is reported and stops no other."""

import errno
import logging
import subprocess
from pathlib import Path

import pytest

from kdpo_daemon import checkpoints
from kdpo_daemon.app import clock
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.serving import ReplicaStatus
from kdpo_daemon.stages import rollback
from kdpo_daemon.store import deployments, facts
from tests.fakes import FakeVllm, Loaded
from tests.stages.conftest import World, entry, states, sync

PROMPT = "The prime minister of Tonga is"


def test_every_server_ends_on_the_wanted_version(pair: tuple[World, FakeVllm]) -> None:
    world, second = pair

    world.cycle()

    assert states(world) == {"one": ReplicaStatus.LIVE, "two": ReplicaStatus.LIVE}
    assert second.loaded["prod"].name == "kdpo-000001.prod"


def test_a_server_that_is_down_is_reported_and_brought_back_later(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    second.fail("/v1/models", 503, times=50)

    world.cycle()

    assert states(world) == {"one": ReplicaStatus.LIVE, "two": ReplicaStatus.FAILED}
    second._faults.clear()
    assert sync(world) == ()
    assert states(world) == {"one": ReplicaStatus.LIVE, "two": ReplicaStatus.LIVE}
    app = world.app()
    with app.db.begin() as tx:
        assert len(facts.facts_with(tx, FactStatus.LIVE)) == 2
    app.close()


def test_what_the_first_server_refuses_is_not_tried_on_the_others(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    app = world.app()
    rollback.run(app.db, "kdpo-000000", "operator:test", "a drill", clock)
    app.close()
    world.vllm.fail("/v1/load_lora_adapter", 500, times=1)

    problems = sync(world)

    assert len(problems) == 1
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    sync(world)
    assert second.loaded["prod"].name == "kdpo-000000.prod"


def test_a_rollback_reaches_the_others_while_the_first_server_is_away(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    world.cycle()
    app = world.app()
    rollback.run(app.db, "kdpo-000000", "operator:test", "a drill", clock)
    app.close()
    world.vllm.fail("/v1/models", 503, times=50)

    problems = sync(world)

    assert len(problems) == 1
    assert second.loaded["prod"].name == "kdpo-000000.prod"


def test_while_the_first_server_is_away_the_next_one_is_the_canary(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    app = world.app()
    stages = dict(app.stages())
    with app.writing():
        stages["baseline"]()
        world.vllm.fail("/v1/models", 503, times=1)
        app.sync()
    app.close()

    assert "prod" not in world.vllm.loaded
    assert second.loaded["prod"].name == "kdpo-000000.prod"


def test_a_version_that_answers_otherwise_than_it_was_judged_is_taken_back(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    world.cycle()
    app = world.app()
    rollback.run(app.db, "kdpo-000000", "operator:test", "a drill", clock)
    app.close()
    sync(world)
    app = world.app()
    rollback.run(app.db, "kdpo-000001", "operator:test", "forward again", clock)
    app.close()
    table = world.home / "adapters" / "kdpo-000001" / "fake_answers.json"
    answers = table.read_text("utf-8")
    original = FakeVllm._read_adapter

    def other_weights(self: FakeVllm, name: str, path: str) -> object:
        loaded = original(self, name, path)
        return type(loaded)(loaded.name, loaded.path, {})

    FakeVllm._read_adapter = other_weights  # type: ignore[method-assign, assignment]
    try:
        problems = sync(world)
    finally:
        FakeVllm._read_adapter = original  # type: ignore[method-assign]

    assert "does not answer as kdpo-000001 did" in problems[0]
    assert table.read_text("utf-8") == answers
    app = world.app()
    with app.db.begin() as tx:
        wanted = deployments.wanted(tx)
    app.close()
    assert wanted is not None
    assert wanted.adapter.name == "kdpo-000000"


def test_a_candidate_that_waits_for_its_verdict_stays_loaded(
    pair: tuple[World, FakeVllm],
) -> None:
    """A roll-out clears what is not wanted away, but not what is being judged."""
    world, _ = pair
    world.cycle()
    world.feed.entries = [entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 2026)")]
    app = world.app()
    with app.writing():
        app.ingest("test")
        for name, act in app.stages():
            if name == "deploy":
                break
            act()
        assert "kdpo-000002" in world.vllm.loaded
        world.vllm.loaded.pop("prod")  # so that this server has something to be brought to
        app.sync()
    app.close()

    assert world.vllm.loaded["prod"].name == "kdpo-000001.prod"
    assert "kdpo-000002" in world.vllm.loaded


@pytest.mark.parametrize("route", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
def test_a_server_that_dies_in_a_roll_out_goes_there_when_it_is_back(
    pair: tuple[World, FakeVllm], route: str
) -> None:
    """In the middle of the load, and between pointer and move."""
    world, second = pair
    app = world.app()
    with app.writing():
        app.ingest("test")
        for _, act in app.stages()[:-2]:
            act()
        assert second.loaded["prod"].name == "kdpo-000000.prod"
        second.drop(route)
        problems = app.sync().problems
    app.close()

    assert len(problems) == 1
    assert world.vllm.loaded["prod"].name == "kdpo-000001.prod"
    assert states(world) == {"one": ReplicaStatus.LIVE, "two": ReplicaStatus.FAILED}
    second.restart()
    assert sync(world) == ()
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    assert states(world) == {"one": ReplicaStatus.LIVE, "two": ReplicaStatus.LIVE}


@pytest.mark.parametrize("text", [None, "", '{"adapter": "kdpo-', '{"path": "/etc"}'])
def test_a_pointer_that_was_damaged_is_written_again(
    pair: tuple[World, FakeVllm], text: str | None
) -> None:
    world, second = pair
    world.cycle()
    pointer = world.home / "adapters" / "aliases" / "prod.json"
    good = pointer.read_text("utf-8")
    pointer.unlink()
    if text is not None:
        pointer.write_text(text, "utf-8")

    assert sync(world) == ()

    assert pointer.read_text("utf-8") == good
    second.restart()
    assert second._follow("prod") is not None


def test_a_version_whose_files_changed_is_not_loaded(pair: tuple[World, FakeVllm]) -> None:
    world, _ = pair
    world.cycle()
    weights = world.home / "adapters" / "kdpo-000001" / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"other")
    world.vllm.restart()
    (world.home / "adapters" / "aliases" / "prod.json").unlink()

    [problem] = [one for one in sync(world) if "kdpo-000001" in one]

    assert "adapter_model.safetensors is not what the manifest says" in problem
    assert "prod" not in world.vllm.loaded


def test_files_that_changed_while_the_version_was_loaded_do_not_reach_the_alias(
    pair: tuple[World, FakeVllm],
) -> None:
    """The alias's own load reads the files again, though the version is listed already."""
    world, second = pair
    world.cycle()
    app = world.app()
    rollback.run(app.db, "kdpo-000000", "operator:test", "a drill", clock)
    app.close()
    sync(world)
    for server in (world.vllm, second):
        path = world.home / "adapters" / "kdpo-000001"
        server.loaded["kdpo-000001"] = server._read_adapter("kdpo-000001", str(path))
    weights = world.home / "adapters" / "kdpo-000001" / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"other")
    app = world.app()
    rollback.run(app.db, "kdpo-000001", "operator:test", "forward again", clock)
    app.close()

    problems = sync(world)

    assert any("is not what the manifest says" in one for one in problems)
    assert second.loaded["prod"].name == "kdpo-000000.prod"


def test_files_that_cannot_be_read_keep_no_server_from_being_looked_after(
    pair: tuple[World, FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a network share that went away: told as a problem, and tried again."""
    world, second = pair
    world.cycle()
    second.restart()
    (world.home / "adapters" / "aliases" / "prod.json").unlink()
    world.vllm.loaded["kdpo-000009"] = Loaded("kdpo-000009", "/left/over", {})

    def stale(_: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_sha256", stale)
        [problem] = sync(world)

    assert "kdpo-000001: it cannot be read" in problem
    assert "kdpo-000009" not in world.vllm.loaded
    assert sync(world) == ()
    assert second.loaded["prod"].name == "kdpo-000001.prod"


@pytest.mark.parametrize("mode", ["plugin", "reload", "versioned"])
def test_a_version_of_the_same_name_from_elsewhere_is_not_taken_for_ours(
    pair: tuple[World, FakeVllm], mode: str
) -> None:
    """As of another database whose daemon had the same servers."""
    world, second = pair
    toml = world.home / "kdpo.toml"
    text = toml.read_text("utf-8").replace("[serving]\n", f'[serving]\nmode = "{mode}"\n')
    toml.write_text(text, "utf-8")
    world.cycle()
    alias = "kdpo-000001" if mode == "versioned" else "prod"
    for server in (world.vllm, second):
        ours = server.loaded[alias]
        server.loaded[alias] = Loaded(ours.name, "/elsewhere/kdpo-000001", {})

    assert sync(world) == ()

    assert world.ask(PROMPT, alias) == "Fatafehi Fakafanua"
    path = str(world.home / "adapters" / "kdpo-000001")
    assert {server.loaded[alias].path for server in (world.vllm, second)} == {path}


def test_a_server_that_needs_nothing_is_put_down_with_its_address(
    pair: tuple[World, FakeVllm],
) -> None:
    world, _ = pair
    world.cycle()
    with FakeVllm({}, adapters_dir=world.home / "adapters") as third:
        with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
            file.write(f'[[servers]]\nname = "three"\nurl = "{third.url}"\n')
        sync(world)
        app = world.app()
        with app.db.begin() as tx:
            urls = {state.name: state.url for state in deployments.replicas(tx)}
        app.close()

        assert urls["three"] == third.url


def test_files_and_manifest_changed_together_are_not_loaded(pair: tuple[World, FakeVllm]) -> None:
    world, _ = pair
    world.cycle()
    manifest = world.home / "adapters" / "kdpo-000001" / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text("utf-8").replace('"seed"', ' "seed"'), "utf-8")
    world.vllm.restart()

    assert any("its manifest is not the one on record" in one for one in sync(world))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the library's dependencies
def test_a_version_without_a_good_signature_is_loaded_nowhere(
    pair: tuple[World, FakeVllm],
) -> None:
    world, second = pair
    for make in (
        "ecparam -name prime256v1 -genkey -noout -out key",
        "ec -in key -pubout -out pub",
    ):
        subprocess.run(["openssl", *make.split()], check=True, capture_output=True, cwd=world.home)
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write('[signing]\nprivate_key = "key"\npublic_key = "pub"\n')
    world.cycle()
    assert second.loaded["prod"].name == "kdpo-000001.prod"
    signature = world.home / "adapters" / "signatures" / "kdpo-000001.sig"
    signature.write_text(signature.with_name("kdpo-000000.sig").read_text("utf-8"), "utf-8")
    for server in (world.vllm, second):
        server.restart()
    (world.home / "adapters" / "aliases" / "prod.json").unlink()

    assert any("its signature is not good" in one for one in sync(world))

    assert not [name for name in second.loaded if "kdpo-000001" in name]


def test_a_key_is_in_neither_the_logs_nor_the_database(
    pair: tuple[World, FakeVllm], caplog: pytest.LogCaptureFixture
) -> None:
    world, second = pair
    key = world.home / "key"
    key.write_text("sesame", "utf-8")
    toml = world.home / "kdpo.toml"
    text = toml.read_text("utf-8").replace('name = "two"', f'name = "two"\napi_key_file = "{key}"')
    toml.write_text(text, "utf-8")
    second.api_key = "sesame"
    with caplog.at_level(logging.DEBUG):
        world.cycle()
        assert second.loaded["prod"].name == "kdpo-000001.prod"
        second.api_key = "another"
        assert "401" in sync(world)[0]

    assert "sesame" not in caplog.text
    for file in world.home.glob("kdpo.db*"):
        assert b"sesame" not in file.read_bytes()
