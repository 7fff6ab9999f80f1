"""The accept stage on real databases: what hostile and contrary sources get believed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from kdpo_daemon import packs
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.records.intake import Claim, Entry, Fetched, RawFact, Ruling, Trust
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.store import audit, claims, facts, feeds
from kdpo_daemon.store.db import Database

PACK = read_pack([packs.text("relations.toml")])
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Newsroom:
    """Sources that say things, and the stage that decides; time goes on by hand."""

    db: Database
    policy: AcceptancePolicy
    now: datetime = START

    def says(self, source: str, *said: tuple[str, str], entry: str = "") -> None:
        """Let a source's document hold one entry for each (subject, holder); "" holds nothing."""
        self.now += HOUR
        entries = [self._entry(entry or subject, subject, new) for subject, new in said]
        with self.db.begin() as tx:
            feed = feeds.add_feed(
                tx, source, f"https://{source}.example/", Trust.AUTO, 600, False, self.now
            )
            fetched = Fetched(feed.url, f"{self.now}".encode())
            feeds.record_poll(tx, feed.id, fetched, entries, self.now, self.now + HOUR)

    def _entry(self, key: str, subject: str, new: str) -> tuple[Entry, list[Claim]]:
        fact = RawFact(subject, "head_of_government", new) if new else None
        entry = Entry(key, subject, "", self.now, "", fact, f"hash of {subject} {new}")
        claim = Claim(subject, "head_of_government", "", new, "", self.now, new)
        return entry, [claim] if new else []

    def decide(self) -> dict[str, int]:
        return Accept(self.db, PACK, self.policy, lambda: self.now).run().counts

    def believed(self) -> dict[str, str]:
        with self.db.begin() as tx:
            found = facts.list_facts(tx)
        return {one.subject: one.object for one in found if one.status != "superseded"}

    def held(self) -> list[str]:
        with self.db.begin() as tx:
            return [why for _, why in claims.held_claims(tx)]


@pytest.fixture
def news(database: Database) -> Newsroom:
    return Newsroom(database, AcceptancePolicy())


def test_a_claim_is_decided_once_and_its_reason_audited(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"))

    assert news.decide() == {"accepted": 1}
    assert news.decide() == {}
    with news.db.begin() as tx:
        [event] = audit.events(tx, subject="claim:1")
    assert (event.actor, event.event) == ("rules", "claim.accepted")
    assert event.detail == {"reason": "passed the rules", "fact": 1}


def test_what_stays_held_is_looked_at_without_a_query_for_each(database: Database) -> None:
    news = Newsroom(database, AcceptancePolicy(sources_needed=2))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def cycle(subjects: int) -> int:
        news.says("gazette", *((f"Utopia {n}", "Ada Byron") for n in range(subjects)))
        news.decide()
        statements.clear()
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            assert news.decide() == {}
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
        return len(statements)

    few, many = cycle(3), cycle(40)

    assert len(news.held()) == 40
    assert few == many > 0


def test_one_of_two_held_claims_makes_the_other_one_look_again(news: Newsroom) -> None:
    news.policy = AcceptancePolicy(sources_needed=2)
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.says("gazette", ("Erewhon", "Ada Byron"))
    assert news.decide() == {}

    news.says("herald", ("Utopia", "Ada Byron"))

    assert news.decide() == {"accepted": 1, "rejected": 1}
    assert news.held() == ["said by 1 of 2 publishers: gazette.example"]


def test_a_source_that_flips_a_fact_every_poll_is_held(news: Newsroom) -> None:
    for poll in range(8):
        news.says("gazette", ("Utopia", "Ada Byron" if poll % 2 else "Bo Diaz"))
        news.decide()

    with news.db.begin() as tx:
        made = len(facts.list_facts(tx))
    assert made == 3  # the first, the second, and one correction
    assert news.believed() == {"Utopia": "Bo Diaz"}
    assert "went back to an earlier value" in news.held()[0]


def test_a_flipping_source_is_believed_again_when_it_has_kept_still(news: Newsroom) -> None:
    for poll in range(4):
        news.says("gazette", ("Utopia", "Ada Byron" if poll % 2 else "Bo Diaz"))
        news.decide()
    assert news.believed() == {"Utopia": "Bo Diaz"}

    news.now += timedelta(days=31)
    news.says("gazette", ("Utopia", "Ada Byron"), entry="confirmed")

    assert news.decide()["accepted"] == 1
    assert news.believed() == {"Utopia": "Ada Byron"}


def test_two_sources_that_disagree_are_held_both(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.says("herald", ("Utopia", "Bo Diaz"))

    assert news.decide() == {}
    assert news.believed() == {}
    assert news.held() == [
        "gazette says 'Ada Byron', herald says 'Bo Diaz'",
        "herald says 'Bo Diaz', gazette says 'Ada Byron'",
    ]


def test_a_third_source_settles_it(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.says("herald", ("Utopia", "Bo Diaz"))
    news.decide()

    news.says("courier", ("Utopia", "Ada Byron"))
    news.decide()

    assert news.believed() == {"Utopia": "Ada Byron"}


def test_a_source_that_gives_in_settles_it(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.says("herald", ("Utopia", "Bo Diaz"))
    news.decide()

    news.says("herald", ("Utopia", "Ada Byron"))
    news.decide()

    assert news.believed() == {"Utopia": "Ada Byron"}
    assert news.held() == []


@pytest.mark.parametrize("number", [60, 1000])
def test_a_source_that_claims_a_thousand_changes_at_once_is_held(
    news: Newsroom, number: int
) -> None:
    news.says("gazette", *((f"Country {n}", "Ada Byron") for n in range(number)))
    news.says("herald", ("Utopia", "Bo Diaz"))

    news.decide()

    assert news.believed() == {"Utopia": "Bo Diaz"}
    assert len(news.held()) == number
    assert f"changes head_of_government {number} times in a day" in news.held()[0]


def test_a_flood_in_small_polls_is_held_too(news: Newsroom) -> None:
    for poll in range(6):
        news.now -= HOUR * 0.9
        news.says("gazette", *((f"Country {poll} {n}", "Ada Byron") for n in range(20)))
        news.decide()

    assert len(news.believed()) == 40
    assert len(news.held()) == 80


def test_held_changes_stay_held_on_the_days_after(news: Newsroom) -> None:
    news.says("gazette", *((f"Country {n}", "Ada Byron") for n in range(60)))
    news.decide()

    news.now += timedelta(days=3)

    assert news.decide() == {}
    assert news.believed() == {}


def test_a_respelling_of_a_whole_list_is_no_flood(news: Newsroom) -> None:
    names = [f"Ada {chr(65 + n)}yron" for n in range(26)]
    for part in range(3):  # below the limit of a day
        news.says("gazette", *((f"Country {part} {n}", name) for n, name in enumerate(names)))
        news.decide()
        news.now += timedelta(days=2)
    respelled = [(f"Country {n % 3} {n // 3}", names[n // 3].upper()) for n in range(78)]

    news.says("gazette", *respelled, ("Utopia", "Bo Diaz"))

    assert news.decide() == {"rejected": 78, "accepted": 1}


def test_an_entry_that_takes_its_fact_back_reopens_the_old_one(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"), entry="inauguration")
    news.decide()
    news.says("gazette", ("Utopia", "Bo Diaz"), entry="coup")
    news.decide()
    assert news.believed() == {"Utopia": "Bo Diaz"}

    news.says("gazette", ("Utopia", ""), entry="coup")
    news.decide()

    assert news.believed() == {"Utopia": "Ada Byron"}
    with news.db.begin() as tx:
        [back, *_] = facts.list_facts(tx)
    assert back.reason == "passed the rules; gazette took fact 2 back"
    assert back.old_object == "Bo Diaz"


def test_an_entry_that_corrects_whom_it_is_about_takes_its_fact_back(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"), entry="inauguration")
    news.decide()
    news.says("gazette", ("Utopia", "Bo Diaz"), entry="coup")
    news.decide()

    news.says("gazette", ("Dystopia", "Bo Diaz"), entry="coup")
    news.decide()

    assert news.believed() == {"Utopia": "Ada Byron", "Dystopia": "Bo Diaz"}


def test_a_fact_taken_back_with_nothing_before_it_waits_for_a_person(news: Newsroom) -> None:
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.decide()

    news.says("gazette", ("Utopia", ""))
    news.decide()

    assert news.held() == ["names nobody or nothing for sure: taken back by its entry"]


def test_a_held_claim_whose_entry_is_reworded_is_no_longer_offered(news: Newsroom) -> None:
    news.policy = AcceptancePolicy(sources_needed=2)
    news.says("gazette", ("Utopia", "Ada Byron"))
    news.decide()

    news.says("gazette", ("Utopia", "Bo Diaz"))
    news.decide()

    with news.db.begin() as tx:
        assert [one.claim.object for one, _ in claims.held_claims(tx)] == ["Bo Diaz"]
        assert claims.outcome(tx, 1) == (Ruling.REJECTED, "its entry says otherwise by now")


def test_a_claim_that_has_stood_is_believed_without_a_new_poll(news: Newsroom) -> None:
    news.policy = AcceptancePolicy(settle_s=3600)
    news.says("gazette", ("Utopia", "Ada Byron"))
    assert news.decide() == {}

    news.now += HOUR

    assert news.decide() == {"accepted": 1}
