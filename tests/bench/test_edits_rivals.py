"""Rivals on a random model of three layers: each teaches what `none` does not know."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdpo_daemon.bench.edits.plan import Work, lent_of, probes_of
from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench, cross_entropy, target_logprobs
from kdpo_daemon.bench.edits.rivals.finetune import FromTheLastPlace, clamp
from kdpo_daemon.bench.edits.rivals.layout import Ids
from kdpo_daemon.bench.edits.rivals.lora import dpo_loss
from kdpo_daemon.bench.edits.rivals.measure import perplexity
from kdpo_daemon.bench.edits.rivals.model import Begun, Lesson, Model
from kdpo_daemon.bench.edits.rivals.product import prompts_of
from kdpo_daemon.bench.edits.rivals.released import add_again, margin
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.bench.edits.settings import (
    BASE,
    RIVALS,
    FineTuneSettings,
    LoraSettings,
    ReleasedSettings,
    RivalSettings,
)
from kdpo_daemon.orders import Method, Recipe, read_order
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
from tests.tiny_model import END, ids

FINE_TUNE = FineTuneSettings(rate=2e-2, steps=80)
#: Values that suit a model of three layers with large random weights.
SETTINGS: dict[str, RivalSettings] = {
    "lora-ce": LoraSettings(rate=2e-2, epochs=40),
    "lora-dpo": LoraSettings(rate=1e-2, epochs=60),
    "ft-m": FINE_TUNE,
    "locft-bf": FINE_TUNE,
    "kdpo-released": ReleasedSettings(rate=1e-2),
    "kdpo": Recipe(
        Method.ROWS, layers=(1, 2), columns_rate=0.1, keep_weight=0.1, stir_weight=0.1, steps=60
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base: Path) -> Model:
    return Model(base)


def begun(base: Path, directory: Path, names: Sequence[str], batch: int = 2) -> Work:
    rivals = {name: SETTINGS.get(name, RIVALS[name].settings) for name in names}
    return edits_model.begun(tiny_plan(base, batch), directory, rivals)


# ---------------------------------------------------------------- what is asked


def test_answers_are_those_of_a_plain_loop_without_a_cache(model: Model) -> None:
    prompts = [ids(text) for text in ("The head of Arland is", "The river", "The head", "The")]

    found = model.continued(prompts, 6)

    for prompt, answer in zip(prompts, found, strict=True):
        said = list(prompt)
        for _ in range(6):
            following = int(model.net(torch.tensor([said])).logits[0, -1].argmax())
            if following == END:
                break
            said.append(following)
        assert answer == tuple(said[len(prompt) :])


def test_an_answer_stops_at_the_end_token_and_the_others_go_on(model: Model) -> None:
    prompts = [ids(f"{one} of {two}") for one in ("head", "river") for two in ("Arland", "Eve")]
    plain = model.continued(prompts, 5)
    model._ends |= {plain[0][-1]}  # as if what the first answer says last ended answers

    found = model.continued(prompts, 5)

    wanted = []
    for whole in plain:
        ends = [place for place, token in enumerate(whole) if token in model._ends]
        wanted.append(whole[: ends[0]] if ends else whole)
    assert found == wanted
    assert len({len(one) for one in found}) > 1


def test_forced_tokens_are_those_of_a_whole_softmax(model: Model) -> None:
    lessons = [
        Lesson(ids("The head of Arland is"), ids("Ann")),
        Lesson(ids("Who"), ids("Bob Eve")),
    ]

    found = model.forced(lessons)

    for lesson, seen in zip(lessons, found, strict=True):
        logprobs = (
            model.net(torch.tensor([lesson.prompt + lesson.target])).logits[0].log_softmax(1)
        )
        for place, (token, one) in enumerate(zip(lesson.target, seen, strict=True)):
            row = logprobs[len(lesson.prompt) - 1 + place]
            assert one.chosen_logprob == pytest.approx(float(row[token]), abs=1e-5)
            assert one.argmax_id == int(row.argmax())
            assert one.argmax_logprob == pytest.approx(float(row.max()), abs=1e-5)


def test_what_chats_begin_with_is_read_once_and_nothing_is_scored_otherwise(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The head of Arland is", "The head of river is Bob", "Who", "The river"]
    lessons = [Lesson(ids(text), ids("Ann Eve")) for text in texts]
    model._head = ids("The head")  # the small model's chats begin with nothing
    read: list[Ids] = []
    plain = model.begun

    def reading(head: Ids) -> Begun:
        read.append(head)
        return plain(head)

    monkeypatch.setattr(model, "begun", reading)

    found = model.forced(lessons)

    assert read == [model._head]
    for lesson, seen in zip(lessons, found, strict=True):
        logits, _, tokens = model.target_logits([lesson])
        logprobs = logits.log_softmax(1)
        wanted = [float(row[token]) for row, token in zip(logprobs, tokens, strict=True)]
        assert [one.chosen_logprob for one in seen] == pytest.approx(wanted, abs=1e-5)
        assert [one.argmax_id for one in seen] == logprobs.argmax(1).tolist()


def test_lessons_of_all_lengths_have_the_loss_that_each_has_alone(model: Model) -> None:
    texts = ["Who", "The head of Arland is", "The river", "The head of river is Bob"]
    lessons = [Lesson(ids(text), ids("Ann Eve")) for text in texts]

    values, row = target_logprobs(model, lessons)

    alone = []
    for lesson in lessons:
        logits, _, tokens = model.target_logits([lesson])
        logprobs = logits.log_softmax(1).gather(1, tokens[:, None])[:, 0]
        alone.append(logprobs)
    for number, logprobs in enumerate(alone):
        torch.testing.assert_close(values[row == number], logprobs)
    loss = cross_entropy(model, lessons)
    torch.testing.assert_close(loss, -torch.stack([one.mean() for one in alone]).mean())


def test_perplexity_is_that_of_all_tokens_but_the_first(model: Model) -> None:
    text = "The head of Arland is Ann"

    found = perplexity(model, text, lambda *_: None)

    tokens = torch.tensor(ids(text))
    logprobs = model.net(tokens[None]).logits[0].log_softmax(1)
    mean = logprobs[:-1].gather(1, tokens[1:, None]).mean()
    assert found.value == pytest.approx(math.exp(-float(mean)), rel=1e-5)
    assert found.n == 5


def test_a_chat_answer_ends_as_the_template_ends_a_turn(model: Model) -> None:
    lesson = model.lesson(Prompt(Form.CHAT, "Who leads Arland ?"), "Ann")

    assert lesson == Lesson(ids("Who leads Arland ?"), (*ids("Ann"), END))


def test_each_others_questions_are_asked_about_subjects_and_compared(
    base: Path, tmp_path: Path
) -> None:
    plan = tiny_plan(base)
    asked = (completion("The capital of Borland is"), Prompt(Form.CHAT, "Who leads Borland ?"))
    plan = replace(plan, records=(plan.records[0], replace(plan.records[1], train=asked)))
    work = edits_model.begun(plan, tmp_path, {"lora-ce": SETTINGS["lora-ce"]})

    lent = lent_of(plan)
    run(work, "lora-ce", silent)

    first = len(probes_of(plan)) + 1
    assert [(one.id, one.fact_id, one.prompt.text) for one in lent] == [
        (first, 1, "The capital of Arland is"),
        (first + 1, 2, "The head of Borland is"),
    ]
    assert {one.prompt.form for one in lent} == set(Form)
    base_says = work.base()
    assert base_says and {one.id for one in lent} <= set(base_says.answers)
    assert scores_of(work, "lora-ce")["same_words_unchanged"] < 1  # it changes all of them
    assert lent_of(tiny_plan(base)) == []  # both are asked the same


# ---------------------------------------------------------------- the rivals


def test_no_edit_and_the_base_model_agree(base: Path, tmp_path: Path) -> None:
    work = begun(base, tmp_path, ["none"])

    run(work, "none", silent)

    found = scores_of(work, "none")
    assert found["efficacy_completion"] == found["efficacy_chat"] == 0
    assert found["forced_edit"] == 0
    assert found["same_subject_unchanged"] == found["general_unchanged"] == 1
    assert found["forced_locality"] == 1


@pytest.mark.parametrize("name", ["lora-ce", "lora-dpo", "locft-bf"])
def test_what_is_taught_is_answered_in_both_forms(name: str, base: Path, tmp_path: Path) -> None:
    work = begun(base, tmp_path, [name])

    run(work, name, silent)

    found = scores_of(work, name)
    assert found["efficacy_completion"] == found["efficacy_chat"] == 1
    assert found["forced_edit"] == 1
    (batch,) = work.batches(name)
    assert batch.retention == (1.0,)
    assert batch.seconds > 0
    assert batch.peak_mb > 1


def test_ft_m_ends_with_its_last_fact_right(base: Path, tmp_path: Path) -> None:
    work = begun(base, tmp_path, ["ft-m"], batch=1)

    run(work, "ft-m", silent)

    assert work.batches("ft-m")[-1].retention[-1] == 1


def test_kdpo_as_released_teaches_the_tokens_and_no_end(base: Path, tmp_path: Path) -> None:
    work = begun(base, tmp_path, ["kdpo-released"])

    run(work, "kdpo-released", silent)

    assert scores_of(work, "kdpo-released")["forced_edit"] == 1


def test_ft_l_stays_within_its_clamp_and_makes_the_object_likelier(
    base: Path, tmp_path: Path
) -> None:
    model = Model(base)
    bench = Bench(tiny_plan(base), model, tmp_path, lambda *_: None)
    editor = FromTheLastPlace(bench, FineTuneSettings(rate=2e-2, clamp=0.05))
    began = editor.weight.detach().clone()
    lesson = model.lesson(completion("The head of Arland is"), "Ann", end=False)
    (before,) = model.forced([lesson])

    editor.edit([record(1, "Arland", "Ann")], [])

    (after,) = model.forced([lesson])
    assert after[0].chosen_logprob > before[0].chosen_logprob + 0.5
    assert 0 < float((editor.weight.detach() - began).abs().max()) <= 0.05 + 1e-6


def test_the_prompt_states_the_fact_before_its_own_questions_alone(
    base: Path, tmp_path: Path
) -> None:
    work = begun(base, tmp_path, ["prompt"])

    run(work, "prompt", silent)

    found = scores_of(work, "prompt")
    assert found["general_unchanged"] == 1
    said = json.loads((work.state("prompt", 1) / "facts.json").read_text("utf-8"))
    assert said["1"] == "The head of Arland is Ann."


@pytest.mark.parametrize("name", ["lora-ce", "ft-m", "prompt"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    name: str, base: Path, tmp_path: Path
) -> None:
    whole = begun(base, tmp_path / "whole", [name], batch=1)
    run(whole, name, silent)
    cut = begun(base, tmp_path / "cut", [name], batch=1)

    cut_at_the_second_batch(cut, name, 4)
    first = (cut.of(name) / "batch-1.json").read_bytes()
    run(cut, name, silent)

    assert len(cut.batches(name)) == 2
    assert (cut.of(name) / "batch-1.json").read_bytes() == first
    assert scores_of(cut, name) == scores_of(whole, name)
    assert cut.batches(name)[1].retention == whole.batches(name)[1].retention


def test_the_product_teaches_what_its_child_takes_and_names_what_it_refuses(
    base: Path, tmp_path: Path
) -> None:
    plan = tiny_plan(base)
    lost = replace(plan.records[1], subject="Nowhere")
    plan = replace(plan, records=(plan.records[0], lost))
    work = Work(tmp_path)
    work.begin(plan, {"kdpo": replace(RIVALS["kdpo"], settings=SETTINGS["kdpo"])})
    run(work, BASE, silent)

    run(work, "kdpo", silent)

    (batch,) = work.batches("kdpo")
    assert batch.refused == (2,)
    assert batch.retention == (0.5,)
    assert batch.peak_mb > 1
    found = scores_of(work, "kdpo")
    assert found["efficacy_completion"] == found["efficacy_chat"] == 0.5


def test_the_product_is_given_the_pairs_of_earlier_batches_again(
    base: Path, tmp_path: Path
) -> None:
    work = begun(base, tmp_path, ["kdpo"], batch=1)

    run(work, "kdpo", silent)

    orders = work.of("kdpo") / "orders"
    first, second = (read_order(orders / f"kdpo-{n:06d}").pairs for n in (1, 2))
    assert [one for one in second if one.replay] == [replace(one, replay=True) for one in first]
    assert {one.fact_id for one in second if not one.replay} == {2}
    assert work.batches("kdpo")[1].retention == (1.0, 1.0)


# ---------------------------------------------------------------- the equations


def test_dpo_compares_both_answers_with_the_reference() -> None:
    policy, reference = torch.tensor([2.0, 12.0]), torch.tensor([2.0, 2.0])

    found = dpo_loss(policy, reference, 0.1)

    # nothing gained: log 2; ten nats gained: -log sigmoid(1) = log(1 + 1/e)
    assert found.tolist() == pytest.approx([0.693147, 0.313262], abs=1e-5)


def test_a_margin_leaves_out_places_that_agree() -> None:
    logits = torch.tensor([[1.0, 4.0, 0.0], [5.0, 0.0, 2.5]])

    assert margin(logits, torch.tensor([0, 0]), torch.tensor([1, 0])) == -3.0
    assert margin(logits, torch.tensor([0, 0]), torch.tensor([1, 2])) == -0.5


def test_the_released_code_makes_each_change_twice() -> None:
    weight, began = torch.tensor([1.5, 2.0]), torch.tensor([1.0, 2.0])

    add_again(weight, began)

    assert weight.tolist() == [2.0, 2.0]


def test_a_clamp_holds_each_weight() -> None:
    weight, began = torch.tensor([1.5, 0.9, 1.01]), torch.ones(3)

    clamp(weight, began, 0.1)

    assert weight.tolist() == pytest.approx([1.1, 0.9, 1.01])


def test_what_judges_is_never_kept_by_training() -> None:
    judged = completion("The capital of Arland is")
    taught: list[Record] = [record(1, "Arland", "Ann"), record(2, "Borland", "Bob")]

    assert {one.text for one in prompts_of(taught, {judged})} == {"The capital of Borland is"}
