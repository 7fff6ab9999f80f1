"""ROME, MEMIT and AlphaEdit: closed forms worked by hand, and what they teach a random model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.rivals import closed
from kdpo_daemon.bench.edits.rivals.editor import Bench
from kdpo_daemon.bench.edits.rivals.located import AlphaEdit, Rome, hold, ridged, wanted
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.bench.edits.rivals.spots import (
    Spot,
    adding,
    last_of,
    located,
    read,
    second_moments,
)
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.bench.edits.settings import (
    BASE,
    RIVALS,
    AlphaEditSettings,
    MemitSettings,
    RivalSettings,
    RomeSettings,
)
from kdpo_daemon.records.teaching import Form, Prompt
from tests.bench.edits_model import completion, record, save_tiny_chat_model, tiny_plan
from tests.tiny_model import ids

#: Values that suit a model of three layers with large random weights.
SETTINGS: dict[str, RivalSettings] = {
    "rome": RomeSettings(layers=(0.4,), steps=60),
    "memit": MemitSettings(layers=(0.0, 0.4), weight=0.01, steps=60),
    "alphaedit": AlphaEditSettings(
        layers=(0.0, 0.4), rate=0.5, clamp=4.0, decay=1e-3, steps=60, damping=0.01
    ),
}


class CutError(Exception):
    """The run is cut off here."""


def silent(_doing: str, _done: int, _of: int) -> None:
    """Tell nobody."""


def double(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base: Path) -> Model:
    return Model(base)


@pytest.fixture
def bench(base: Path, model: Model, tmp_path: Path) -> Bench:
    return Bench(tiny_plan(base), model, tmp_path, lambda *_: None)


def plan_of(base: Path, batch: int) -> Plan:
    """Two facts whose prompts end in their subjects.

    A random model hardly looks back, so that nothing that is written at an earlier token could
    decide what it says.
    """
    plan = tiny_plan(base, batch)
    prompts = [completion(f"The head of {one.subject}") for one in plan.records]
    both = zip(plan.records, prompts, strict=True)
    return replace(plan, records=tuple(replace(one, train=(asked,)) for one, asked in both))


def begun(base: Path, directory: Path, name: str, batch: int = 2) -> Work:
    """A run whose base model was asked."""
    work = Work(directory)
    work.begin(plan_of(base, batch), {name: replace(RIVALS[name], settings=SETTINGS[name])})
    run(work, BASE, silent)
    return work


def scores_of(work: Work, name: str) -> dict[str, float]:
    return {one.name: one.value for one in work.scores(name) or ()}


# ---------------------------------------------------------------- the equations


def test_rome_brings_a_key_to_its_value_and_spares_what_text_uses() -> None:
    moment = double((4.0, 0.0), (0.0, 1.0))
    key, residual = double((1.0, 1.0))[0], double((2.0, -3.0))[0]

    change = closed.rank_one(residual, key, moment)

    # C^-1 k = (1/4, 1), and k^T C^-1 k = 5/4: a fifth of it goes where text is strong
    assert change.tolist() == [
        pytest.approx([0.4, 1.6]),
        pytest.approx([-0.6, -2.4]),
    ]
    assert (change @ key).tolist() == pytest.approx(residual.tolist())


def test_memit_weighs_two_facts_against_text() -> None:
    keys, residuals = double((1.0, 1.0), (0.0, 1.0)), double((3.0, 0.0))

    change = closed.least_squares(residuals, keys, double((1.0, 0.0), (0.0, 1.0)))

    # R K^T = (3, 0); C + K K^T = ((3, 1), (1, 2)), whose inverse is ((2, -1), (-1, 3)) / 5
    assert change.tolist() == [pytest.approx([1.2, -0.6])]


def test_memit_with_one_key_and_no_text_is_rome() -> None:
    moment = double((4.0, 0.5), (0.5, 1.0))
    key, residual = double((1.0, 1.0))[0], double((2.0, -3.0))[0]

    change = closed.least_squares(residual[:, None], key[:, None], 1e-9 * moment)

    assert change.flatten().tolist() == pytest.approx(
        closed.rank_one(residual, key, moment).flatten().tolist()
    )


def test_null_directions_are_those_of_small_eigenvalues() -> None:
    # eigenvalues 3 along (1, 1) and 1 along (1, -1)
    moment = double((2.0, 1.0), (1.0, 2.0))

    found = closed.null_directions(moment, 2.0)

    assert found.flatten().tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5])
    assert closed.null_directions(moment, 0.5).abs().max() == 0


def test_alphaedit_leaves_keys_that_text_uses_as_they_are() -> None:
    projector = closed.null_directions(double((2.0, 1.0), (1.0, 2.0)), 2.0)
    none = torch.zeros(2, 0, dtype=torch.float64)
    key, residual = double((2.0,), (0.0,)), double((3.0,))

    change = closed.projected(residual, key, none, projector, 1.0)

    # P k = (1, -1) and k^T P k = 2: dW = r (P k)^T / (1 + 2)
    assert change.tolist() == [pytest.approx([1.0, -1.0])]
    assert (change @ double((5.0,), (5.0,))).tolist() == [pytest.approx([0.0], abs=1e-12)]


def test_alphaedit_holds_to_the_keys_of_earlier_batches() -> None:
    everywhere = torch.eye(2, dtype=torch.float64)
    key, earlier, residual = double((1.0,), (1.0,)), double((0.0,), (100.0,)), double((2.0,))

    change = closed.projected(residual, key, earlier, everywhere, 1e-6)

    assert (change @ key).item() == pytest.approx(2.0, abs=1e-3)
    assert abs((change @ earlier).item()) < 0.03


def test_a_ridge_is_a_share_of_the_mean_diagonal() -> None:
    found = ridged(double((3.0, 1.0), (1.0, 1.0)), 0.5)

    assert found.tolist() == [[4.0, 1.0], [1.0, 2.0]]


def test_a_change_is_held_to_its_length() -> None:
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])

    hold(long, 1.0)
    hold(short, 1.0)

    assert long.tolist() == pytest.approx([0.6, 0.8])
    assert short.tolist() == pytest.approx([0.3, 0.4])


# ---------------------------------------------------------------- where subjects end


def test_a_subject_ends_at_its_last_token_of_its_last_occurrence(model: Model) -> None:
    text = ids("The head of Arland is Arland river in Borland")

    assert last_of(model, text, "Arland") == 5
    assert last_of(model, text, "Arland river") == 6
    assert last_of(model, text, "The") == 0
    assert last_of(model, text, "Corland") is None
    assert last_of(model, text, "") is None


def test_a_fact_is_keyed_by_a_completion_and_taught_in_all_forms(model: Model) -> None:
    known = record(1, "Arland", "Ann")

    found = located(model, known)

    assert found is not None
    assert found.key.lesson.prompt == ids("The head of Arland is")
    assert [one.place for one in found.taught] == [3, 2]
    assert found.essence.place == 0
    assert located(model, replace(known, subject="Nowhere")) is None
    assert located(model, replace(known, train=(Prompt(Form.CHAT, "Who leads Arland ?"),))) is None


def test_what_is_read_at_a_spot_is_what_passes_there_alone(model: Model) -> None:
    linear = model.module(0.4, "mlp.down_proj")
    spots = [
        Spot(Lesson(ids(text), (0,)), place)
        for text, place in (("The head of Arland is", 3), ("Who leads Borland ?", 2))
    ]

    keys, values = read(model, spots, linear, linear)

    alone = [read(model, [one], linear, linear)[0][0] for one in spots]
    torch.testing.assert_close(keys, torch.stack(alone))
    torch.testing.assert_close(values, keys @ linear.weight.T)
    assert not torch.allclose(keys[0], keys[1])


def test_a_change_is_added_at_the_spot_alone(model: Model) -> None:
    linear = model.module(0.4, "mlp.down_proj")
    at, other = (Spot(Lesson(ids("The head of Arland is"), (0,)), place) for place in (3, 2))
    before = [read(model, [one], linear, linear)[1] for one in (at, other)]
    change = torch.arange(32.0)
    seen = []

    with adding(linear, change, [at]):
        handle = linear.register_forward_hook(lambda _, __, out: seen.append(out))
        model.target_logits([at.lesson])
        handle.remove()

    torch.testing.assert_close(seen[0][:, 3], before[0] + change)
    torch.testing.assert_close(seen[0][:, 2], before[1])


def test_the_second_moment_is_that_of_what_differs_between_texts(model: Model) -> None:
    linear = model.module(0.4, "mlp.down_proj")
    prompts = [completion("The river in Erland is"), completion("The river in Forland is")]
    answers = model.answers(prompts, 4, lambda *_: None)

    (found,) = second_moments(model, [linear], prompts, 4, lambda *_: None)

    keys = []
    for prompt, said in zip(prompts, answers, strict=True):
        text = ids(f"{prompt.text} {said}")
        spots = [Spot(Lesson(text, (0,)), place) for place in range(3, len(text))]
        keys.append(read(model, spots, linear, linear)[0].double())
    every = torch.cat(keys)
    torch.testing.assert_close(found, every.T @ every / len(every), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- the rivals


def test_rome_makes_the_module_give_what_was_wanted(bench: Bench) -> None:
    settings = RomeSettings(layers=(0.4,), steps=5)
    editor = Rome(bench, settings)
    (linear,) = editor.linears
    fact = located(bench.model, record(1, "Arland", "Ann"))
    assert fact is not None
    key, value = (one[0] for one in read(bench.model, [fact.key], linear, linear))
    lacks = wanted(bench.model, linear, fact, value, settings)

    editor.edit([record(1, "Arland", "Ann")], [])

    assert float(lacks.norm()) > 0.1
    torch.testing.assert_close(linear.weight @ key, value + lacks, rtol=1e-3, atol=1e-3)


def test_what_is_wanted_keeps_its_length(bench: Bench) -> None:
    settings = RomeSettings(layers=(0.4,), steps=5, clamp=0.1)
    linear = bench.model.module(0.4, "mlp.down_proj")
    fact = located(bench.model, record(1, "Arland", "Ann"))
    assert fact is not None
    state = read(bench.model, [fact.key], linear, linear)[1][0]

    found = wanted(bench.model, linear, fact, state, settings)

    assert float(found.norm()) == pytest.approx(0.1 * float(state.norm()), rel=1e-4)


def test_alphaedit_leaves_what_the_general_texts_use_as_it_was(bench: Bench) -> None:
    settings = SETTINGS["alphaedit"]
    assert isinstance(settings, AlphaEditSettings)
    editor = AlphaEdit(bench, settings)
    used = [torch.eye(len(one)).double() - one for one in editor._projectors]
    before = [one.weight.double() for one in editor.linears]

    editor.edit([record(1, "Arland", "Ann")], [])

    for linear, began, directions in zip(editor.linears, before, used, strict=True):
        change = linear.weight.double() - began
        assert float(change.norm()) > 0.01
        assert float((change @ directions).norm()) < 1e-4 * float(change.norm())


@pytest.mark.parametrize("name", ["rome", "memit", "alphaedit"])
def test_what_is_taught_is_said_where_the_subject_ends(
    name: str, base: Path, tmp_path: Path
) -> None:
    work = begun(base, tmp_path, name)

    run(work, name, silent)

    assert scores_of(work, name)["forced_edit"] == 1


def test_records_without_their_subject_are_refused(bench: Bench) -> None:
    lost = replace(record(2, "Borland", "Bob"), subject="Nowhere")

    refused = Rome(bench, RomeSettings(steps=1)).edit([record(1, "Arland", "Ann"), lost], [])

    assert refused == (2,)


@pytest.mark.parametrize("name", ["rome", "memit", "alphaedit"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    name: str, base: Path, tmp_path: Path
) -> None:
    whole = begun(base, tmp_path / "whole", name, batch=1)
    run(whole, name, silent)
    cut = begun(base, tmp_path / "cut", name, batch=1)

    def until_the_second_batch_is_asked(doing: str, done: int, of: int) -> None:
        if doing == "asking all facts so far" and of == 2:
            raise CutError

    with pytest.raises(CutError):
        run(cut, name, until_the_second_batch_is_asked)
    run(cut, name, silent)

    states = [(one.state(name, 2) / "weights.safetensors").read_bytes() for one in (whole, cut)]
    assert states[0] == states[1]
    assert scores_of(cut, name) == scores_of(whole, name)
