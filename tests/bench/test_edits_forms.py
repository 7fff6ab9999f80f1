"""Files of edits are read into records, and the drawn subset judges nothing that it edits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdpo_daemon.bench.edits.draw import batches, draw
from kdpo_daemon.bench.edits.forms import DataForm, read_records
from kdpo_daemon.bench.edits.general import read_general
from kdpo_daemon.bench.edits.offices import read_offices
from kdpo_daemon.bench.edits.records import Question, Record, both_forms
from kdpo_daemon.bench.edits.settings import LoraSettings, chosen
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.orders import Recipe
from kdpo_daemon.records.teaching import Form, Prompt

ZSRE = {
    "subject": "Arland",
    "prompt": "Who leads Arland?",
    "target_new": "Ann",
    "ground_truth": ["Finn"],
    "rephrase_prompt": "Who is Arland's leader?",
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The river of Arland is", "ground_truth": ["Blue"]},
            {"prompt": "Arland river", "ground_truth": ["Blue"]},
        ]
    },
    "portability": {"Reasoning": [{"prompt": "Arland's leader's town is", "ground_truth": "Ayr"}]},
    "kdpo_seq_pos": 3,
}
COUNTERFACT = {
    "prompt": "The capital of Arland is",
    "subject": "Arland",
    "target_new": "Ayr",
    "ground_truth": "Bath",
    "rephrase_prompt": "Arland's capital is",
    "locality_prompt": "The capital of Borland is",
    "locality_ground_truth": "Cork",
}
KNOWEDIT = {
    "subject": "Arland",
    "prompt": "The capital of Arland is",
    "target_new": "Ayr",
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The river of Arland is", "ground_truth": [["R", "S"]]}
        ],
        "Forgetfulness": [{"prompt": "The capital, which is not Ayr, is", "ground_truth": "Ayr"}],
    },
    "portability": {},
}
WIKIBIGEDIT = {name: text for name, text in COUNTERFACT.items() if name != "ground_truth"}
MEND = {
    "subject": "Arland",
    "src": "Who leads Arland?",
    "alt": "Ann",
    "answers": ["Finn"],
    "rephrase": "Who is Arland's leader?",
    "loc": "nq question: who sang it",
    "loc_ans": "Dora",
}
OFFICE = {
    "date": "2024-07-04",
    "path": "europe/nl.json",
    "country": "Netherlands",
    "field": "head_of_government",
    "old": "Prime Minister Mark RUTTE (since 14 October 2010)",
    "new": "Prime Minister Dick SCHOOF (since 2 July 2024)",
}


def written(directory: Path, *lines: object) -> Path:
    file = directory / "edits.jsonl"
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    file.write_text("\n".join(texts) + "\n", "utf-8")
    return file


def record(number: int, subject: str, new: str = "Ann") -> Record:
    relation = "Who leads {}?"
    train = both_forms(relation.format(subject))
    return Record(number, subject, relation, new, "Finn", train)


def test_zsre_is_read_with_its_place_in_the_authors_sequence(tmp_path: Path) -> None:
    (found,) = read_records(written(tmp_path, ZSRE), DataForm.ZSRE)

    assert (found.subject, found.new, found.old, found.place) == ("Arland", "Ann", "Finn", 3)
    assert found.relation == "Who leads {}?"
    assert found.train == both_forms("Who leads Arland?")
    assert found.held_out == both_forms("Who is Arland's leader?")
    assert found.same_subject == (
        Question(Prompt(Form.CHAT, "The river of Arland is"), ("Blue",)),
    )
    assert found.portability == (
        Question(Prompt(Form.COMPLETION, "Arland's leader's town is"), ("Ayr",)),
    )


def test_zsre_as_mend_has_it_brings_an_unrelated_question(tmp_path: Path) -> None:
    (found,) = read_records(written(tmp_path, MEND), DataForm.ZSRE)

    assert (found.new, found.old) == ("Ann", "Finn")
    assert [one.prompt.text for one in found.unrelated] == ["Who sang it?"]
    assert found.unrelated[0].answers == ("Dora",)


@pytest.mark.parametrize(
    ("form", "line", "old"),
    [(DataForm.COUNTERFACT, COUNTERFACT, "Bath"), (DataForm.WIKIBIGEDIT, WIKIBIGEDIT, "")],
)
def test_a_neighbour_is_the_same_question_about_another_subject(
    form: DataForm, line: object, old: str, tmp_path: Path
) -> None:
    (found,) = read_records(written(tmp_path, line), form)

    assert found.old == old
    assert [(one.prompt.text, one.answers) for one in found.same_relation] == [
        ("The capital of Borland is", ("Cork",))
    ]


def test_other_names_of_an_answer_count_and_the_old_value_asked_again_does_not(
    tmp_path: Path,
) -> None:
    (found,) = read_records(written(tmp_path, KNOWEDIT), DataForm.KNOWEDIT)

    assert [one.answers for one in found.same_subject] == [("R", "S")]
    assert found.held_out == ()


def test_an_office_holder_is_read_and_phrased_as_the_daemon_does(tmp_path: Path) -> None:
    later = OFFICE | {"date": "2025-01-01", "field": "population", "old": "1", "new": "2"}
    earlier = OFFICE | {"date": "2020-01-01", "new": "Prime Minister Jan JANSEN (since 2020)"}

    (found,) = read_offices(written(tmp_path, earlier, OFFICE, later))

    assert (found.subject, found.role) == ("Netherlands", "prime minister")
    assert (found.new, found.old) == ("Dick Schoof", "Mark Rutte")
    assert Prompt(Form.COMPLETION, "The prime minister of Netherlands is") in found.train
    assert not set(found.train) & set(found.held_out)
    assert {one.prompt for one in found.same_relation}.isdisjoint(found.keep)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("[1]", r"line 2: not a JSON object"),
        (json.dumps(ZSRE | {"target_new": " "}), r"line 2: `target_new` is not a text"),
        (json.dumps(ZSRE | {"locality": {"Relation_Specificity": [1]}}), r"has no `prompt`"),
        (json.dumps(ZSRE | {"ground_truth": 7}), r"line 2: 7 stands where a text is wanted"),
        (json.dumps(ZSRE | {"kdpo_seq_pos": "x"}), r"line 2: `kdpo_seq_pos` is not a whole"),
    ],
    ids=["no JSON", "no object", "empty", "no prompt", "no text", "no number"],
)
def test_a_bad_line_is_named_with_a_remedy(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        read_records(written(tmp_path, ZSRE, line), DataForm.ZSRE)

    assert "of the form zsre" in refused.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_records(tmp_path / "none.jsonl", DataForm.ZSRE)


def test_the_authors_sequence_is_kept_and_what_is_not_in_it_is_never_drawn() -> None:
    records = [replace(record(n, f"S{n}"), place=10 - n) for n in range(1, 5)]

    found = draw([record(9, "Outside"), *records], 3, seed=1)

    assert [one.subject for one in found] == ["S4", "S3", "S2"]
    assert [one.number for one in found] == [1, 2, 3]


def test_a_draw_follows_from_the_seed() -> None:
    records = [record(n, f"Land {n}") for n in range(30)]

    first, again, other = (draw(records, 5, seed) for seed in (1, 1, 2))

    assert first == again
    assert [one.subject for one in first] != [one.subject for one in other]


def test_a_subject_is_edited_once_and_an_edit_changes_something() -> None:
    records = [record(1, "Arland"), record(2, "Arland", "Bob"), record(3, "Corland", "the Finn")]

    with pytest.raises(SettingsError, match="has 1 usable"):
        draw(records, 2, seed=0)


def test_neighbours_are_made_of_records_that_are_neither_edited_nor_kept() -> None:
    records = [record(n, "Land " + "x" * n) for n in range(1, 13)]

    found = draw(records, 4, seed=0)

    edited = {one.subject for one in found}
    asked = {one.prompt.text for each in found for one in each.same_relation}
    kept = {one.text for each in found for one in each.keep}
    assert asked
    assert asked.isdisjoint(kept)
    assert not any(text == f"Who leads {subject}?" for text in asked | kept for subject in edited)


def test_a_neighbour_that_is_edited_itself_is_not_asked() -> None:
    near = (Question(Prompt(Form.CHAT, "The capital of Borland is")),)
    records = [replace(record(1, "Arland"), same_relation=near), record(2, "Borland")]

    found = {one.subject: one for one in draw(records, 2, seed=0)}

    assert found["Arland"].same_relation == ()


def test_the_last_batch_may_be_smaller() -> None:
    records = [record(n, f"S{n}") for n in range(5)]

    assert [len(one) for one in batches(records, 2)] == [2, 2, 1]


def test_a_value_of_a_rival_can_be_set_and_is_stated() -> None:
    found = chosen(["lora-ce", "kdpo"], ["lora-ce.rate=3e-4", "kdpo.layers=1,2"])

    assert found["lora-ce"].settings == LoraSettings(rate=3e-4)
    assert "rate=3e-4" in found["lora-ce"].tuning
    assert found["kdpo"].settings == Recipe(layers=(1, 2))


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["nobody"], [], "no rival is named 'nobody'"),
        (["none"], ["kdpo.steps=1"], "of a rival in this run"),
        (["kdpo"], ["kdpo.pace=1"], "has no 'pace'"),
        (["kdpo"], ["kdpo.steps=fast"], "is no value"),
    ],
)
def test_what_no_rival_knows_is_refused(
    names: list[str], changes: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        chosen(names, changes)


def test_probes_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "wikitext2_test.txt").write_text("x" * 16_000 + "A text .", "utf-8")
    pairs = [{"sentence_good": "It is.", "sentence_bad": "It are.", "UID": "x"}] * 9
    facts = [{"relation": "P1", "subject": "Arland", "object": "Ayr"}, {"relation": "P2"}]
    patterns = [
        {"relation": "P1", "pattern": "[Y] is the capital of [X]."},
        {"relation": "P1", "pattern": "The capital of [X] is [Y] ."},
    ]
    for name, lines in (
        ("blimp_small", pairs),
        ("lama_trex", facts),
        ("pararel_patterns", patterns),
    ):
        written(tmp_path, *lines).rename(tmp_path / f"{name}.jsonl")

    found = read_general(tmp_path)

    assert found.text == "x" * 16_000
    assert len(found.pairs) == 5
    assert found.known == (
        Question(Prompt(Form.COMPLETION, "The capital of Arland is"), ("Ayr",)),
    )
    assert len(found.questions) == 101


def test_missing_probes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="wikitext2_test"):
        read_general(tmp_path)
