"""`kdpo bench intake`: the history is rebuilt as recorded, and the stages' answers are counted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from kdpo_daemon.app import silent
from kdpo_daemon.bench import intake, labels, plots
from kdpo_daemon.bench.factbook import document, read_history
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

    plots.draw({"samples": {"open": one, "fresh": one}, "claims": claims}, tmp_path / "a.svg")

    picture = (tmp_path / "a.svg").read_text("utf-8")
    assert all(word in picture for word in ("open", "fresh", "2024-1", "2024-2", "rejected"))


def test_few_cases_leave_a_wide_interval() -> None:
    assert plots.wilson(71, 72) == pytest.approx((0.9254, 0.9975), abs=0.0005)
    assert plots.wilson(0, 5)[0] == 0.0
