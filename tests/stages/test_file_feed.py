"""Files dropped into a folder, through the stages, on both databases."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from kdpo_daemon import packs
from kdpo_daemon.errors import RefusedError, SettingsError
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.feeds.folder import fetch_file, open_below, path_of, url_of
from kdpo_daemon.records.intake import Feed, FeedKind, Page, Trust
from kdpo_daemon.stages import Report
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import claims, facts, feeds, pages, stories
from kdpo_daemon.store.db import Database
from tests.stages.test_cli import kdpo

PACK = read_pack([packs.text(name) for name in packs.RELATIONS])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = "subject,relation,new\n"


def line(subject: str, new: str = "Astana") -> str:
    return json.dumps({"subject": subject, "relation": "capital", "new": new}) + "\n"


@dataclass
class Drop:
    """A folder that is a feed, and the stages that take it in."""

    folder: Path
    db: Database
    now: datetime = NOW
    policy: FetchPolicy = FetchPolicy()  # noqa: RUF009 - frozen

    def put(self, name: str, content: str | bytes) -> Path:
        """Put a file in as one should: written elsewhere, renamed in."""
        body = content.encode() if isinstance(content, str) else content
        written = self.folder.parent / "being written"
        written.write_bytes(body)
        return written.rename(self.folder / name)

    def poll(self, later: int = 100) -> Report:
        self.now += timedelta(seconds=later)
        clock = self._clock
        report = Ingest(self.db, self.policy, PACK, clock, Random(0), lambda *_: None).run()
        Accept(self.db, PACK, AcceptancePolicy(), clock).run()
        return report

    def _clock(self) -> datetime:
        return self.now

    def told(self) -> list[tuple[str, str]]:
        with self.db.begin() as tx:
            return sorted((f.subject, f.object) for f in facts.list_facts(tx))

    def feed(self) -> Feed:
        with self.db.begin() as tx:
            return feeds.get_feed(tx, "drop")

    def count(self, table: str) -> int:
        with self.db.begin() as tx:
            found = tx.connection().execute(sa.text(f"SELECT count(*) FROM {table}"))  # noqa: S608
            return int(found.scalar_one())


@pytest.fixture
def drop(tmp_path: Path, database: Database) -> Drop:
    folder = tmp_path / "drop"
    folder.mkdir()
    with database.begin() as tx:
        url = url_of(str(folder), tmp_path)
        feeds.add_feed(tx, "drop", url, Trust.AUTO, 60, False, NOW, FeedKind.FILE)
    return Drop(folder, database)


def test_files_become_facts_with_the_place_and_the_bytes_as_evidence(drop: Drop) -> None:
    drop.put("b.jsonl", line("Kazakhstan"))
    path = drop.put("a.csv", HEADER + "Peru,capital,Lima\n")

    report = drop.poll()

    assert report.counts["new"] == 2
    assert drop.told() == [("Kazakhstan", "Astana"), ("Peru", "Lima")]
    with drop.db.begin() as tx:
        [peru] = [fact for fact in facts.list_facts(tx) if fact.subject == "Peru"]
        story = stories.story(tx, peru.id)
        summary = tx.connection().execute(
            sa.text("SELECT summary FROM entry WHERE id = 1")  # a.csv comes first, by name
        )
        assert summary.scalar_one().startswith("a.csv:2, SHA-256 ")
    assert story.evidence.url == path.as_uri()
    assert path.exists()


def test_what_was_read_is_not_read_again_and_the_same_content_changes_nothing(drop: Drop) -> None:
    path = drop.put("a.jsonl", line("Kazakhstan"))
    drop.poll()
    drop.put("again.jsonl", line("Kazakhstan"))
    drop.put("table.csv", HEADER + "Kazakhstan,capital,Astana\n")

    reports = [drop.poll() for _ in range(2)]

    assert [report.counts.get("new", 0) for report in reports] == [0, 0]
    assert [report.counts.get("changed", 0) for report in reports] == [0, 0]
    assert (drop.count("entry"), drop.count("document")) == (1, 1)
    with drop.db.begin() as tx:
        page = pages.pages_of(tx, drop.feed().id)[path.as_uri()]
    assert fetch_file(drop.folder, page, 1_000).body is None
    assert fetch_file(drop.folder, Page(page.url), 1_000).body == path.read_bytes()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_that_changed_is_read_again_even_with_its_old_time_and_size(
    drop: Drop, in_place: bool
) -> None:
    path = drop.put("a.jsonl", line("Kazakhstan", "Almaty"))
    drop.poll()
    before = path.stat()
    if in_place:
        path.write_text(line("Kazakhstan", "Astana"))
    else:
        drop.put("a.jsonl", line("Kazakhstan", "Astana"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert drop.poll().counts["new"] == 1


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b" " * 4_000_000)
    stop = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not stop.is_set():
                file.write(b" ")

    def read_until_refused() -> None:
        for _ in range(1_000):
            fetch_file(tmp_path, Page(path.as_uri()), 10_000_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(RefusedError, match="was written to while it was read"):
            read_until_refused()
    finally:
        stop.set()
        writer.join()


def test_bad_lines_are_refused_one_by_one_and_told_until_they_are_mended(drop: Drop) -> None:
    drop.put("a.jsonl", line("Kazakhstan") + '{"subject": "Peru"}\n{"new": 3}\n')
    drop.put("b.jsonl", line("Fiji", "Suva"))

    reports = [drop.poll(), drop.poll()]

    assert drop.told() == [("Fiji", "Suva"), ("Kazakhstan", "Astana")]
    for report in reports:
        assert report.counts["refused"] == 2
        assert report.problems == (
            'feed drop: a.jsonl:2: relation is missing. Add "relation"',
            "feed drop: a.jsonl:3: new is not a text. Put it in quotes",
        )
    feed = drop.feed()
    assert feed.last_error == 'a.jsonl:2: relation is missing. Add "relation" (1 of 2)'
    assert feed.failures == 0  # the next poll is not put off
    drop.put("a.jsonl", line("Kazakhstan") + line("Peru", "Lima"))
    assert drop.poll().problems == ()
    assert drop.feed().last_error is None
    assert drop.told()[-1] == ("Peru", "Lima")


def test_of_very_many_refusals_only_the_beginning_is_told(drop: Drop) -> None:
    drop.put("a.jsonl", "x\n" * 100)

    report = drop.poll()

    assert len(report.problems) == 21
    assert "80 more" in report.problems[-1]
    assert report.counts["refused"] == 100


def test_unfinished_and_hidden_files_and_folders_are_left_alone(drop: Drop) -> None:
    for name in (".hidden.jsonl", "a.jsonl.tmp", "b.jsonl.PART", "c.part"):
        drop.put(name, line("Kazakhstan"))
    (drop.folder / "done").mkdir()
    (drop.folder / "done" / "old.jsonl").write_text(line("Peru"))

    assert drop.poll().idle
    (drop.folder / "a.jsonl.tmp").rename(drop.folder / "a.jsonl")
    drop.poll()
    assert drop.told() == [("Kazakhstan", "Astana")]


def test_an_empty_folder_is_a_good_poll(drop: Drop) -> None:
    assert drop.poll().idle

    feed = drop.feed()
    assert feed.last_polled_at == drop.now
    assert feed.next_poll_at >= drop.now + timedelta(seconds=60)


def _a_link_out(drop: Drop) -> None:
    (drop.folder.parent / "secret.jsonl").write_text(line("Secret"))
    (drop.folder / "x.jsonl").symlink_to("../secret.jsonl")


def _a_link_into_a_linked_folder(drop: Drop) -> None:
    outside = drop.folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_text(line("Secret"))
    (drop.folder / ".way").symlink_to(outside)
    (drop.folder / "x.jsonl").symlink_to(".way/secret.jsonl")


def _a_loop(drop: Drop) -> None:
    (drop.folder / "x.jsonl").symlink_to("y.jsonl")
    (drop.folder / "y.jsonl").symlink_to("x.jsonl")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_a_link_out, "x.jsonl: is a link out of its folder. Copy"),
        (_a_link_into_a_linked_folder, "x.jsonl: is a link out of its folder. Copy"),
        (_a_loop, "x.jsonl: cannot be read: Too many levels"),
        (lambda d: (d.folder / "x.jsonl").symlink_to("nowhere"), "x.jsonl: is a link to nothing"),
        (lambda d: os.mkfifo(d.folder / "x.jsonl"), "x.jsonl: is not a plain file"),
        (lambda d: (d.folder / "x.jsonl").symlink_to("."), "x.jsonl: is not a plain file"),
        (lambda d: d.put("x.txt", line("X")), "x.txt: has a name that does not say what it is"),
        (lambda d: d.put("x.jsonl", "Zürich".encode("latin-1")), "x.jsonl: is not UTF-8"),
        (lambda d: d.put("x.jsonl", " " * 2_001), "x.jsonl: is larger than 2000 bytes"),
        (lambda d: d.put("x.jsonl", line("X") * 11), "x.jsonl: has more than 10 lines"),
        (lambda d: d.put("x.csv", "a,b\n"), "x.csv:1: its first line does not name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_the_others_are_read(
    drop: Drop, make: Callable[[Drop], object], why: str
) -> None:
    drop.policy = FetchPolicy(max_bytes=2_000, max_entries=10)
    make(drop)
    for number in range(3):
        drop.put(f"z{number}.jsonl", line(f"Land {number}"))

    report = drop.poll()

    assert f"feed drop: {why}" in report.problems[0]
    assert [subject for subject, _ in drop.told()] == ["Land 0", "Land 1", "Land 2"]
    assert drop.feed().failures == 0


def test_a_good_file_that_turns_bad_does_not_make_the_feed_due_all_the_time(drop: Drop) -> None:
    drop.put("a.jsonl", line("Kazakhstan"))
    drop.poll()
    drop.put("a.jsonl", b"\xff")

    assert drop.poll().counts["refused"] == 1

    assert drop.feed().next_poll_at >= drop.now + timedelta(seconds=60)


def test_many_bad_files_do_not_keep_a_good_one_out(drop: Drop) -> None:
    for number in range(5):
        drop.put(f"a{number}.csv", "nothing")
    drop.put("z.jsonl", line("Kazakhstan"))

    assert drop.poll().counts["refused"] == 5
    assert drop.told() == [("Kazakhstan", "Astana")]


def test_links_inside_the_folder_are_followed_as_kubernetes_makes_them(drop: Drop) -> None:
    (drop.folder / "..2026_03_01").mkdir()
    (drop.folder / "..2026_03_01" / "a.jsonl").write_text(line("Kazakhstan"))
    (drop.folder / "..data").symlink_to("..2026_03_01")
    (drop.folder / "a.jsonl").symlink_to("..data/a.jsonl")

    assert drop.poll().problems == ()
    assert drop.told() == [("Kazakhstan", "Astana")]


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("parts", [("link", "a.jsonl"), ("link.jsonl",)])
def test_a_part_that_became_a_link_after_it_was_checked_is_not_followed(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jsonl").write_text("")
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "link.jsonl").symlink_to(outside / "a.jsonl")
    before = _open_files()

    with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
        open_below(folder, parts)

    assert _open_files() == before  # nothing is left open


def test_much_at_once_is_read_over_several_cycles_and_nothing_is_left_out(drop: Drop) -> None:
    drop.policy = FetchPolicy(max_bytes=180)
    for number in range(9):
        drop.put(f"{number}.jsonl", line(f"Land {number}"))

    counts = [drop.poll(later=1).counts.get("new", 0) for _ in range(5)]

    assert counts == [3, 3, 3, 0, 0]
    assert len(drop.told()) == 9


def test_what_is_known_of_files_that_are_gone_is_forgotten(drop: Drop) -> None:
    paths = [drop.put(f"{number}.jsonl", line(f"Land {number}")) for number in range(3)]
    drop.poll()
    assert drop.count("page") == 3
    paths[0].unlink()

    drop.poll()

    assert drop.count("page") == 2
    assert len(drop.told()) == 3


def test_a_folder_that_is_gone_is_the_feeds_failure_with_a_remedy(drop: Drop) -> None:
    drop.folder.rmdir()

    report = drop.poll()

    [problem] = report.problems
    assert "feed drop: its folder" in problem
    assert "No such file" in problem
    assert drop.feed().failures == 1


def test_a_folder_obeys_trust_like_any_feed(drop: Drop) -> None:
    with drop.db.begin() as tx:
        url = drop.feed().url
        feeds.add_feed(tx, "drop", url, Trust.MANUAL, 60, False, NOW, FeedKind.FILE)
    drop.put("a.jsonl", line("Kazakhstan"))

    drop.poll()

    assert drop.told() == []
    with drop.db.begin() as tx:
        [(claim, why)] = claims.held_claims(tx)
    assert why == "its feed needs a person's approval"
    assert not claim.by_hand


def test_names_of_any_bytes_can_be_read(drop: Drop) -> None:
    name = os.fsdecode(b"Z\xfcrich #1%41?.jsonl")
    drop.put(name, line("Kazakhstan") + "x\n")

    report = drop.poll()

    assert drop.told() == [("Kazakhstan", "Astana")]
    assert "rich #1%41?.jsonl:2" in report.problems[0]


@pytest.mark.parametrize("place", ["drop", "./drop", "/srv/drop", "file:///srv/a%20b"])
def test_a_folder_is_kept_as_a_url_of_its_whole_path(place: str) -> None:
    url = url_of(place, Path("/home/me"))

    assert url.startswith("file:///")
    assert str(path_of(url)) in ("/home/me/drop", "/srv/drop", "/srv/a b")


@pytest.mark.parametrize("place", ["file://elsewhere/srv/drop", "file:drop"])
def test_a_folder_of_another_machine_is_refused(place: str) -> None:
    with pytest.raises(SettingsError, match="not a folder of this machine"):
        url_of(place, Path("/"))


def test_the_command_line_adds_and_polls_a_folder(tmp_path: Path) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.jsonl").write_text(line("Kazakhstan") + "x\ny\n")

    kdpo(tmp_path, "feeds", "add", "drop", "drop", "--kind", "file", "--every", "60")
    ended = kdpo(tmp_path, "feeds", "poll", "drop", "--json", status=3)

    (row,) = json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout)
    assert (row["kind"], row["url"]) == ("file", (tmp_path / "drop").as_uri())
    assert "a.jsonl:2" in ended.stderr
    assert "a.jsonl:3" in ended.stderr
    assert json.loads(ended.stdout)[0]["counts"]["new"] == 1
    found = json.loads(kdpo(tmp_path, "status", "--json").stdout)
    assert "a.jsonl:2" in found["failing_feeds"]["drop"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--kind", "file"], "wants a folder"),
        (["nowhere", "--kind", "file"], "No such file"),
        (["file://far/drop", "--kind", "file"], "not a folder of this machine"),
        (["file:///etc", "--kind", "feed"], "only http and https are polled"),
        (["file:///etc", "--kind", "snapshot"], "only http and https are polled"),
    ],
)
def test_the_command_line_refuses_what_is_no_folder(
    tmp_path: Path, words: list[str], why: str
) -> None:
    kdpo(tmp_path, "init")
    kdpo(tmp_path, "db", "upgrade")

    ended = kdpo(tmp_path, "feeds", "add", "x", *words, status=1)

    assert why in " ".join(ended.stderr.split())
    assert json.loads(kdpo(tmp_path, "feeds", "list", "--json").stdout) == []
