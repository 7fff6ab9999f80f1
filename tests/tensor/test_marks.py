"""Marks: the subjects that a text names, told to every later token, on a small random model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdpo_daemon.edits.placement import TWINS
from kdpo_daemon.orders import Method, Recipe, neuron_layers
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import behind_gates, gated, marks, named, readings, trainer
from kdpo_daemon.tuning.checkpoint import read_adapter
from kdpo_daemon.tuning.gates import Gated, Tokens
from kdpo_daemon.tuning.given import speech_of
from kdpo_daemon.tuning.imagined import ends
from kdpo_daemon.tuning.likenesses import Asked
from kdpo_daemon.tuning.marks import marked
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import planted, twins
from kdpo_daemon.tuning.packing import rows
from kdpo_daemon.tuning.readings import Named, heard, read_names
from kdpo_daemon.tuning.room import Room
from kdpo_daemon.tuning.seen import Around, Texts, along, look_again
from kdpo_daemon.tuning.tokens import mentions, sequence_of
from tests.tensor.child import trained
from tests.tensor.ramps import heights
from tests.tensor.rooms import room_in, save_roomy_model
from tests.tensor.test_gated import NEW, TAUGHT, change, order, replays, says, served
from tests.tiny_model import VOCABULARY, ids, keep_prompts, pairs_of

SUBJECTS = ("Arland", "Borland")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roomy_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(order(base, TAUGHT), tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(base: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = (*NEW, *replays(TAUGHT))
    return trained(order(base, pairs, parent=first), tmp_path_factory.mktemp("second"))


def all_of(pairs: Sequence[Pair], base: Path, around: Around) -> Named:
    asked = Texts([*map(sequence_of, pairs), *around.read()])
    return Named(pairs, {pair.subject for pair in pairs}, speech_of(base), asked)


def heard_around(
    model: EditedModel,
    room: Room,
    texts: list[tuple[int, ...]],
    answers: list[tuple[tuple[int, ...], tuple[int, ...]]],
) -> Around:
    """Texts as the model reads them before it wears anything, and answers."""
    read = along(model, room.layers, texts)
    return Around(texts, answers, dict(zip(room.layers, read, strict=True)))


def opened_along(
    base: Path,
    pairs: Sequence[Pair],
    kept: Sequence[tuple[int, ...]],
    texts: list[tuple[int, ...]],
    text: str,
) -> torch.Tensor:
    """How high the ramps rise along a text that pairs' subjects are given as marks, (L, n)."""
    room, model = room_in(base), EditedModel(base, "mlp")
    model.edit([model.module_names[2]])
    around = heard_around(model, room, texts, [(one, (0,)) for one in kept])
    [made] = marked(model, room, all_of(pairs, base, around), around, {}).neurons.values()
    [read] = model.read_by(room.layers[:1], rows([ids(text)]))
    return heights(Gated(made.gates, made.ups), read[0])


@torch.no_grad()
def carried(base: Path, adapter: Path | None, text: str) -> torch.Tensor:
    """The mark that the last token of a text has, (block,); the flag is first."""
    room = room_in(base)
    model: Any = served(base, adapter)
    seen = model(torch.tensor([ids(text)]), output_hidden_states=True).hidden_states
    found: torch.Tensor = seen[room.carrier + 1][0, -1, room.carried]
    return found


def test_taught_facts_are_answered_and_little_else_changes(base: Path, first: Path) -> None:
    adapter = served(base, first)

    for pair in TAUGHT:
        assert says(adapter, pair) == pair.chosen_ids
    assert change(served(base, None), adapter) < 1e-3


def test_a_subject_s_mark_is_read_wherever_it_was_named(base: Path, first: Path) -> None:
    one = carried(base, first, "Who leads Arland ?")
    again = carried(base, first, "The river in Arland is")
    other = carried(base, first, "Who leads Borland ?")

    assert float(one[0]) > 0
    assert torch.cosine_similarity(one, again, 0) > 0.95
    assert torch.cosine_similarity(one[1:], other[1:], 0) < 0.5


def test_a_text_that_names_none_has_no_mark(base: Path, first: Path) -> None:
    strength = float(carried(base, first, "Who leads Arland ?")[0])

    assert float(carried(base, first, "Who leads Forland ?").abs().max()) < strength / 4
    assert not carried(base, None, "Who leads Arland ?").any()


def test_a_later_batch_keeps_the_marks_and_adds_its_own(
    base: Path, first: Path, second: Path
) -> None:
    name = f"model.layers.{room_in(base).layers[0]}.mlp"
    before, after = (read_adapter(one).neurons[name] for one in (first, second))

    assert after.numbers[: len(before.numbers)] == before.numbers
    assert (len(before.numbers), len(after.numbers)) == (2 * TWINS, 3 * TWINS)
    for pair in (*NEW, *TAUGHT):
        assert says(served(base, second), pair) == pair.chosen_ids


def test_a_replaced_fact_s_subject_gets_another_mark_that_stands_alone(
    base: Path, first: Path, tmp_path: Path
) -> None:
    pairs = (*pairs_of(4, "Arland", "Dora"), *replays(TAUGHT[2:]))

    out = trained(order(base, pairs, parent=first), tmp_path)

    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids
    before, after = (carried(base, one, "Who leads Arland ?") for one in (first, out))
    assert float(after[0] / before[0]) == pytest.approx(1, abs=0.2)
    assert float(torch.cosine_similarity(before[1:], after[1:], dim=0)) < 0.6
    was, still = (carried(base, one, "Who leads Borland ?") for one in (first, out))
    assert torch.allclose(was, still, atol=0.2 * float(was.norm()))


def test_gates_are_told_how_much_of_a_mark_the_subject_s_own_ramp_writes(
    base: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of first tokens and cues: next to nothing where a subject is taught again."""
    shares: list[float] = []
    made = named.gated

    def gates(tokens: Tokens, carried: slice, opens: float, alike: named.Alike, *rest: Any) -> Any:
        shares.extend(alike.whole)
        return made(tokens, carried, opens, alike, *rest)

    monkeypatch.setattr(named, "gated", gates)
    pairs = (*pairs_of(4, "Arland", "Dora"), *NEW, *replays(TAUGHT[2:]))
    trained(order(base, pairs, parent=first), tmp_path)

    assert sorted(round(abs(share)) for share in shares) == [0, 0, 1, 1]


def test_what_earlier_batches_say_is_left_as_it_is(
    base: Path, first: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch looks at a sample of it; at none of it here."""
    monkeypatch.setattr(behind_gates, "_AGAIN", 0)
    pairs = (*pairs_of(5, "Dorland", "Finn"), *replays((*NEW, *TAUGHT)))

    out = trained(order(base, pairs, parent=second), tmp_path)

    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    old, new = (planted(model, read_adapter(one)).neurons for one in (second, out))
    for name, one in old.items():
        count = len(one.owners)
        assert torch.equal(new[name].columns[:, :count], one.columns)
        assert torch.equal(new[name].ups[:count], one.ups)


def river(pair: Pair) -> Pair:
    """Another fact about the same subject."""
    chosen = (VOCABULARY["Finn"], pair.chosen_ids[-1])
    text = f"The river in {pair.subject} is"
    return replace(
        pair, fact_id=7, prompt=text, prompt_ids=ids(text), chosen="Finn", chosen_ids=chosen
    )


def test_two_facts_of_one_subject_share_its_mark(base: Path, tmp_path: Path) -> None:
    pairs = (*TAUGHT[:2], river(TAUGHT[0]))

    out = trained(order(base, pairs), tmp_path)

    name = f"model.layers.{room_in(base).layers[0]}.mlp"
    assert len(read_adapter(out).neurons[name].numbers) == TWINS
    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids


def test_a_subject_s_other_facts_go_over_to_the_batch_that_teaches_it_again(
    base: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stays = river(TAUGHT[0])
    before = trained(order(base, (*TAUGHT, stays)), tmp_path_factory.mktemp("before"))
    pairs = (*pairs_of(4, "Arland", "Dora"), *replays((*TAUGHT[2:], stays)))

    out = trained(order(base, pairs, parent=before), tmp_path)

    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids
    owners = [one.owners for one in read_adapter(out).neurons.values()]
    assert sum(some.count(stays.fact_id) for some in owners) == 2 * TWINS  # said and cued


def test_each_thing_that_is_looked_at_is_a_sign_of_life(base: Path, tmp_path: Path) -> None:
    """On a busy machine all of it together is longer than a child may be silent."""
    told: list[dict[str, object]] = []

    trained(order(base, TAUGHT), tmp_path, told.append)

    signs = [next(iter(one.items())) for one in told]
    assert [one for one in signs if one[0] != "said"][:9] == [
        ("step", 0),
        ("kept", len(keep_prompts())),
        ("read", "texts"),
        ("read", "prompts"),
        ("marked", 2),
        ("read", "answers"),
        ("cued", 2),
        ("read", "pairs"),
        ("step", 1),
    ]


def test_codes_are_far_from_each_other(base: Path) -> None:
    model, room = EditedModel(base, "mlp"), room_in(base)
    pairs = [
        pair
        for n, one in enumerate(("Arland", "Borland", "Corland", "Dorland"), 1)
        for pair in pairs_of(n, one, "Ann")
    ]
    model.edit([model.module_names[2]])

    around = Around([], [(one.ids, (0,)) for one in keep_prompts()])
    found = marked(model, room, all_of(pairs, base, around), around, {})

    (neurons,) = found.neurons.values()
    codes = neurons.columns[room.marked, ::TWINS][1:]
    like = (codes.T @ codes) / codes.norm(dim=0).outer(codes.norm(dim=0))
    assert float((like - torch.eye(4)).max()) < 0.5


def test_what_a_mark_lacks_its_own_ramp_writes_and_says_how_much_that_is(base: Path) -> None:
    """A subject that is taught again: there its first ramp writes a whole mark already."""
    model, room = EditedModel(base, "mlp"), room_in(base)
    model.edit([model.module_names[2]])
    around = Around([], [(one.ids, (0,)) for one in keep_prompts()])

    first = marked(model, room, all_of(TAUGHT, base, around), around, {})
    again = marked(model, room, all_of(TAUGHT, base, around), around, first.neurons)

    assert first.whole == pytest.approx({pair.subject: 1.0 for pair in TAUGHT}, abs=0.2)
    assert again.whole == pytest.approx({pair.subject: 0.0 for pair in TAUGHT}, abs=0.2)


def test_a_mark_is_not_written_where_a_text_ends_as_the_subject_does(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No text at hand has the last word of the subject but where the subject is named."""
    subject = "Arland Borland"
    pairs = [replace(pair, subject=subject) for pair in pairs_of(1, subject, "Ann")]
    kept = [one.ids for one in keep_prompts() if VOCABULARY["Borland"] not in one.ids]
    texts = [ids("Who leads Dora ?"), ids("The river in Ann is")]

    def mark(text: str) -> float:
        return float(opened_along(base, pairs, kept, texts, text).amax())

    assert mark(f"The river in {subject}") > 0.5
    told = mark("The capital of Borland")
    monkeypatch.setattr(readings, "ends_alike", lambda *_: {})
    assert told < 0.1 * mark("The capital of Borland")


def test_a_mark_is_not_written_where_a_text_begins_with_another_word(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No text at hand but the prompt has the token at which its subject is marked."""
    pairs = [replace(pairs_of(1, "Arland", "Ann")[0], prompt_ids=ids("Arland river is"))]
    kept = [one.ids for one in keep_prompts() if VOCABULARY["river"] not in one.ids]
    texts = [ids("Who leads Dora ?"), ids("The head in Ann is")]

    def mark(word: str) -> float:
        return float(opened_along(base, pairs, kept, texts, f"{word} river")[1].amax())

    assert mark("Arland") > 0.5
    told = mark("Eve")  # too short to be among the words that are put there
    monkeypatch.setattr(readings, "begins_alike", lambda *_: {})
    assert told < 0.1 * mark("Eve")


def test_a_mark_is_not_written_where_a_name_is_almost_the_subjects(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words that ask about the subject, and in no text at hand."""
    subject = "Arland Borland"
    text = f"The head of {subject} is"
    taught = [
        replace(one, subject=subject, prompt=text, prompt_ids=ids(text))
        for one in pairs_of(1, "Arland", "Ann")
    ]
    kept = [one.ids for one in keep_prompts() if VOCABULARY["Borland"] not in one.ids]
    texts = [ids("Who leads Dora ?"), ids("The river in Ann is")]

    def mark(name: str) -> float:
        return float(opened_along(base, taught, kept, texts, f"The head of {name}").amax())

    told = mark("Forland Borland")
    assert mark(subject) > 0.5
    monkeypatch.setattr(readings, "asked_alike", lambda *_: Asked({}, {}))
    assert told < 0.1 * mark("Forland Borland")


def test_a_mark_is_told_from_places_after_other_text(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [replace(one, subject="Arland") for one in pairs_of(1, "Arland", "Ann")]
    kept = [one.ids for one in keep_prompts()]
    texts = [
        ids("Who leads Dora ? Who leads Ann ? The head in Bob is"),
        ids("The river in Ann is"),
    ]
    text = "Who leads Eve ? The river in Bob is Dora Who leads The river in Arland"
    room, model = room_in(base), EditedModel(base, "mlp")
    model.edit([model.module_names[2]])
    around = heard_around(model, room, texts, [(one, (0,)) for one in kept])

    def places() -> int:
        [reading] = read_names(model, room, all_of(pairs, base, around), around)
        return len(reading.places["Arland"])

    assert float(opened_along(base, pairs, kept, texts, text)[-1].amax()) > 0.5
    told = places()
    monkeypatch.setattr(readings, "named_after_text", lambda *_: {})
    assert told == places() + 3  # after little text, more and much


def test_texts_that_end_alike_are_read_for_the_subject_whose_end_they_have(base: Path) -> None:
    room, model = room_in(base), EditedModel(base, "mlp")
    model.edit([model.module_names[2]])
    first, second, other = (ids(text) for text in ("Who leads Ann ?", "Dora", "The river in"))

    [read] = readings._read_ends(model, room, {"A": [first, second], "B": [], "C": [other]})

    assert list(read) == ["A", "C"]
    for subject, texts in (("A", [first, second]), ("C", [other])):
        [alone] = ends(model, room.layers, texts)
        assert torch.allclose(read[subject], alone, atol=1e-5)


def test_of_texts_those_are_looked_at_again_in_which_a_mark_opens(base: Path) -> None:
    room, model = room_in(base), EditedModel(base, "mlp")
    model.edit(model.module_names[2:])
    texts = [ids("Who leads Dora ?"), ids("The river in Arland is"), ids("The river in Ann is")]
    around = heard_around(model, room, texts, [(one.ids, (0,)) for one in keep_prompts()])
    read = along(model, model.edited, texts)
    around = replace(around, along={**around.along, **dict(zip(model.edited, read, strict=True))})

    assert marks.open_in(model, room, around) == []
    marked(model, room, all_of(TAUGHT, base, around), around, {})
    again = marks.open_in(model, room, around)

    assert again == [1]
    found = look_again(model, model.edited, around, again)
    for one, other, was in zip(found, along(model, model.edited, texts), read, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert not torch.allclose(one, was, atol=1e-3)


def test_a_mark_is_whole_where_it_is_told_less_surely(base: Path) -> None:
    """Prompts that were not taught read the subject a little otherwise: it says the same there."""
    room, model = room_in(base), EditedModel(base, "mlp")
    model.edit([model.module_names[2]])
    around = Around([], [(one.ids, (0,)) for one in keep_prompts()])
    made = marked(model, room, all_of(TAUGHT, base, around), around, {}).neurons[
        model.module_names[0]
    ]
    both = Gated(made.gates, made.ups)
    [read] = model.read_by(room.layers[:1], rows([ids("Who leads Arland ?")]))
    [own] = [at for at in range(2) if float(heights(both, read[0])[:, at].amax()) > 0.5]

    place = read[0][heights(both, read[0])[:, own].argmax()][None]
    less = place - 0.2 * made.gates[2 * own] * float(place @ made.gates[2 * own]) / float(
        made.gates[2 * own].square().sum()
    )

    assert float(less @ made.gates[2 * own]) < 0.85 * float(place @ made.gates[2 * own])
    assert float(heights(both, less)[0, own]) > 0.9 * float(heights(both, place)[0, own])


def test_mentions_are_words_of_their_own_if_there_are_such() -> None:
    pieces = ["In ", "Niger", "ia", ", ", "Niger", " and ", "New", " York", "'s"]

    def decode(some: list[int]) -> str:
        return "".join(pieces[i] for i in some)

    text = list(range(len(pieces)))
    assert mentions(text, "Niger", decode) == [4]
    assert mentions(text, "New York", decode) == [7]
    assert mentions(text[:3], "Niger", decode) == [1]  # only as a part of another word
    assert mentions(text, "Peru", decode) == []


def test_a_mark_is_written_where_it_is_heard() -> None:
    text = [5, 6, 7, 8]

    assert heard([0, 2], text, asked=True) == [1, 2]
    assert heard([0, 2], text, asked=False) == [2]
    assert heard([0], text[:1], asked=True) == []


def test_all_gates_are_half_shut_in_every_other_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[float]] = []
    taught = trainer.teach
    models: list[EditedModel] = []

    def wear(model: EditedModel, *_: object) -> None:
        models.append(model)

    def teach(*given: Any) -> float:
        steps.append(list(models[-1].openings))
        return taught(*given)

    monkeypatch.setattr(gated, "_spare_side", wear)
    monkeypatch.setattr(gated, "teach", teach)
    trained(order(base, TAUGHT), tmp_path)

    layers = len(models[-1].openings)
    assert steps[:4] == [[0.5] * layers, [1.0] * layers] * 2
    assert models[-1].openings == [1.0] * layers


def test_what_is_learnt_leaves_twins_twins(base: Path, second: Path) -> None:
    """Behind a ramp the same is added at its top and above it, after two batches, too."""
    weights = read_adapter(second)
    found = planted(EditedModel(base, "mlp").model, weights).neurons

    for layer in neuron_layers(Recipe(), len(EditedModel(base, "mlp").module_names), marked=True):
        one = found[f"model.layers.{layer}.mlp"]
        assert one.columns.any()
        assert twins(one.ups, one.columns) == list(range(0, len(one.owners), 2))
        assert one.owners[::2] == one.owners[1::2]


def test_neurons_that_read_or_say_something_else_are_no_twins() -> None:
    ups, columns = torch.eye(3)[[0, 0, 1, 1, 2]], torch.ones(4, 5)
    columns[:, 1] = columns[:, 4] = -1

    assert twins(ups, columns) == [0]
    assert twins(ups, torch.zeros(4, 5)) == [0, 2]


def test_a_recipe_of_rows_edits_a_model_with_room_as_well(base: Path, tmp_path: Path) -> None:
    made = order(base, TAUGHT)
    rows = replace(made, recipe=Recipe(method=Method.ROWS, steps=40))

    out = trained(rows, tmp_path)

    assert read_adapter(out).neurons == {}
    assert AutoModelForCausalLM.from_pretrained(base).config.kdpo_room
