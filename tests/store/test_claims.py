"""What was said about a slot, who said it, and a person's word on it."""

import pytest

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import Decision
from kdpo_daemon.records.intake import Claim, Fetched, Ruling, Trust
from kdpo_daemon.store import claims, facts, feeds
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import HOUR, NOW, accept_all, claim, entry, fact, poll


def says(tx: Session, source: str, new: str, key: str = "1", url: str = "") -> None:
    """Poll a source whose one entry says who holds the office, or nothing."""
    url = url or f"https://{source}.example/"
    feed = feeds.add_feed(tx, source, url, Trust.AUTO, 600, False, NOW)
    fetched = Fetched(url=feed.url, body=new.encode())
    said: list[Claim] = [claim(new)] if new else []
    feeds.record_poll(tx, feed.id, fetched, [(entry(key, new), said)], NOW, NOW + HOUR)


def test_a_slot_knows_what_every_source_said_and_whether_it_still_does(
    database: Database,
) -> None:
    with database.begin() as tx:
        says(tx, "gazette", "Ada Byron")
        says(tx, "herald", "Bo Diaz")
        says(tx, "gazette", "Cy Young")

        said = claims.slot_of(tx, "UTOPIA ", "head_of_government").said

        assert [(one.source, one.object, one.current) for one in said] == [
            ("gazette", "Ada Byron", False),
            ("herald", "Bo Diaz", True),
            ("gazette", "Cy Young", True),
        ]
        assert {one.publisher for one in said} == {"gazette.example", "herald.example"}
        assert claims.slot_of(tx, "Utopia", "capital").said == ()


def test_a_standing_fact_names_the_entry_it_came_from(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)

        [standing] = claims.slot_of(tx, "Utopia", "head_of_government").standing

        assert (standing.fact, standing.source, standing.key) == (made, "gazette", "Utopia")


def test_feeds_of_one_host_are_one_publisher_however_it_is_written(database: Database) -> None:
    with database.begin() as tx:
        for name, host in (("a", "News.example"), ("b", "news.example:443"), ("c", "c.example")):
            says(tx, name, "Ada Byron", url=f"https://{host}/{name}")

        said = claims.slot_of(tx, "Utopia", "head_of_government").said

        assert [one.publisher for one in said] == ["news.example", "news.example", "c.example"]


def test_an_entry_that_says_nothing_any_more_gives_the_slot_back(database: Database) -> None:
    with database.begin() as tx:
        says(tx, "gazette", "Ada Byron", "old news")
        says(tx, "gazette", "Bo Diaz")
        accept_all(tx)

        says(tx, "gazette", "")

        [waiting] = claims.open_claims(tx)
        assert (waiting.claim.object, waiting.claim.old_object) == ("Ada Byron", "Bo Diaz")
        assert waiting.claim.valid_from == NOW - HOUR
        assert waiting.claim.note == "taken back by its entry"


def test_an_entry_without_a_fact_that_is_reworded_takes_nothing_back(database: Database) -> None:
    with database.begin() as tx:
        says(tx, "gazette", "Ada Byron")
        accept_all(tx)
        says(tx, "gazette", "", "other")
        gazette = feeds.get_feed(tx, "gazette")
        reworded = (entry("other", "other words"), list[Claim]())

        counts = feeds.record_poll(
            tx, gazette.id, Fetched(gazette.url, b"2"), [reworded], NOW, NOW + HOUR
        )

        assert counts.changed == 1
        assert claims.open_claims(tx) == []


def test_what_the_rules_accepted_is_counted_by_feed_and_relation(database: Database) -> None:
    with database.begin() as tx:
        fact(tx)
        poll(tx, (entry("b"), claim(subject="Erewhon")), body=b"2")
        waiting = claims.open_claims(tx)[0]
        claims.approve(tx, waiting.id, "ada", NOW)
        accept_all(tx, NOW)

        assert claims.accepted_since(tx, NOW) == {("gazette", "head_of_government"): 1}
        assert claims.accepted_since(tx, NOW + HOUR) == {}


def test_a_held_claim_waits_until_somebody_approves_it(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]

        claims.hold(tx, waiting.id, "ada: the count goes on", NOW)

        assert claims.held_claims(tx)[0][1] == "held by ada: the count goes on"
        assert claims.open_claims(tx)[0].held_by == "ada: the count goes on"
        claims.approve(tx, waiting.id, "bo", NOW)
        again = claims.open_claims(tx)[0]
        assert (again.held_by, again.approved_by) == ("", "bo")


def test_a_rejected_claim_is_never_looked_at_again(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]

        claims.reject(tx, waiting.id, "rejected by ada", NOW)

        assert claims.open_claims(tx) == []
        assert claims.outcome(tx, waiting.id) == (Ruling.REJECTED, "rejected by ada")


@pytest.mark.parametrize("act", [claims.approve, claims.hold, claims.reject])
def test_a_decided_claim_is_named_with_what_it_became(database: Database, act) -> None:  # type: ignore[no-untyped-def]
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        waiting = claims.open_claims(tx)[0]
        facts.decide(tx, waiting.id, Decision(Ruling.ACCEPTED, "trusted"), NOW)

        with pytest.raises(StoreError, match=r"claim:1: is accepted already.*fact:1"):
            act(tx, waiting.id, "ada", NOW)
