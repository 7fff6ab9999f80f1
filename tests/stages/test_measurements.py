"""The measurements run, and count what is there."""

import json
from pathlib import Path

from typer.testing import CliRunner

from kdpo_daemon.bench import beside, documents, scale, sources
from kdpo_daemon.cli import cli
from kdpo_daemon.records.intake import IngestCounts

ITEM = "<item><guid>{key}</guid><title>{title}</title></item>"


def rss(*items: tuple[str, str]) -> str:
    inside = "".join(ITEM.format(key=key, title=title) for key, title in items)
    return f"<rss version='2.0'><channel><title>n</title>{inside}</channel></rss>"


def test_the_accept_stage_is_timed_on_both_databases(empty_url: str) -> None:
    [found] = scale.measure([(empty_url, 300)], claims=40, rounds=2)

    assert (found.stored, found.claims, len(found.seconds)) == (300, 40, 2)
    assert 0 < found.best_s < 60


def test_few_and_many_facts_take_turns_in_databases_of_their_own(tmp_path: Path) -> None:
    sizes = [(f"sqlite:///{tmp_path}/{stored}.db", stored) for stored in (60, 200)]

    few, many = scale.measure(sizes, claims=8, rounds=1)

    assert (few.stored, many.stored, few.dialect) == (60, 200, "sqlite")
    assert len(few.seconds) == len(many.seconds) == 1


def test_all_sources_are_polled_twice_and_the_second_time_nothing_is_new() -> None:
    first, second = sources.measure(5, entries=4)

    assert (first.sources, first.new, first.failed) == (5, 20, 0)
    assert (second.new, second.failed) == (0, 0)
    assert first.peak_mb > 0


def test_both_programs_find_the_same_in_the_same_documents(tmp_path: Path) -> None:
    for folder in ("feeds", "feeds_polls"):
        (tmp_path / folder).mkdir()
    lines = [json.dumps({"file": f"feeds/{name}"}) for name in ("good.xml", "bad.xml")]
    (tmp_path / "feeds" / "MANIFEST.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "feeds" / "good.xml").write_text(rss(("1", "a"), ("2", "b")), "utf-8")
    (tmp_path / "feeds" / "bad.xml").write_text("<html/", "utf-8")
    (tmp_path / "feeds_polls" / "1.xml").write_text(rss(("1", "a"), ("2", "b")), "utf-8")
    (tmp_path / "feeds_polls" / "2.xml").write_text(rss(("1", "c"), ("2", "b")), "utf-8")

    rows = beside.measure(tmp_path)

    counted = {
        which: [
            (row.new, row.changed, row.same, row.failed) for row in rows if row.client == which
        ]
        for which in beside.CLIENTS
    }
    assert counted["kdpo"] == [(4, 0, 0, 1), (0, 0, 0, 1), (0, 0, 4, 1), (0, 1, 1, 1)]
    assert counted["reader"][:3] == counted["kdpo"][:3]
    assert counted["reader"][3][:2] == (0, 1)  # it reads the others again


def test_every_document_is_compared_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    json_feed = {"version": "https://jsonfeed.org/version/1", "items": [{"id": "1"}]}
    bodies = {
        "good.xml": rss(("1", "a"), ("2", "b")),
        "good.json": json.dumps(json_feed),
        "bad.xml": "<html/",
        "cut.json": json.dumps(json_feed)[:-3],
        "same.xml": rss(("1", "a"), ("1", "b"), ("1", "b")),
        "MANIFEST.jsonl": '{"file": "feeds/good.xml"}',
    }
    for name, body in bodies.items():
        (tmp_path / "feeds" / name).write_text(body, "utf-8")

    rows = {row.file.removeprefix("feeds/"): row for row in documents.measure(tmp_path)}

    assert {name: (row.expected, row.entries, row.good) for name, row in rows.items()} == {
        "good.xml": (2, 2, True),
        "good.json": (1, 1, True),
        "bad.xml": (0, None, True),
        "cut.json": (0, None, True),
        "same.xml": (3, 3, True),
    }
    assert "not a feed" in rows["bad.xml"].refused
    assert all(0 < row.peak_mb < 100 for row in rows.values())


def test_a_second_poll_gives_only_what_is_new_or_changed(tmp_path: Path) -> None:
    (tmp_path / "feeds_polls").mkdir()
    for name, items in (
        ("fires_2024-01-01.xml", [("1", "a"), ("2", "b")]),
        ("fires_2024-01-08.xml", [("1", "a"), ("2", "other words"), ("3", "c")]),
        ("floods_2024-01-01.xml", [("1", "a")]),
    ):
        (tmp_path / "feeds_polls" / name).write_text(rss(*items), "utf-8")
    (tmp_path / "feeds_polls" / "floods_2024-01-08.xml").write_text("<html/", "utf-8")
    (tmp_path / "feeds_polls" / ".of_the_folder").write_text("", "utf-8")

    assert documents.polls(tmp_path) == {
        "fires": [
            IngestCounts(new=2, changed=0, same=0),
            IngestCounts(new=1, changed=1, same=1),
        ],
        "floods": [
            IngestCounts(new=1, changed=0, same=0),
            IngestCounts(new=0, changed=0, same=0),
        ],
    }


def test_the_command_writes_its_numbers_and_says_by_its_status_if_one_is_not_good(
    tmp_path: Path,
) -> None:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds_polls").mkdir()
    short = {"version": "https://jsonfeed.org/version/1", "items": [{"id": "1"}, "no item"]}
    document = tmp_path / "feeds" / "document"
    (tmp_path / "feeds" / "MANIFEST.jsonl").write_text(
        json.dumps({"file": "feeds/document"}), "utf-8"
    )
    out = tmp_path / "numbers.json"
    command = ["bench", "documents", "--data", str(tmp_path), "--json", str(out)]

    document.write_text(rss(("1", "a")), "utf-8")
    good = CliRunner().invoke(cli, command)
    document.write_text(json.dumps(short), "utf-8")
    bad = CliRunner().invoke(cli, command)

    assert (good.exit_code, bad.exit_code) == (0, 3)
    assert [row["entries"] for row in json.loads(out.read_text("utf-8"))["documents"]] == [1]
