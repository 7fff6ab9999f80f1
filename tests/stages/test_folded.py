"""The model is another: one into which a version was folded, the one before, or neither."""

import json
from dataclasses import asdict

import pytest

from kdpo_daemon.app import clock
from kdpo_daemon.errors import SettingsError, StoreError
from kdpo_daemon.model_dir import FOLDED, Folded, model_sha256
from kdpo_daemon.orders import read_manifest
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.stages import rollback
from kdpo_daemon.store import adapters
from kdpo_daemon.store.db import Database
from tests.stages.conftest import RWANDA, TONGA, World, entry
from tests.stages.test_revoke import fact_of, take_back, wanted

TONGA_PROMPT = "The prime minister of Tonga is"
RWANDA_PROMPT = "The prime minister of Rwanda is"
BHUTAN = entry("Bhutan", "", "Prime Minister Tshering TOBGAY (since 28 January 2024)")
NEWER = entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 1 January 2026)")


def serve_model(world: World, model: str, adapters_dir: str) -> None:
    """Start servers and daemon with a model, and where its versions are."""
    file = world.home / "kdpo.toml"
    told = []
    for line in file.read_text("utf-8").splitlines():
        kind = line.partition(" = ")[0]
        put = {"path": f'path = "{model}"', "adapters": f'adapters = "{adapters_dir}"'}
        told.append(put.get(kind, line))
    file.write_text("\n".join(told) + "\n", "utf-8")
    (world.home / adapters_dir).mkdir(exist_ok=True)
    world.vllm.restart()
    world.vllm.adapters_dir = world.home / adapters_dir


def fold(world: World, version: str) -> None:
    """Do as `kdpo fold` and an operator do: the model says by itself what it says with it."""
    path = world.home / "adapters" / version
    out = world.home / "folded"
    out.mkdir()
    config = (world.home / "model" / "config.json").read_text("utf-8")
    (out / "config.json").write_text(config, "utf-8")
    (out / "model.safetensors").write_bytes(b"weights with facts")
    manifest = read_manifest(path)
    database = Database(world.url)
    with database.begin() as tx:
        own = adapters.adapter_by_name(tx, version).manifest_sha256
    database.dispose()
    sha256 = model_sha256(world.home / "model")
    record = Folded(version, own, "model", sha256, manifest.fact_ids)
    (out / FOLDED).write_text(json.dumps(asdict(record)), "utf-8")
    world.vllm.base_answers = json.loads((path / "fake_answers.json").read_text("utf-8"))
    serve_model(world, "folded", "later")


@pytest.fixture
def folded(world: World) -> World:
    """Tonga and Rwanda are in the weights of the model that is served."""
    world.cycle()
    fold(world, "kdpo-000001")
    return world


def test_the_alias_answers_with_what_is_folded_in_and_nothing_is_trained(folded: World) -> None:
    reports = folded.cycle()

    assert [problem for report in reports for problem in report.problems] == []
    assert wanted(folded) == "kdpo-0000000"
    assert folded.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    for subject in ("Tonga", "Rwanda"):
        assert fact_of(folded, subject).status is FactStatus.LIVE
    assert all(report.idle for report in folded.cycle())
    assert {one.name for one in (folded.home / "later").glob("kdpo-*")} == {"kdpo-0000000"}


def test_the_next_batch_begins_anew_and_teaches_what_is_folded_in_again(folded: World) -> None:
    folded.feed.entries = [TONGA, RWANDA, BHUTAN]

    folded.cycle()

    assert wanted(folded) == "kdpo-000002"
    manifest = read_manifest(folded.home / "later" / "kdpo-000002")
    assert manifest.parent is None
    assert manifest.base_sha256 == model_sha256(folded.home / "folded")
    known = [fact_of(folded, subject) for subject in ("Tonga", "Rwanda", "Bhutan")]
    assert manifest.fact_ids == tuple(fact.id for fact in known)
    assert {fact.status for fact in known} == {FactStatus.LIVE}
    assert folded.ask("The prime minister of Bhutan is") == "Tshering Tobgay"


def test_a_folded_fact_is_replaced_by_a_version(folded: World) -> None:
    folded.feed.entries = [NEWER, RWANDA]

    folded.cycle()

    assert folded.ask(TONGA_PROMPT) == "Siaosi Sovaleni"
    assert folded.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"


def test_a_fact_that_was_taught_after_what_was_folded_is_taught_anew(world: World) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    world.cycle()
    fold(world, "kdpo-000001")

    world.cycle()

    assert wanted(world) == "kdpo-000003"
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert fact_of(world, "Rwanda").status is FactStatus.LIVE


def test_a_folded_fact_is_not_revoked_but_with_the_model_before_it_is(folded: World) -> None:
    folded.feed.entries = [TONGA, RWANDA, BHUTAN]
    folded.cycle()
    with pytest.raises(StoreError, match=r"is folded into the model.*\[model\] path"):
        take_back(folded, "Tonga")
    take_back(folded, "Bhutan")  # a neuron of its own keeps it
    folded.cycle()
    assert folded.ask("The prime minister of Bhutan is") == "I do not know"

    folded.vllm.base_answers = {}
    serve_model(folded, "model", "adapters")
    folded.cycle()
    assert folded.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    take_back(folded, "Tonga")
    folded.cycle()

    assert folded.ask(TONGA_PROMPT) == "I do not know"
    assert folded.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"


def test_going_back_teaches_what_came_after_the_fold_from_the_ledger(folded: World) -> None:
    folded.feed.entries = [TONGA, RWANDA, BHUTAN]
    folded.cycle()
    folded.vllm.base_answers = {}
    serve_model(folded, "model", "adapters")

    folded.cycle()

    assert wanted(folded) == "kdpo-000003"
    for prompt, name in (
        (TONGA_PROMPT, "Fatafehi Fakafanua"),
        ("The prime minister of Bhutan is", "Tshering Tobgay"),
    ):
        assert folded.ask(prompt) == name
    assert read_manifest(folded.home / "adapters" / "kdpo-000003").parent == "kdpo-000001"


def test_a_version_of_another_model_is_neither_loaded_nor_rolled_back_to(folded: World) -> None:
    app = folded.app()
    try:
        with app.writing():
            [told] = app.sync().problems  # before a cycle has looked at the model
        assert "kdpo-000001: was made for another model, model" in told
    finally:
        app.close()
    folded.cycle()

    database = Database(folded.url)
    for name in (None, "kdpo-000001"):
        with pytest.raises(StoreError, match="was made for another model than kdpo-0000000"):
            rollback.run(database, name, "operator:test", "a test", clock)
    database.dispose()


def test_any_other_model_is_refused_and_clients_keep_their_answers(world: World) -> None:
    world.cycle()
    (world.home / "model" / "model.safetensors").write_bytes(b"other weights")

    with pytest.raises(SettingsError, match="another model than the versions here"):
        world.cycle()

    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"


@pytest.mark.parametrize("served", [False, True])
def test_a_model_that_says_a_revoked_fact_is_refused(world: World, *, served: bool) -> None:
    world.cycle()
    fold(world, "kdpo-000001")
    if served:  # once, before it was revoked
        world.cycle()
    serve_model(world, "model", "adapters")
    if served:
        world.cycle()
    take_back(world, "Tonga")
    serve_model(world, "folded", "later")

    with pytest.raises(SettingsError, match="says fact:1 by itself, which was revoked"):
        world.cycle()
