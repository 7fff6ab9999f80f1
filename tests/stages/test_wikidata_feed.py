"""A wiki that is watched, through the stages: recent changes, revisions, what stands and what not.

The entity is Bielefeld (Q2112) at two real revisions, `tests/unit/data` (Wikidata, CC0).
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kdpo_daemon import packs
from kdpo_daemon.app import silent
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import FeedKind, Page, Ruling, Trust
from kdpo_daemon.stages import Report
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import facts, feeds, pages, stories
from kdpo_daemon.store.db import Database
from tests.stages.wiki_server import Wiki, running

DATA = Path(__file__).parents[1] / "unit" / "data"
BEFORE, AFTER = (
    json.loads((DATA / f"Q2112_{day}.json").read_text("utf-8"))["entities"]["Q2112"]
    for day in ("2016-08-12", "2023-04-04")
)
PACK = read_pack([packs.text(name) for name in packs.RELATIONS])
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = 3600
CHANGED = ("Bielefeld", "population", "329,327", "334,002")
POPULATION = "/* wbsetclaim-update:2||1 */ [[Property:P1082]]: 334,002"


class Watch:
    """A wiki, a daemon that watches it, and both clocks."""

    def __init__(self, wiki: Wiki, database: Database) -> None:
        self.wiki, self.database = wiki, database
        self.now = NOW

    def add(self, **options: object) -> None:
        said = {"properties": {"P1082": "population"}, "settle_s": 2 * HOUR} | options
        if "items" not in said:
            said["api"] = self.wiki.url("/w/api.php")
        url = self.wiki.url("/wiki/Special:EntityData/{item}.json")
        with self.database.begin() as tx:
            feeds.add_feed(tx, "wiki", url, Trust.AUTO, 60, True, NOW, FeedKind.WIKIDATA, said)

    def later(self, hours: float = 1) -> None:
        self.now += timedelta(hours=hours)
        self.wiki.later(hours=hours)

    def poll(self, hours: float = 1, **policy: Any) -> Report:
        """Poll some hours later, and decide."""
        self.later(hours)
        report = Ingest(
            db=self.database,
            policy=FetchPolicy(**policy),
            pack=PACK,
            clock=lambda: self.now,
            rng=Random(0),
            progress=silent,
        ).run("wiki")
        Accept(self.database, PACK, AcceptancePolicy(), lambda: self.now).run()
        return report

    def told(self) -> list[tuple[str, str, str, str]]:
        with self.database.begin() as tx:
            found = facts.list_facts(tx)
        return [(f.subject, f.relation, f.old_object, f.object) for f in reversed(found)]

    def claims(self) -> list[tuple[Ruling, str, str]]:
        with self.database.begin() as tx:
            found = stories.claims_with_evidence(tx)
        return [(ruling, one.claim.object, one.reason) for ruling, one in found]

    def pages(self) -> list[str]:
        """Give the items that are to be looked at, now or when a change has stood."""
        known = self.known().items()
        urls = [url for url, page in known if page.wanted or page.waiting]
        return [url.rpartition("/")[2].removesuffix(".json") for url in urls]

    def known(self) -> dict[str, Page]:
        with self.database.begin() as tx:
            return pages.pages_of(tx, feeds.get_feed(tx, "wiki").id)


@pytest.fixture
def watch(database_url: str) -> Iterator[Watch]:
    database = Database(database_url)
    database.upgrade()
    with running(NOW) as wiki:
        wiki.edit(BEFORE)
        wiki.later(minutes=1)
        yield Watch(wiki, database)
    database.dispose()


def item(name: str, population: int) -> dict[str, Any]:
    """Give a city whose population is said."""
    value = {"type": "quantity", "value": {"amount": f"+{population}", "unit": "1"}}
    said = [{"mainsnak": {"datavalue": value}, "rank": "normal"}]
    return {"id": name, "labels": {"en": {"value": f"City {name}"}}, "claims": {"P1082": said}}


def test_a_change_found_in_the_recent_changes_is_told_once_it_has_stood(watch: Watch) -> None:
    watch.add()
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)

    early = [watch.poll() and watch.told() for _ in range(3)]
    watch.poll()

    assert early == [[], [], []]  # listed; looked at; waits
    assert watch.told() == [CHANGED]
    assert watch.pages() == []


def test_the_evidence_of_a_change_is_the_entity_that_shows_it(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)
    watch.poll()
    watch.poll()

    with watch.database.begin() as tx:
        ((_, evidence),) = stories.claims_with_evidence(tx)

    assert evidence.url.endswith("/wiki/Special:EntityData/Q2112.json")
    assert evidence.claim.valid_from == datetime(2021, 12, 31, tzinfo=UTC)


def test_nothing_is_told_of_what_happened_before_the_first_poll(watch: Watch) -> None:
    watch.wiki.edit(AFTER, POPULATION)
    watch.add(settle_s=0)

    for _ in range(3):
        watch.poll()

    assert watch.told() == []
    assert not any("EntityData" in path for path in watch.wiki.seen)


def test_vandalism_that_is_reverted_in_time_leaves_no_claim(watch: Watch) -> None:
    watch.add()
    watch.poll()
    watch.wiki.edit(item("Q2112", 1), POPULATION)
    watch.poll()
    watch.poll()
    waited = watch.pages()
    watch.wiki.edit(BEFORE, "/* undo:0||1001|Vandal */")

    for _ in range(6):
        watch.poll()

    assert waited == ["Q2112"]
    assert (watch.claims(), watch.pages()) == ([], [])


def test_vandalism_whose_revert_is_seen_before_it_is_listed_leaves_no_claim(watch: Watch) -> None:
    watch.add()
    watch.poll()
    watch.wiki.edit(item("Q2112", 1), POPULATION)
    watch.poll()
    watch.later()
    watch.wiki.edit(BEFORE, "/* undo:0||1001|Vandal */")  # too late for the list of this poll

    watch.poll(hours=0.005)
    seen = watch.pages()
    for _ in range(6):
        watch.poll()

    assert (seen, watch.claims()) == ([], [])


def test_that_nothing_is_left_is_told_once_and_the_next_value_is_compared_with_the_last(
    watch: Watch,
) -> None:
    empty = item("Q2112", 1) | {"claims": {}, "labels": BEFORE["labels"]}
    watch.add()
    watch.poll()
    watch.wiki.edit(empty, POPULATION)
    for _ in range(4):
        watch.poll()

    (ruling, value, why) = watch.claims()[0]
    nothing_waits = watch.pages()
    watch.wiki.edit(AFTER, POPULATION)
    for _ in range(4):
        watch.poll()

    assert (ruling, value) == (Ruling.HELD, "")
    assert why == "names nobody or nothing for sure: nothing holds any more"
    assert nothing_waits == []
    assert watch.told() == [CHANGED]


def test_what_was_seen_of_an_item_is_forgotten_after_a_week(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)
    watch.poll()
    watch.poll()

    watch.poll(hours=7 * 24)
    kept = len(watch.known())
    watch.poll()

    assert (kept, len(watch.known())) == (2, 1)  # the list of changes stays


def test_of_two_changes_in_one_window_the_last_is_compared_with_what_was_before_both(
    watch: Watch,
) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(item("Q2112", 1), POPULATION)
    watch.wiki.later(minutes=5)
    watch.wiki.edit(AFTER, POPULATION)

    watch.poll()
    watch.poll()

    assert watch.told() == [CHANGED]


def test_every_change_is_seen_when_there_are_more_than_a_poll_looks_at(watch: Watch) -> None:
    names = [f"Q{n}" for n in range(1, 8)]
    for name in names:
        watch.wiki.edit(item(name, 1000))
    watch.later()
    watch.add(settle_s=0, max_changes=2)
    watch.wiki.most = 2
    watch.poll()
    for name in names:
        watch.wiki.edit(item(name, 2000), POPULATION)

    polls = 0
    while len(watch.told()) < len(names) and polls < 20:
        watch.poll(max_followed=2)
        polls += 1

    assert sorted(subject for subject, *_ in watch.told()) == [f"City {name}" for name in names]
    assert polls <= 9
    assert all("rclimit=2&" in path for path in watch.wiki.seen if "recentchanges" in path)


def test_a_poll_asks_only_for_what_happened_since_the_one_before(watch: Watch) -> None:
    watch.add()
    for _ in range(4):
        watch.poll()

    asked = [path for path in watch.wiki.seen if "recentchanges" in path]
    spans = [parse_qs(urlsplit(path).query) for path in asked]
    starts, ends = ([span[name][0] for span in spans] for name in ("rcstart", "rcend"))
    assert len(set(starts)) == 3
    assert starts[1:] == ends[:-1]


def test_one_poll_goes_on_from_answer_to_answer(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.wiki.most = 2
    watch.poll()
    for n in range(1, 6):
        watch.wiki.list_edit(f"Q{n}", 1000, 1000, POPULATION)

    watch.poll()

    assert watch.pages() == [f"Q{n}" for n in range(1, 6)]


def test_only_what_may_have_changed_a_watched_statement_is_looked_at(watch: Watch) -> None:
    watch.add()
    watch.poll()
    for comment in (
        "/* wbsetclaim-update:2||1 */ [[Property:P31]]: [[Q515]]",
        "/* wbsetlabel-set:1|de */ Bielefeld, [[Property:P1082]]",
        "/* wbeditentity-update-languages-short:0||de */",
        "/* wbsetsitelink-add:1|enwiki */ Bielefeld",
        "/* clientsitelink-update:0|dewiki|dewiki:A|dewiki:B */",
    ):
        watch.wiki.list_edit("Q1", 1000, 1001, comment)
    watch.wiki.edits.append(watch.wiki.edits[-1] | {"ns": 1, "title": "Talk:Q2112", "comment": ""})
    looked_at = {
        "Q2": "/* wbremoveclaims-remove:1| */ [[Property:P1082]]: 5",
        "Q3": "/* wbeditentity-update:0| */ with [[Property:P31]]",
        "Q4": "/* wbeditentity-update-languages-and-other-short:0||de */",
        "Q5": "/* restore:0||1001|Somebody */",
    }
    for name, comment in looked_at.items():
        watch.wiki.list_edit(name, 1000, 1001, comment)

    watch.poll()

    assert watch.pages() == list(looked_at)


def test_a_wiki_that_lags_is_left_alone_and_nothing_is_lost(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)
    watch.wiki.lag = 7.5
    watch.wiki.seen.clear()

    lagged = watch.poll()
    asked = len(watch.wiki.seen)
    watch.wiki.lag = 0
    watch.poll()
    watch.poll()

    assert "was answered with maxlag: Waiting for all: 7.5 seconds lagged" in lagged.problems[0]
    assert asked == 1
    assert watch.told() == [CHANGED]


def test_a_wiki_that_wants_a_pause_gets_it(watch: Watch) -> None:
    watch.add()
    watch.wiki.status = 429

    watch.poll()

    with watch.database.begin() as tx:
        feed = feeds.get_feed(tx, "wiki")
    assert feed.next_poll_at >= watch.now + timedelta(seconds=120)
    assert len(watch.wiki.seen) == 1


def test_requests_come_one_by_one_with_a_name_and_a_limit_of_lag(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)
    watch.poll(contact="ops@example.org")
    watch.wiki.agents.clear()
    watch.poll(contact="ops@example.org")

    assert watch.wiki.asked_at_once == 1
    (agent,) = watch.wiki.agents
    assert agent
    assert agent.endswith("(+ops@example.org)")
    assert all("maxlag=5" in path for path in watch.wiki.seen if "api.php" in path)


@pytest.mark.parametrize("fate", ["deleted", "merged", "revision missing", "revision merged"])
def test_what_cannot_be_compared_any_more_is_left(watch: Watch, fate: str) -> None:
    watch.wiki.edit(item("Q64", 5))
    watch.later()
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)
    watch.poll()
    match fate:
        case "deleted":
            del watch.wiki.current["Q2112"]
        case "merged":
            watch.wiki.merged["Q2112"] = "Q64"
        case "revision missing":
            del watch.wiki.revisions[1000]
        case _:
            watch.wiki.redirects.add(1000)

    report = watch.poll()

    assert (report.problems, watch.pages(), watch.claims()) == ((), [], [])


def test_an_item_that_cannot_be_served_does_not_stop_the_others(watch: Watch) -> None:
    names = [f"Q{n}" for n in range(1, 7)]
    for name in names:
        watch.wiki.edit(item(name, 1000))
    watch.later()
    watch.add(settle_s=0)
    watch.poll()
    for name in names:
        watch.wiki.edit(item(name, 2000), POPULATION)
    watch.wiki.broken = {"Q1", "Q2", "Q3"}
    reports = [watch.poll() for _ in range(4)]
    others = [subject for subject, *_ in watch.told()]
    watch.wiki.broken = set()
    watch.poll()

    assert any(
        "was answered with status 500" in one.problems[0] for one in reports if one.problems
    )
    assert sorted(others) == ["City Q4", "City Q5", "City Q6"]
    assert len(watch.told()) == 6


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_the_clocks_of_the_wiki_and_of_the_daemon_may_differ(watch: Watch, hours: int) -> None:
    watch.wiki.edits.clear()
    watch.wiki.now += timedelta(hours=hours)
    watch.add()
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)

    early = [watch.poll() and watch.told() for _ in range(3)]
    watch.poll()

    assert early == [[], [], []]
    assert watch.told() == [CHANGED]


def test_a_clock_that_is_put_back_loses_no_change(watch: Watch) -> None:
    watch.add(settle_s=0)
    watch.poll()
    watch.wiki.now -= timedelta(minutes=90)
    watch.poll(hours=0.5)
    watch.poll()
    watch.wiki.edit(AFTER, POPULATION)

    for _ in range(3):
        watch.poll()

    assert watch.told() == [CHANGED]


# ---------------------------------------------------------------- items that are polled


def test_an_item_is_polled_with_its_validator_and_read_in_full_when_a_change_has_stood(
    watch: Watch,
) -> None:
    watch.add(items=["Q2112"])
    watch.poll()
    watch.wiki.edit(AFTER)
    watch.poll()
    held = watch.claims()

    watch.poll()
    between, unchanged = watch.claims(), watch.wiki.unchanged
    watch.poll()

    assert held == between == []
    assert unchanged == watch.wiki.unchanged == 1
    assert watch.told() == [CHANGED]


def test_an_item_that_was_reverted_while_nobody_looked_leaves_no_claim(watch: Watch) -> None:
    watch.add(items=["Q2112"])
    watch.poll()
    watch.wiki.edit(AFTER)
    watch.poll()
    watch.wiki.edit(BEFORE)

    for _ in range(4):
        watch.poll()

    assert watch.claims() == []


@pytest.mark.parametrize(
    ("fate", "why"),
    [("deleted", "was answered with status 404"), ("merged", "Q64 was merged into Q2112")],
)
def test_an_item_on_the_list_that_is_gone_is_named_and_the_others_go_on(
    watch: Watch, fate: str, why: str
) -> None:
    watch.wiki.edit(item("Q64", 5))
    watch.add(items=["Q64", "Q2112"], settle_s=0)
    watch.poll()
    watch.wiki.edit(AFTER)
    if fate == "merged":
        watch.wiki.merged["Q64"] = "Q2112"
    else:
        del watch.wiki.current["Q64"]

    report = watch.poll()

    assert why in report.problems[0]
    assert watch.told() == [CHANGED]
