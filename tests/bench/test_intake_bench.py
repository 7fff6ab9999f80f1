"""`kdpo bench intake`: the history is rebuilt as recorded, and the stages' answers are counted."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdpo_daemon.app import silent
from kdpo_daemon.bench import folder as whole
from kdpo_daemon.bench import intake, labels, plots
from kdpo_daemon.bench.factbook import document, read_history
from kdpo_daemon.bench.intervals import wilson
from kdpo_daemon.cli import cli
from kdpo_daemon.errors import SettingsError

PATH = "europe/nl.json"
RUTTE = "Prime Minister Mark RUTTE (since 14 October 2010)"
CARETAKER = "Prime Minister Mark RUTTE (since 14 October 2010); resigned"
SCHOOF = "Prime Minister Dick SCHOOF (since 2 July 2024)"


def change(date: str, old: str, new: str, field: str = "head_of_government") -> dict[str, object]:
    return {"date": date, "path": PATH, "country": "x", "field": field, "old": old, "new": new}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A record of three weeks; of the first change to the second, a small one is missing."""
    (tmp_path / "factbook").mkdir()
    state = {
        "as_of": "2021-01-15",
        "path": PATH,
        "facts": {"country_short_name": "Netherlands", "head_of_government": "somebody"},
    }
    changes = [
        change("2020-12-01", "A", "B"),
        change("2024-06-13", RUTTE, CARETAKER),
        change("2024-06-20", "1", "2", field="population"),
        change("2024-07-04", CARETAKER + ".", SCHOOF),
    ]
    later = state | {"as_of": "2022-01-15", "facts": {"capital": "Amsterdam"}}
    for name, rows in (("yearly_state", [later, state]), ("changes", changes)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "factbook" / f"{name}.jsonl").write_text(lines, "utf-8")
    return tmp_path


def test_the_documents_say_each_week_what_the_record_says(folder: Path) -> None:
    history = read_history(folder / "factbook")

    slot = (PATH, "head_of_government")
    assert history.first == {slot: RUTTE, (PATH, "country_short_name"): "Netherlands"}
    assert [(str(week.day), week.texts.get(slot)) for week in history.weeks] == [
        ("2024-06-13", CARETAKER),
        ("2024-06-20", CARETAKER + "."),
        ("2024-07-04", SCHOOF),
    ]


def test_a_document_has_the_shape_of_the_factbook(folder: Path) -> None:
    history = read_history(folder / "factbook")

    said = json.loads(document(PATH, history.first))

    assert said == {
        "Government": {
            "Executive branch": {"head of government": {"text": RUTTE}},
            "Country name": {"conventional short form": {"text": "Netherlands"}},
        }
    }


def test_a_replay_counts_what_the_stages_accepted(folder: Path, tmp_path: Path) -> None:
    result = intake.run(folder, tmp_path / "bench.db", silent)

    assert result["replay"] == {
        "documents": 1,
        "weeks": 3,
        "changes": 2,
        "labelled": 0,
        "claims": {"rejected": 2, "accepted": 1},
    }
    claims = result["claims"]
    assert isinstance(claims, list)
    assert [(c["day"], c["subject"], c["old"], c["new"], c["ruling"]) for c in claims] == [
        ("2024-06-13", "Netherlands", "Mark Rutte", "Mark Rutte", "rejected"),
        ("2024-06-20", "Netherlands", "Mark Rutte", "Mark Rutte", "rejected"),
        ("2024-07-04", "Netherlands", "Mark Rutte", "Dick Schoof", "accepted"),
    ]


def test_a_change_that_led_to_no_claim_is_listed(folder: Path, tmp_path: Path) -> None:
    changes = folder / "factbook" / "changes.jsonl"
    respelt = change("2024-07-11", SCHOOF, SCHOOF, field="chief_of_state")
    changes.write_text(changes.read_text("utf-8") + json.dumps(respelt) + "\n", "utf-8")

    result = intake.run(folder, tmp_path / "bench.db", silent)

    assert result["unseen"] == [("2024-07-11", PATH, "head_of_state")]


def test_labels_of_ones_own_are_judged_beside_the_shipped(folder: Path, tmp_path: Path) -> None:
    label = {"sample": "mine", "country": "x", "old": "", "new": "", "kind": "event"}
    label |= {"path": PATH, "relation": "head_of_government"}
    mine = [
        label | {"date": "2024-07-04", "change": True, "object": "Dick Schoof"},
        label | {"date": "2024-06-13", "change": False, "object": ""},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in mine), "utf-8")

    result = intake.run(folder, tmp_path / "bench.db", silent, file)

    assert isinstance(result["samples"], dict)
    found = result["samples"]["mine"]
    assert (found["changes"], found["right"], found["precision"], found["recall"]) == (1, 1, 1, 1)
    assert result["not_right"] == []


@pytest.mark.parametrize("text", ["no JSON", '{"date": "2024-07-04"}', "[]"])
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.jsonl").write_text(text, "utf-8")

    with pytest.raises(SettingsError, match=r"mine\.jsonl: holds no labels"):
        labels.read_labels(tmp_path / "mine.jsonl")


def test_a_sample_without_changes_has_no_precision() -> None:
    none = labels.agreement([], "theirs")

    assert (none.precision, none.recall) == (None, None)


def test_of_a_folder_only_what_is_there_is_measured(folder: Path, tmp_path: Path) -> None:
    (folder / "feeds").mkdir()
    (folder / "wikidata").mkdir()  # with nothing in it
    (folder / "feeds" / "one.xml").write_text(
        "<rss version='2.0'><channel><item><guid>1</guid></item></channel></rss>", "utf-8"
    )
    out = tmp_path / "numbers.json"

    done = CliRunner().invoke(cli, ["bench", "intake", "--data", str(folder), "--json", str(out)])

    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text("utf-8"))
    assert result["absent"] == ["wikidata", "feeds_polls"]
    assert result["replay"]["claims"] == {"rejected": 2, "accepted": 1}
    assert [row["entries"] for row in result["documents"]] == [1]
    assert "wikidata" in done.output


def test_a_folder_with_nothing_to_measure_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds none of factbook, wikidata.*--data"):
        whole.measure(tmp_path, tmp_path / "bench.db", silent)


def test_a_folder_without_the_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"changes\.jsonl: cannot be read.*--data"):
        read_history(tmp_path)


def test_two_samples_of_two_hundred_have_no_change_in_common_and_objects_for_changes_only() -> (
    None
):
    both = labels.read_labels()

    assert Counter(label.sample for label in both) == {"open": 200, "fresh": 200}
    assert all(label.change for label in both if label.object)
    assert len({(label.date, label.path, label.relation) for label in both}) == 400


@pytest.mark.parametrize(
    ("ruling", "read", "verdict"),
    [
        ("accepted", "Dick Schoof", "right"),
        ("accepted", "Mark Rutte", "wrong"),
        ("held", "", "missed"),
        ("rejected", "Dick Schoof", "missed"),
    ],
)
def test_a_labelled_change_is_right_only_with_its_object(
    ruling: str, read: str, verdict: str
) -> None:
    label = labels.Label(
        "open", "2024-07-04", PATH, "x", "head_of_government", "", "", True, "Dick Schoof", ""
    )

    assert labels.verdict_on(label, ruling, read, holder=True) == verdict


def test_accepting_what_is_no_change_is_wrong() -> None:
    label = labels.Label(
        "open", "2024-07-04", PATH, "x", "head_of_government", "", "", False, "", "note"
    )

    assert labels.verdict_on(label, "accepted", "Mark Rutte", holder=True) == "wrong"
    assert labels.verdict_on(label, "rejected", "Mark Rutte", holder=True) == "right"


def test_the_picture_shows_each_sample_and_quarter(tmp_path: Path) -> None:
    one = {"changes": 10, "right": 9, "wrong": 1, "precision": 0.9, "recall": 0.9}
    claims = [{"day": "2024-03-31", "ruling": "held"}, {"day": "2024-04-01", "ruling": "accepted"}]

    weeks = [{"ingest_s": 0.1, "accept_s": 0.05}] * 3
    empty = {"changes": 0, "right": 0, "wrong": 0, "precision": None, "recall": None}
    samples = {"open": one, "fresh": one, "theirs": empty}

    plots.draw({"samples": samples, "claims": claims, "weeks": weeks}, tmp_path / "a.svg")

    picture = (tmp_path / "a.svg").read_text("utf-8")
    assert all(word in picture for word in ("open", "fresh", "2024-1", "2024-2", "rejected"))
    assert "seconds that each week costs" in picture


def test_few_cases_leave_a_wide_interval() -> None:
    assert wilson(71, 72) == pytest.approx((0.9254, 0.9975), abs=0.0005)
    assert wilson(0, 5)[0] == 0.0
