"""The edge over real small children: good ones, bad ones, and the one that trains."""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdpo_daemon.checkpoints import verify
from kdpo_daemon.child import TunerPolicy
from kdpo_daemon.errors import AdapterError, TuningError
from kdpo_daemon.orders import MANIFEST, Order, Recipe, read_order
from kdpo_daemon.records.teaching import Form
from kdpo_daemon.tuner import OrderRefusedError, Progress, Published, Tuner
from tests.tiny_model import keep_prompts, order_for, pairs_of, save_tiny_model

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

GOOD = """
import json, pathlib, sys
print(json.dumps({"step": 1, "of": 2, "loss": 0.5, "accuracy": 0.25}), flush=True)
print("a library's own words", flush=True)
out = pathlib.Path(sys.argv[3])
(out / "adapter_config.json").write_text("{}")
(out / "adapter_model.safetensors").write_text("weights")
scores = dict(steps=2, learnt=1, accuracy=1, keep_kl=0, rank=4, seconds=1)
(out / "scores.json").write_text(json.dumps(scores))
"""


def tuner(script: str, policy: TunerPolicy | None = None) -> Tuner:
    return Tuner(policy or TunerPolicy(), (sys.executable, "-c", script))


def order(name: str = "kdpo-000001", seed: int = 1) -> Order:
    return Order(
        name=name,
        base_dir=Path("/models/base"),
        base_sha256="0" * 64,
        parent_dir=None,
        recipe=Recipe(),
        seed=seed,
        threads=1,
        pairs=pairs_of(3, "Arland", "Ann"),
        keep=keep_prompts(),
    )


def train(
    child: Tuner,
    at: Path,
    what: Order | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Published:
    return child.train(what or order(), at / "work", at / "adapters", NOW, on_progress)


def drafts(at: Path) -> list[str]:
    return [path.name for path in (at / "adapters").iterdir() if path.name.startswith(".")]


def test_what_a_good_child_wrote_becomes_a_version(tmp_path: Path) -> None:
    told: list[Progress] = []

    made = train(tuner(GOOD), tmp_path, on_progress=told.append)

    manifest = verify(made.path).manifest
    assert made.path == tmp_path / "adapters" / "kdpo-000001"
    assert verify(made.path).sha256 == made.manifest_sha256
    assert (manifest.fact_ids, manifest.scores.rank, manifest.created_at) == ((3,), 4, NOW)
    assert set(manifest.files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert told == [Progress(1, 2, 0.5, 0.25)]
    assert drafts(tmp_path) == []


def test_the_child_reads_the_order_that_was_given(tmp_path: Path) -> None:
    train(tuner(GOOD), tmp_path)

    assert read_order(tmp_path / "work" / "kdpo-000001") == order()


def test_a_version_is_read_only_and_others_may_read_it(tmp_path: Path) -> None:
    made = train(tuner(GOOD), tmp_path)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in made.path.iterdir()}
    assert modes == {0o444}
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o555


def test_a_version_found_whole_is_not_trained_again(tmp_path: Path) -> None:
    made = train(tuner(GOOD), tmp_path)

    again = train(tuner("raise SystemExit('must not run')"), tmp_path)

    assert again == made


def test_a_version_from_another_order_is_an_error(tmp_path: Path) -> None:
    train(tuner(GOOD), tmp_path)

    with pytest.raises(AdapterError, match="another order"):
        train(tuner(GOOD), tmp_path, order(seed=2))


def test_a_version_that_was_changed_is_an_error(tmp_path: Path) -> None:
    made = train(tuner(GOOD), tmp_path)
    weights = made.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_text("other")

    with pytest.raises(AdapterError, match="not what the manifest says"):
        train(tuner(GOOD), tmp_path)


def test_a_left_draft_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "adapters" / ".kdpo-000001.draft"
    left.mkdir(parents=True)
    (left / "half").write_text("")

    made = train(tuner(GOOD), tmp_path)

    assert "half" not in verify(made.path).manifest.files
    assert drafts(tmp_path) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('boom')", "status 1: boom"),
        ("import os; os.kill(os.getpid(), 9)", "killed, probably out of memory"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("pass", "left no scores"),
        (GOOD + "raise SystemExit('too late')", "too late"),
    ],
    ids=["crash", "killed", "segfault", "writes nothing", "crash at the end"],
)
def test_a_bad_child_leaves_a_reason_and_nothing_else(
    tmp_path: Path, script: str, reason: str
) -> None:
    with pytest.raises(TuningError, match=reason) as failed:
        train(tuner(script), tmp_path)

    assert not failed.value.refused
    assert list((tmp_path / "adapters").iterdir()) == []


def test_a_refused_order_names_the_facts(tmp_path: Path) -> None:
    script = """
import json, sys
print(json.dumps({"refused": "no subject", "fact_ids": [3]}), flush=True)
sys.exit(2)
"""
    with pytest.raises(OrderRefusedError, match="no subject") as refused:
        train(tuner(script), tmp_path)

    assert refused.value.refused
    assert refused.value.fact_ids == (3,)


def test_a_command_line_that_is_not_understood_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="status 2: usage") as failed:
        train(tuner("import sys; print('usage', file=sys.stderr); sys.exit(2)"), tmp_path)

    assert not failed.value.refused


def test_a_silent_child_is_ended_with_its_whole_group(tmp_path: Path) -> None:
    script = f"""
import pathlib, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(grandchild.pid))
time.sleep(60)
"""
    with pytest.raises(TuningError, match="no sign of life for 1 s"):
        train(tuner(script, TunerPolicy(heartbeat_s=1)), tmp_path)

    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_talks_but_never_ends_meets_its_deadline(tmp_path: Path) -> None:
    script = """
import json, time
while True:
    print(json.dumps({"step": 1, "of": 2}), flush=True)
    time.sleep(0.05)
"""
    with pytest.raises(TuningError, match="within 1 s"):
        train(tuner(script, TunerPolicy(deadline_s=1)), tmp_path)


def test_a_child_that_will_not_end_is_killed(tmp_path: Path) -> None:
    script = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""
    began = time.monotonic()
    with pytest.raises(TuningError):
        train(tuner(script, TunerPolicy(heartbeat_s=1)), tmp_path)

    assert time.monotonic() - began < 20


def test_a_directory_that_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "adapters").write_text("a file in the way")

    with pytest.raises(TuningError, match="adapters") as failed:
        train(tuner(GOOD), tmp_path)

    assert "make room" in failed.value.hint


def test_a_full_disk_leaves_no_draft(tmp_path: Path) -> None:
    script = """
import errno, os, pathlib, sys
(pathlib.Path(sys.argv[3]) / "adapter_model.safetensors").write_text("half")
raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), sys.argv[3])
"""
    with pytest.raises(TuningError, match="No space left"):
        train(tuner(script), tmp_path)

    assert drafts(tmp_path) == []


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if status == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_real_child_trains_a_real_small_model(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")
    told: list[Progress] = []

    made = train(
        Tuner(TunerPolicy()), tmp_path, order_for(base, pairs_of(1, "Arland", "Ann")), told.append
    )

    assert made.scores.accuracy == 1
    assert made.scores.rank == len(Form)
    assert told[-1].accuracy == 1
    names = {"adapter_config.json", "adapter_model.safetensors", "slots.json"}
    assert set(verify(made.path).manifest.files) == names


def test_the_real_child_refuses_a_fact_whose_subject_is_not_in_its_prompt(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")
    lost = tuple(replace(pair, subject="Nowhere") for pair in pairs_of(5, "Arland", "Ann"))

    with pytest.raises(OrderRefusedError, match="Nowhere") as refused:
        train(Tuner(TunerPolicy()), tmp_path, order_for(base, lost))

    assert refused.value.fact_ids == (5,)


def test_the_real_child_makes_the_version_that_changes_nothing(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")

    made = Tuner(TunerPolicy()).baseline(base, "1" * 64, tmp_path / "adapters", NOW)

    manifest = json.loads((made.path / MANIFEST).read_text())
    assert (manifest["fact_ids"], manifest["parent"]) == ([], None)
    assert Tuner(TunerPolicy()).baseline(base, "1" * 64, tmp_path / "adapters", NOW) == made
