"""ROME, MEMIT and AlphaEdit: where they look, and what they teach a random model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.rivals.editor import Bench, load_weights
from kdpo_daemon.bench.edits.rivals.located import AlphaEdit, Memit, Rome, wanted
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.bench.edits.rivals.spots import (
    Changed,
    Spot,
    adding,
    last_of,
    located,
    read,
    second_moments,
)
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.bench.edits.settings import (
    AlphaEditSettings,
    MemitSettings,
    RivalSettings,
    RomeSettings,
)
from kdpo_daemon.records.teaching import Form, Prompt
from tests.bench import edits_model
from tests.bench.edits_model import (
    completion,
    cut_at_the_second_batch,
    record,
    save_tiny_chat_model,
    scores_of,
    silent,
    tiny_plan,
)
from tests.tiny_model import ids

#: Values that suit a model of three layers with large random weights.
SETTINGS: dict[str, RivalSettings] = {
    "rome": RomeSettings(layers=(0.4,), steps=60),
    "memit": MemitSettings(layers=(0.0, 0.4), weight=0.01, steps=60),
    "alphaedit": AlphaEditSettings(
        layers=(0.0, 0.4), rate=0.5, clamp=4.0, decay=1e-3, steps=60, damping=0.01
    ),
}


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
    return edits_model.begun(plan_of(base, batch), directory, {name: SETTINGS[name]})


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


def test_a_change_is_heard_as_in_whole_texts_where_beginnings_are_read_once(model: Model) -> None:
    linear = model.module(0.4, "mlp.down_proj")
    model._head = ids("The head")  # the small model's chats begin with nothing
    asked = (("The head of Arland is", 3), ("Who leads Borland ?", 2), ("The head of river", 3))
    spots = [Spot(Lesson(ids(text), ids("Ann Eve")), place) for text, place in asked]
    change = torch.linspace(-1, 1, 32)

    logprobs, spot, targets = Changed(model, linear, spots).logprobs(change)

    for number, one in enumerate(spots):
        with adding(linear, change, [one]):
            logits, _, tokens = model.target_logits([one.lesson])
        mine = spot == number
        torch.testing.assert_close(logprobs[mine], logits.log_softmax(1), rtol=1e-4, atol=1e-5)
        assert targets[mine].tolist() == tokens.tolist()
        plain, _, _ = model.target_logits([one.lesson])
        assert not torch.allclose(logits, plain, atol=1e-3)


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


def test_each_layer_brings_an_equal_part_of_what_is_lacking_and_the_last_the_rest(
    bench: Bench,
) -> None:
    settings = MemitSettings(layers=(0.0, 0.4), weight=1e-9, steps=5)
    editor = Memit(bench, settings)
    given: list[torch.Tensor] = []
    solve = editor.change

    def seen(place: int, residuals: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        given.append(residuals[:, 0].float())
        return solve(place, residuals, keys)

    editor.change = seen  # type: ignore[method-assign]  # only looks
    fact = located(bench.model, record(1, "Arland", "Ann"))
    assert fact is not None
    highest = editor.linears[-1]
    (state,) = read(bench.model, [fact.key], highest, editor._layer)[1]
    lacks = wanted(bench.model, highest, fact, state, settings)

    editor.edit([record(1, "Arland", "Ann")], [])

    (now,) = read(bench.model, [fact.key], highest, editor._layer)[1]
    torch.testing.assert_close(given[0], lacks / 2)
    torch.testing.assert_close(now, state + lacks, rtol=1e-3, atol=1e-3)


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


def test_alphaedit_remembers_the_keys_of_all_batches(bench: Bench, tmp_path: Path) -> None:
    settings = SETTINGS["alphaedit"]
    assert isinstance(settings, AlphaEditSettings)
    first, second = record(1, "Arland", "Ann"), record(2, "Borland", "Bob")
    fact = located(bench.model, first)
    assert fact is not None
    editor = AlphaEdit(bench, settings)
    lowest = editor.linears[0]
    (key,) = read(bench.model, [fact.key], lowest, lowest)[0]

    editor.edit([first], [])
    editor.edit([second], [first])
    editor.save(tmp_path)

    keys = load_weights(tmp_path)["keys-0"]
    assert keys.shape == (lowest.in_features, 2)
    torch.testing.assert_close(keys[:, 0], key)


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

    cut_at_the_second_batch(cut, name, 2)
    run(cut, name, silent)

    states = [(one.state(name, 2) / "weights.safetensors").read_bytes() for one in (whole, cut)]
    assert states[0] == states[1]
    assert scores_of(cut, name) == scores_of(whole, name)
