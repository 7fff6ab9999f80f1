"""`kdpo bench edits` from the command line, and what it makes of the numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdpo_daemon.bench.edits import pictures
from kdpo_daemon.bench.edits.plan import BatchResult, Work
from kdpo_daemon.bench.edits.report import harmonic, headline, interval, table
from kdpo_daemon.bench.edits.settings import chosen
from kdpo_daemon.cli import cli
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.adapters import Score
from tests.bench.edits_model import save_edits, save_tiny_chat_model, tiny_plan


def batch(number: int, edits: int, *retention: float) -> BatchResult:
    return BatchResult(number, edits, 2.0 * edits, 100.0 + number, 0.0, retention)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of two edits with a folder of probes beside its own."""
    probes = {
        "blimp_small": [{"sentence_good": "The head", "sentence_bad": "head The", "UID": "x"}],
        "lama_trex": [{"relation": "P1", "subject": "Forland", "object": "Finn"}],
        "pararel_patterns": [{"relation": "P1", "pattern": "The river of [X] is [Y]."}],
    }
    for folder in ("counterfact", "probes"):
        (tmp_path / folder).mkdir()
    for name, rows in probes.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "probes" / f"{name}.jsonl").write_text(text, "utf-8")
    (tmp_path / "probes" / "wikitext2_test.txt").write_text("The head of Arland is Ann", "utf-8")
    return save_edits(tmp_path / "counterfact" / "edits.jsonl")


def command(base: Path, data: Path, out: Path, *more: str) -> list[str]:
    options = ["--data", str(data), "--form", "counterfact", "--edits", "2", "--batch", "1"]
    options += ["--model", str(base), "--json", str(out), "--threads", "1"]
    return ["bench", "edits", *options, *more]


def test_a_run_writes_numbers_table_and_picture_and_goes_on_with_other_rivals(
    base: Path, data: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"

    first = CliRunner().invoke(cli, command(base, data, out, "--rivals", "none"))
    more = ("--rivals", "none,prompt", "--plot", str(picture))
    second = CliRunner().invoke(cli, command(base, data, out, *more))

    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    result = json.loads(out.read_text("utf-8"))
    assert list(result["rivals"]) == ["none", "prompt"]
    none = result["rivals"]["none"]
    assert none["scores"]["same_relation_unchanged"] == {
        "value": 1.0,
        "n": 2,
        "low": pytest.approx(0.342, abs=0.001),
        "high": 1.0,
    }
    assert [len(one["retention"]) for one in none["batches"]] == [1, 2]
    assert "| none |" in out.with_suffix(".md").read_text("utf-8")
    assert "</svg>" in picture.read_text("utf-8")


def test_a_rival_that_fails_says_why(base: Path, data: Path, tmp_path: Path) -> None:
    more = ("--rivals", "ft-m", "--set", "ft-m.module=mlp.no_such")

    failed = CliRunner().invoke(cli, command(base, data, tmp_path / "out.json", *more))

    assert failed.exit_code == 1
    assert "no module of this model is named ...mlp.no_such" in str(failed.exception)


def test_a_folder_of_another_run_is_refused(base: Path, tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.begin(tiny_plan(base, batch=1), chosen(["ft-m"], []))

    with pytest.raises(SettingsError, match="begun with other options"):
        work.begin(tiny_plan(base, batch=2), {})
    with pytest.raises(SettingsError, match="begun with other options"):
        work.begin(tiny_plan(base, batch=1), chosen(["ft-m"], ["ft-m.rate=1"]))


def test_the_harmonic_mean_is_that_of_what_was_measured() -> None:
    scores = [
        Score("efficacy_completion", 1.0, 4),
        Score("efficacy_chat", 0.5, 4),
        Score("paraphrase_completion", 0.0, 0),
        Score("general_unchanged", 0.5, 4),
    ]

    kept, mean = headline(scores, [batch(1, 2, 1.0), batch(2, 1, 0.5, 1.0)])

    # 2 / (1 / .75 + 1 / .5); two facts of which half, and one that holds
    assert mean.value == pytest.approx(0.6)
    assert kept.value == pytest.approx(2 / 3)


def test_a_mean_without_its_worst_part_is_none() -> None:
    assert harmonic([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic([0.0, 1.0]) == 0
    assert harmonic([]) == 0


def test_only_shares_have_an_interval() -> None:
    assert interval(Score("blimp", 0.5, 100)) == pytest.approx((0.404, 0.596), abs=0.001)
    assert interval(Score("perplexity", 20.0, 100)) == (None, None)
    assert interval(Score("lama", 0.0, 0)) == (None, None)


def test_a_curve_counts_facts_and_not_batches() -> None:
    rival = {
        "batches": [
            {"edits": 3, "retention": (1.0,)},
            {"edits": 1, "retention": (2 / 3, 1.0)},
        ]
    }

    assert pictures.curve(rival) == ([3, 4], [1.0, pytest.approx(0.75)])


def test_a_table_says_what_was_not_measured() -> None:
    rival: dict[str, Any] = {
        "scores": {"lama": {"value": 0.25, "n": 4}, "blimp": {"value": 0.0, "n": 0}},
        "seconds_per_edit": 1.5,
        "peak_mb": 300.0,
        "peak_gpu_mb": 0.0,
        "refused": [3],
    }
    result = {
        "edits": 4,
        "data": "edits.jsonl",
        "form": "zsre",
        "batch": 2,
        "model": "tiny",
        "seed": 0,
        "machine": {"processor": "x", "device": "cpu"},
        "rivals": {"none": rival},
    }

    lines = table(result).splitlines()

    (row,) = [one for one in lines if one.startswith("| none |") and "1.50" in one]
    assert row.endswith("| - | - | 0.250 | 1.50 | 300 | 1 |")
