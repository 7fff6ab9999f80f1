"""`kdpo tune`: what is tried, when a recipe is advised, and whole searches on a tiny model."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdpo_daemon.bench.edits import tune
from kdpo_daemon.bench.edits.climb import (
    LADDERS,
    Outcome,
    Try,
    advised,
    best_of,
    changes,
    gain,
)
from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.report import spread
from kdpo_daemon.bench.edits.tune import Measure, as_begun, outcome, search
from kdpo_daemon.cli import cli
from kdpo_daemon.edits.gate import GatePolicy
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import Shape, shape
from kdpo_daemon.orders import Method, Recipe
from kdpo_daemon.records.adapters import Score
from tests.bench.edits_model import save_edits, save_tiny_chat_model, tiny_plan

DEEP = Shape(30, carrier=10)


def scored(by: Callable[[Recipe], float]) -> Measure:
    """Measure without a model: by a function of the last recipe, sure to a thousandth."""

    def measure(recipes: Sequence[Recipe]) -> Outcome:
        mean = by(recipes[-1])
        return Outcome(mean, mean - 0.001, mean + 0.001, frozenset())

    return measure


def tried(mean: float, half: float, *broken: str, steps: int = 150) -> Try:
    made = Outcome(mean, mean - half, mean + half, frozenset(broken))
    return Try(Recipe(firsts_from=0.97, steps=steps), "", made)


# ---------------------------------------------------------------- what is tried


def test_the_first_is_the_recipe_at_hand_and_each_other_varies_one_thing() -> None:
    found = search(Recipe(), DEEP, 9, scored(lambda _: 0.5))

    first = found[0].recipe
    assert first == Recipe(laters_at=0.9, firsts_from=0.97)  # what the model's marks make of it
    assert [changes(one.recipe, first) for one in found] == [
        {},
        {"laters_at": 0.97},
        {"firsts_from": 1.0},
        {"neurons_rate": 0.18},
        {"steps": 225},
        {"laters_at": 0.83},
        {"firsts_from": 0.93},
        {"neurons_rate": 0.045},
        {"steps": 100},
    ]


def test_a_search_ends_when_nothing_is_left_beside_the_best() -> None:
    found = search(Recipe(), DEEP, 100, scored(lambda _: 0.5))

    assert len(found) == 9
    assert best_of(found) is found[0]


def test_it_goes_on_from_the_best_so_far() -> None:
    def peak(recipe: Recipe) -> float:
        return 0.9 - abs(recipe.laters_at - 0.69) - abs(recipe.neurons_rate - 0.045)

    found = search(Recipe(), DEEP, 30, scored(peak))

    best = best_of(found).recipe
    assert (best.laters_at, best.neurons_rate, best.steps) == (0.69, 0.045, 150)
    assert len({one.recipe for one in found}) == len(found)


def test_a_larger_budget_goes_on_where_a_smaller_one_ended() -> None:
    def peak(recipe: Recipe) -> float:
        return 0.9 - abs(recipe.laters_at - 0.69)

    few, many = (search(Recipe(), DEEP, count, scored(peak)) for count in (3, 8))

    assert many[:3] == few
    assert len(many) == 8


def test_shares_that_come_to_the_same_layers_are_tried_once() -> None:
    shallow = Shape(4, carrier=None)

    found = search(Recipe(), shallow, 30, scored(lambda _: 0.5))

    # .69 and .55 of three are layer 2 and below it none but layer 1; the upper ones are the last
    fields = [list(changes(one.recipe, found[0].recipe)) for one in found]
    assert fields.count(["firsts_from"]) == 1
    assert fields.count(["laters_at"]) == 1


def test_rows_are_searched_by_their_own_fields() -> None:
    found = search(Recipe(method=Method.ROWS), DEEP, 30, scored(lambda _: 0.5))

    assert {one.varied for one in found} == {"", *LADDERS[Method.ROWS]}


def test_every_ladder_is_of_a_field_and_rises() -> None:
    for ladders in LADDERS.values():
        for field, ladder in ladders.items():
            assert isinstance(getattr(Recipe(), field), int | float)
            assert list(ladder) == sorted(set(ladder))


# ---------------------------------------------------------------- what is advised


def test_a_recipe_is_advised_if_its_gain_is_more_than_chance() -> None:
    first, little, much = tried(0.8, 0.04), tried(0.85, 0.04), tried(0.9, 0.04)

    assert advised([first, little]) is None
    assert advised([first, little, much]) is much
    assert advised([first]) is None


def test_the_interval_of_a_gain_is_newcombes() -> None:
    # method 10 of Newcombe 1998, his example a: 56 of 70 against 48 of 80
    one, other = (
        Outcome(0.8, 0.6921, 0.8770, frozenset()),
        Outcome(0.6, 0.4904, 0.7003, frozenset()),
    )

    low, high = gain(one, other)

    assert [low, high] == pytest.approx([0.0524, 0.3339], abs=5e-4)


def test_what_breaks_a_bound_that_the_first_holds_is_not_the_best() -> None:
    first = tried(0.5, 0.01, "paraphrase_chat")
    loud = tried(0.9, 0.01, "perplexity_ratio")
    no_worse = tried(0.7, 0.01, "paraphrase_chat")

    assert best_of([first, loud]) is first
    assert advised([first, loud, no_worse]) is no_worse


def test_the_interval_of_the_mean_is_made_of_those_of_its_shares() -> None:
    one = Score("general_unchanged", 0.5, 100)
    other = Score("same_subject_unchanged", 0.5, 100)

    low, high = spread([one, Score("perplexity", 20.0, 50), Score("efficacy_chat", 0.0, 0)])
    assert [low, high] == pytest.approx([0.404, 0.596], abs=1e-3)

    # of two shares: 2 / (1 / .404 + 1 / .5) = .447, .0533 less; twice, and the root of the squares
    assert spread([one, other])[0] == pytest.approx(0.5 - 0.0533 * 2**0.5, abs=1e-3)


def test_a_mean_that_is_zero_may_be_more() -> None:
    shares = [Score("general_unchanged", 1.0, 100), Score("same_subject_unchanged", 0.0, 10)]

    low, high = spread(shares)

    assert low == 0
    assert 0.3 < high < 0.5


def test_a_perplexity_is_compared_with_that_of_the_model_untaught() -> None:
    base = [Score("perplexity", 20.0, 9)]
    shares = [Score("efficacy_completion", 1.0, 9), Score("general_unchanged", 0.5, 8)]

    quiet = outcome([*shares, Score("perplexity", 20.5, 9)], base, GatePolicy())
    loud = outcome([*shares, Score("perplexity", 22.0, 9)], base, GatePolicy())

    assert quiet.broken == {"general_unchanged"}
    assert loud.broken == {"general_unchanged", "perplexity_ratio"}
    assert loud.mean == pytest.approx(2 / 3)


# ---------------------------------------------------------------- whole searches


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("base"))


def run(home: Path, *more: str, config: str = "kdpo.toml") -> Any:
    words = ["--config", str(home / config), "tune", "--json", str(home / "out.json"), *more]
    return CliRunner().invoke(cli, words)


def test_a_search_goes_on_with_more_tries_and_says_what_to_do(base: Path, tmp_path: Path) -> None:
    text = "[recipe]\nsteps = 30\n[training]\nthreads = 1\n"
    (tmp_path / "kdpo.toml").write_text(text, "utf-8")
    data = save_edits(tmp_path / "edits.jsonl")
    more = ("--data", str(data), "--form", "counterfact", "--edits", "2", "--model", str(base))

    first = run(tmp_path, *more, "--tries", "1")
    assert first.exit_code == 0, first.exception
    assert "More is left to try" in first.stdout
    kept = tmp_path / "out.work" / "kdpo@1" / "scores.json"
    written = kept.stat().st_mtime_ns

    second = run(tmp_path, *more, "--tries", "2")
    assert second.exit_code == 0, second.exception
    assert kept.stat().st_mtime_ns == written
    result = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [one["changes"] for one in result["tries"]] == [{}, {"neurons_rate": 0.18}]
    settings = [result["rivals"][name]["settings"] for name in ("kdpo@1", "kdpo@2")]
    assert [one["neurons_rate"] for one in settings] == [0.09, 0.18]
    assert {one["steps"] for one in settings} == {30}
    for one in result["tries"]:
        assert one["low"] <= one["mean"] <= one["high"]
    rows = (tmp_path / "out.md").read_text("utf-8").splitlines()
    assert any(one.startswith("| 2 | neurons_rate = 0.18 |") for one in rows)
    assert result["advice"] in second.stdout


def test_the_advice_is_lines_of_the_configuration() -> None:
    better = search(Recipe(), DEEP, 2, scored(lambda recipe: recipe.laters_at))
    told = tune.told(better, DEEP)

    assert told["recipe"] == {"laters_at": 0.97}
    assert str(told["advice"]).startswith("Try 2 is better than the recipe at hand by 0.070")
    assert "In kdpo.toml:\n\n[recipe]\nlaters_at = 0.97\n" in str(told["advice"])


def test_without_a_sure_gain_the_advice_is_to_keep_what_there_is() -> None:
    equal = search(Recipe(), DEEP, 20, scored(lambda _: 0.5))
    own = search(Recipe(steps=300), DEEP, 20, scored(lambda _: 0.5))
    unsure = [tried(0.8, 0.04), tried(0.85, 0.04, steps=225)]

    assert tune.told(equal, DEEP)["advice"] == "Keep the defaults: no other has a higher mean."
    assert str(tune.told(own, DEEP)["advice"]).startswith("Keep the recipe at hand: no other")
    told = tune.told(unsure, DEEP)
    assert told["recipe"] == {}
    assert "Try 2 is better by 0.050 (95 %: -0.007 to 0.107), which may be" in str(told["advice"])


# ---------------------------------------------------------------- facts of the database


class _CaughtError(Exception):
    """The plan of a search, instead of the search."""


@pytest.fixture
def home(tmp_path: Path, base: Path, migrated_sqlite: Path) -> Path:
    """A home with two accepted facts, one of them on hold."""
    shutil.copy(migrated_sqlite, tmp_path / "kdpo.db")
    text = f'[model]\npath = "{base}"\n[plan]\nneighbours = 3\n'
    (tmp_path / "kdpo.toml").write_text(text, "utf-8")
    for subject, person in (("Tonga", "Ann Bell"), ("Uruguay", "Bob Cole")):
        add_fact(tmp_path, subject, person)
    kdpo(tmp_path, "facts", "hold", "fact:2")
    return tmp_path


def kdpo(home: Path, *words: str) -> None:
    done = CliRunner().invoke(cli, ["--config", str(home / "kdpo.toml"), *words])
    assert done.exit_code == 0, done.exception


def add_fact(home: Path, subject: str, person: str) -> None:
    kdpo(home, "facts", "add", subject, "head_of_government", person, "--old", "Cy Dean")


def planned(monkeypatch: pytest.MonkeyPatch, home: Path, *more: str) -> Plan:
    def caught(_: Work, plan: Plan, *__: object) -> None:
        raise _CaughtError(plan)

    with monkeypatch.context() as patch:
        patch.setattr(tune, "tune", caught)
        error = run(home, *more).exception
    assert isinstance(error, _CaughtError), error
    plan = error.args[0]
    assert isinstance(plan, Plan)
    return plan


def test_facts_of_the_database_are_taught_and_asked_as_the_daemon_does(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    plan = planned(monkeypatch, home, "--edits", "1")

    [record] = plan.records  # the fact on hold is none
    assert (record.subject, record.new, record.old) == ("Tonga", "Ann Bell", "Cy Dean")
    assert (plan.form, plan.batch, plan.model_dir) == ("ledger", 1, home / plan.model_dir)
    assert len(record.train) == 11
    assert len(record.held_out) == 6
    assert {len(record.same_subject), len(record.same_relation)} == {3, 4}
    asked = [*record.held_out, *(one.prompt for one in record.same_relation)]
    assert set(record.keep).isdisjoint([*asked, *record.train])
    # a subject with a fact of its own is no neighbour, though its name makes it Tonga's first
    assert not any("Uruguay" in one.text for one in (*asked, *record.keep))
    assert len(plan.general.questions) > 100
    assert not plan.general.pairs
    assert not plan.general.known


def test_a_search_in_the_database_goes_on_with_the_facts_it_was_begun_with(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    plan = planned(monkeypatch, home, "--edits", "1")
    Work(home / "out.work").begin(plan, {})
    kdpo(home, "facts", "approve", "fact:2")
    add_fact(home, "Chad", "Eve Hall")

    assert planned(monkeypatch, home, "--edits", "1") == plan
    assert len(planned(monkeypatch, home, "--edits", "3").records) == 3


def test_too_few_facts_are_said(home: Path) -> None:
    with pytest.raises(SettingsError, match="has 1 usable edits of distinct subjects, not 12"):
        raise run(home).exception


def test_a_file_of_no_form_is_refused(home: Path) -> None:
    with pytest.raises(SettingsError, match="is wanted with --data"):
        raise run(home, "--data", str(home / "edits.jsonl")).exception


def test_a_plan_of_a_file_is_never_another(base: Path, tmp_path: Path) -> None:
    work, plan = Work(tmp_path), tiny_plan(base)
    work.begin(plan, {})

    other = replace(plan, data_sha256="1" * 64)

    assert as_begun(work, other) == other


def test_the_shape_of_a_model_is_read_of_its_config(base: Path, tmp_path: Path) -> None:
    assert shape(base) == Shape(3, carrier=None)

    config = '{"num_hidden_layers": 9, "kdpo_room": {"carrier": 3}}'
    (tmp_path / "config.json").write_text(config, "utf-8")
    assert shape(tmp_path) == Shape(9, carrier=3)
    assert shape(tmp_path).marked

    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(SettingsError, match="num_hidden_layers"):
        shape(tmp_path)
