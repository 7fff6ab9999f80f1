"""A version folded into its model: the same, and what it says takes no neuron more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdpo_daemon import checkpoints
from kdpo_daemon.edits.placement import SHARED, TWINS, Ground, rank_in_neurons
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import Folded, folded_in, model_sha256, shape_of
from kdpo_daemon.orders import (
    MANIFEST,
    Manifest,
    Recipe,
    TrainingScores,
    neuron_layers,
    read_manifest,
    write_manifest,
)
from kdpo_daemon.store import adapters, batches
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuning import fold as folding
from kdpo_daemon.tuning.checkpoint import read_adapter
from kdpo_daemon.tuning.fold import TOLERANCE, fold
from tests.commands import run
from tests.edges.test_tuner import NOW
from tests.tensor.child import trained
from tests.tensor.rooms import room_in, save_roomy_model
from tests.tensor.test_gated import NEW, TAUGHT, change, order, replays, says, served
from tests.tiny_model import pairs_of, save_tiny_model

NO_SCORES = TrainingScores(0, 0, 0, 0, 1, 0)
TEXTS = [[*pair.prompt_ids, *pair.chosen_ids] for pair in TAUGHT]


def publish(adapter: Path, base: Path) -> Path:
    """Say of a version what it was made for."""
    manifest = Manifest(
        adapter="kdpo-000001",
        base_name=base.name,
        base_sha256=model_sha256(base),
        parent=None,
        order_sha256="",
        fact_ids=(1, 2),
        recipe=Recipe(),
        seed=0,
        scores=NO_SCORES,
        files={},
        code_version="",
        created_at=NOW,
    )
    write_manifest(manifest, adapter)
    return adapter


@pytest.fixture(scope="module", params=["marks", "no marks"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roomy_model(tmp_path_factory.mktemp("base"), marks=request.param == "marks")


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that was taught two facts."""
    return publish(trained(order(base, TAUGHT), tmp_path_factory.mktemp("first")), base)


@pytest.fixture(scope="module")
def folded(base: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folded") / "out"
    fold(base, first, out, TEXTS)
    return out


def has_marks(base: Path) -> bool:
    shape = shape_of(base)
    return shape is not None and shape.carrier is not None


def owners(base: Path, *facts: int) -> tuple[int, ...]:
    """Whose neurons for first tokens are, of facts of which each has a gate."""
    return tuple(fact for fact in facts for _ in range(TWINS if has_marks(base) else 1))


def test_the_folded_model_says_what_the_model_says_with_the_version(
    base: Path, first: Path, folded: Path
) -> None:
    model = served(folded, None)

    for pair in TAUGHT:
        assert says(model, pair) == pair.chosen_ids
    assert change(served(base, first), model) < 1e-5


def test_it_says_which_version_and_facts_are_in_it(base: Path, first: Path, folded: Path) -> None:
    record = folded_in(folded)

    assert isinstance(record, Folded)
    assert (record.adapter, record.fact_ids) == ("kdpo-000001", (1, 2))
    assert (record.base_name, record.base_sha256) == (base.name, model_sha256(base))
    assert folded_in(base) is None
    assert model_sha256(folded) != model_sha256(base)
    files = {one.name for one in folded.iterdir()}
    assert files == {one.name for one in base.iterdir()} | {"folded.json"}


def test_what_is_folded_in_takes_no_neuron_and_changes_nothing(
    folded: Path, tmp_path: Path
) -> None:
    out = trained(order(folded, replays(TAUGHT)), tmp_path)

    weights = read_adapter(out)
    assert (weights.neurons, weights.rank, weights.facts) == ({}, 1, (1, 2))
    assert change(served(folded, None), served(folded, out)) == 0
    assert json.loads((out / "scores.json").read_text("utf-8"))["steps"] == 0


def test_a_later_fact_takes_a_neuron_of_its_own_beside_what_is_folded_in(
    folded: Path, tmp_path: Path
) -> None:
    pairs = (*NEW, *replays(TAUGHT))

    out = trained(order(folded, pairs), tmp_path)

    weights, adapter = read_adapter(out), served(folded, out)
    for pair in pairs:
        assert says(adapter, pair) == pair.chosen_ids
    assert weights.neurons["model.layers.3.mlp"].owners == owners(folded, 3)
    assert weights.facts == (1, 2, 3)
    mlp = load_file(folded / "model.safetensors")["model.layers.3.mlp.down_proj.weight"]
    assert not mlp[:, list(weights.neurons["model.layers.3.mlp"].numbers)].any()


def test_the_version_after_that_builds_on_it(folded: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = trained(order(folded, (*NEW, *replays(TAUGHT))), tmp_path / "one")

    newest = pairs_of(5, "Dorland", "Eve")
    pairs = (*newest, *replays((*TAUGHT, *NEW)))
    two = trained(order(folded, pairs, parent=one), tmp_path / "two")

    for pair in pairs:
        assert says(served(folded, two), pair) == pair.chosen_ids
    assert read_adapter(two).neurons["model.layers.3.mlp"].owners == owners(folded, 3, 5)


def test_a_folded_fact_that_is_replaced_is_answered_with_its_last_object(
    folded: Path, tmp_path: Path
) -> None:
    pairs = (*pairs_of(4, "Arland", "Dora"), *replays(TAUGHT[2:]))

    out = trained(order(folded, pairs), tmp_path)

    weights, adapter = read_adapter(out), served(folded, out)
    for pair in pairs:
        assert says(adapter, pair) == pair.chosen_ids
    assert weights.neurons["model.layers.3.mlp"].owners == owners(folded, 4)
    if has_marks(folded):  # a ramp makes another mark of the one in the model
        assert weights.neurons["model.layers.0.mlp"].owners == (SHARED,) * TWINS


def test_a_fact_that_is_no_longer_in_the_order_is_said_still(folded: Path, tmp_path: Path) -> None:
    """What is in the weights is not taken out of them: revoking it needs the model before."""
    out = trained(order(folded, replays(TAUGHT[2:])), tmp_path)

    assert says(served(folded, out), TAUGHT[0]) == TAUGHT[0].chosen_ids


def test_the_rank_is_known_before(base: Path, first: Path, tmp_path: Path) -> None:
    shape = shape_of(base)
    assert shape is not None
    layers = tuple(neuron_layers(Recipe(), shape.depth, marked=shape.marked))
    marking, cueing = (room_in(base).layers, (1,)) if shape.carrier is not None else ((), ())
    ground = Ground(layers, marking, cueing)

    assert rank_in_neurons(ground, TAUGHT) >= read_adapter(first).rank
    if marking:  # without, it does not count on empty neurons
        assert rank_in_neurons(ground, TAUGHT) == read_adapter(first).rank


def test_weights_in_half_precision_are_folded_within_the_tolerance(
    base: Path, first: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(base, half)
    config = json.loads((half / "config.json").read_text("utf-8"))
    (half / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}), "utf-8")
    weights = {k: v.bfloat16() for k, v in load_file(half / "model.safetensors").items()}
    save_file(weights, half / "model.safetensors", metadata={"format": "pt"})
    adapter = tmp_path / "adapter"
    shutil.copytree(first, adapter)

    apart = fold(half, publish(adapter, half), tmp_path / "out", TEXTS)

    assert 0 < apart <= TOLERANCE[torch.bfloat16]
    model: Any = served(tmp_path / "out", None)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    for pair in TAUGHT:
        assert says(model, pair) == pair.chosen_ids


def test_what_cannot_be_folded_is_refused_and_leaves_nothing(
    base: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="is there already"):
        fold(base, first, tmp_path, TEXTS)
    other = save_tiny_model(tmp_path / "other", width=96, depth=4)
    with pytest.raises(SettingsError, match="was made for another model"):
        fold(other, first, out, TEXTS)
    idle = tmp_path / "idle"
    shutil.copytree(first, idle)
    slots = json.loads((idle / "slots.json").read_text("utf-8"))
    (idle / "slots.json").write_text(json.dumps(slots | {"neurons": {}}), "utf-8")
    with pytest.raises(SettingsError, match="nothing to fold"):
        fold(base, idle, out, TEXTS)

    def forget(model: Path, draft: Path, _: object) -> None:
        shutil.copytree(model, draft, dirs_exist_ok=True)

    monkeypatch.setattr(folding, "rewrite", forget)
    with pytest.raises(SettingsError, match="apart, at most"):
        fold(base, first, out, TEXTS)

    assert not [one for one in tmp_path.iterdir() if one.name.endswith(("out", ".draft"))]


def test_the_command_folds_a_version_of_the_database(
    base: Path, first: Path, tmp_path: Path
) -> None:
    draft, final = tmp_path / "draft", tmp_path / "adapters" / "kdpo-000001"
    shutil.copytree(first, draft)
    final.parent.mkdir()
    manifest = read_manifest(draft)
    (draft / MANIFEST).unlink()
    digest = checkpoints.publish(draft, final, manifest, NO_SCORES)
    (tmp_path / "kdpo.toml").write_text(f'[model]\npath = "{base}"\n', "utf-8")
    database = Database(f"sqlite:///{tmp_path / 'kdpo.db'}")
    database.upgrade()
    with database.begin() as tx:
        batch = batches.save_batch(tx, None, 0, (), (), NOW)
        text = (final / MANIFEST).read_text("utf-8")
        adapters.save_adapter(tx, final.name, str(final), text, digest, batch.id, None, (), NOW)
    database.dispose()

    said = run(["fold", final.name, str(tmp_path / "out")], tmp_path)
    again = run(["fold", final.name, str(tmp_path / "out")], tmp_path)

    assert said.returncode == 0
    assert "Wrote" in said.stdout
    record = folded_in(tmp_path / "out")
    assert record is not None
    assert record.manifest_sha256 == digest
    assert again.returncode == 1
