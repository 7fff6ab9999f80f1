"""`kdpo bench wikidata`: what is told of two real revisions, against a plain count."""

import json
from pathlib import Path

import pytest

from kdpo_daemon.bench import wikidata
from kdpo_daemon.errors import SettingsError

DATA = Path(__file__).parents[1] / "unit" / "data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wikidata").mkdir()
    for revision, day in ((363579534, "2016-08-12"), (1867923350, "2023-04-04")):
        body = (DATA / f"Q2112_{day}.json").read_bytes()
        (tmp_path / "wikidata" / f"Q2112@rev{revision}_{day}.json").write_bytes(body)
    return tmp_path


def test_exactly_what_changed_is_told_and_what_is_no_other_value_is_listed(folder: Path) -> None:
    (pair,) = wikidata.measure(folder)

    assert (pair.before[-15:], pair.after[-15:]) == ("2016-08-12.json", "2023-04-04.json")
    assert [(one.property, one.told, one.expected) for one in pair.differences] == [
        ("P2046", (0, 0), (1, 1)),
    ]
    assert pair.expected - pair.told == 2


def test_the_plain_count_knows_ranks_ends_and_values() -> None:
    value = {"snaktype": "value", "datavalue": {"value": {"id": "Q1"}}}
    over = {"P582": [{"datavalue": {"value": {"time": "+2023-01-01T00:00:00Z"}}}]}
    statements = [
        {"mainsnak": value, "rank": "normal"},
        {"mainsnak": value, "rank": "preferred", "qualifiers": over},
    ]

    said = {
        "modified": "2024-01-01T00:00:00Z",
        "claims": {"P6": statements, "P35": statements[:1]},
    }

    assert wikidata._raw(said, "P6") == set()
    assert wikidata._raw(said, "P35") == {json.dumps({"id": "Q1"})}
    assert wikidata._raw(said, "P1") == set()


def test_an_item_of_one_revision_is_read_twice_and_has_not_changed(folder: Path) -> None:
    next((folder / "wikidata").glob("*2016*")).unlink()

    (pair,) = wikidata.measure(folder)

    assert (pair.told, pair.expected, pair.touched) == (0, 0, 0)
    assert pair.statements > 100


def test_a_folder_without_revisions_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"wikidata: holds no Q\*@rev.*--data"):
        wikidata.measure(tmp_path)
