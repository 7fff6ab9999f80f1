"""Feeds and what their polls leave behind."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import Decision
from kdpo_daemon.records.intake import Feed, Fetched, Page, Ruling, Trust
from kdpo_daemon.store import claims, facts, feeds, pages
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import HOUR, NOW, claim, entry, feed, poll


def rows_in(tx: Session, table: str) -> int:
    count: int = (
        tx.connection()
        .execute(sa.select(sa.func.count()).select_from(sa.table(table)))
        .scalar_one()
    )
    return count


def test_a_new_feed_is_due_at_once(database: Database) -> None:
    with database.begin() as tx:
        made = feed(tx)

        assert feeds.due_feeds(tx, NOW) == [made]
        assert made.enabled
        assert made.trust is Trust.AUTO


def test_adding_a_feed_again_updates_its_settings_and_keeps_its_state(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))

        again = feeds.add_feed(
            tx, "gazette", "https://example.org/gazette", Trust.MANUAL, 60, True, NOW
        )

        assert (again.trust, again.every_s, again.allow_private) == (Trust.MANUAL, 60, True)
        assert again.etag == '"1"'
        assert feeds.list_feeds(tx) == [again]


def test_a_name_is_not_given_to_another_url(database: Database) -> None:
    with database.begin() as tx:
        feed(tx)

        with pytest.raises(StoreError, match=r"belongs to https://example\.org/gazette"):
            feeds.add_feed(tx, "gazette", "https://example.org/b", Trust.AUTO, 60, False, NOW)


def test_an_unknown_feed_is_an_error_that_lists_the_known_ones(database: Database) -> None:
    with database.begin() as tx:
        feed(tx)

        with pytest.raises(StoreError, match="Known feeds: gazette"):
            feeds.get_feed(tx, "gazete")


def test_a_poll_keeps_document_entries_and_open_claims(database: Database) -> None:
    with database.begin() as tx:
        counts = poll(tx, (entry("a"), claim()), (entry("b"), claim("Bo")))

        assert (counts.new, counts.changed, counts.same) == (2, 0, 0)
        assert [rows_in(tx, table) for table in ("document", "entry", "claim")] == [1, 2, 2]
        waiting = claims.open_claims(tx)
        assert [one.claim for one in waiting] == [claim(), claim("Bo")]
        assert {(one.trust, one.observed_at) for one in waiting} == {(Trust.AUTO, NOW)}


def test_the_same_poll_twice_changes_nothing(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))

        counts = poll(tx, (entry(), claim()))

        assert (counts.new, counts.changed, counts.same) == (0, 0, 1)
        assert [rows_in(tx, table) for table in ("document", "entry", "claim")] == [1, 1, 1]


def test_a_known_key_with_other_words_is_a_change(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))

        counts = poll(tx, (entry(new="Bo"), claim("Bo")), body=b"<rss>2</rss>")

        assert (counts.new, counts.changed, counts.same) == (0, 1, 0)
        assert [rows_in(tx, table) for table in ("document", "entry", "claim")] == [2, 2, 2]


def test_an_entry_that_goes_back_to_what_it_said_before_is_a_change(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        poll(tx, (entry(new="Bo"), claim("Bo")), body=b"<rss>2</rss>")

        counts = poll(tx, (entry(), claim()))

        assert (counts.new, counts.changed, counts.same) == (0, 1, 0)
        assert [one.claim for one in claims.open_claims(tx)] == [claim(), claim("Bo"), claim()]


def test_a_key_that_comes_twice_in_one_document_is_known_the_second_time(
    database: Database,
) -> None:
    with database.begin() as tx:
        counts = poll(tx, (entry(), claim()), (entry(), claim()), (entry(new="Bo"), claim("Bo")))

        assert (counts.new, counts.changed, counts.same) == (1, 1, 1)
        assert [one.claim for one in claims.open_claims(tx)] == [claim(), claim("Bo")]


def test_more_keys_than_one_question_takes_are_all_known_again_and_in_order(
    database: Database,
) -> None:
    many = [(entry(f"k{number}"), claim(f"Bo {number}")) for number in range(1100)]
    with database.begin() as tx:
        assert poll(tx, *many).new == len(many)

        counts = poll(tx, *many)

        assert (counts.new, counts.changed, counts.same) == (0, 0, len(many))
        assert [one.claim for one in claims.open_claims(tx)] == [said for _, said in many]


def test_a_document_that_brings_nothing_is_not_kept(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))

        poll(tx, (entry(), claim()), body=b"<rss>a later date</rss>")

        assert rows_in(tx, "document") == 1


def test_two_feeds_may_carry_the_same_entry(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        other = feed(tx, "herald")
        fetched = Fetched(url=other.url, body=b"<rss/>")

        counts = feeds.record_poll(tx, other.id, fetched, [(entry(), [claim()])], NOW, NOW + HOUR)

        assert counts.new == 1


def test_not_modified_moves_only_the_poll_state(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim()))
        fetched = Fetched(url="https://example.org/gazette", body=None, etag='"1"')

        feeds.record_poll(tx, feed(tx).id, fetched, [], NOW + HOUR, NOW + 2 * HOUR)

        after = feeds.get_feed(tx, "gazette")
        assert (after.last_polled_at, after.next_poll_at) == (NOW + HOUR, NOW + 2 * HOUR)
        assert after.etag == '"1"'
        assert rows_in(tx, "document") == 1


def test_failures_add_up_and_a_good_poll_clears_them(database: Database) -> None:
    with database.begin() as tx:
        for _ in range(2):
            feeds.record_failure(tx, feed(tx).id, "503", NOW, NOW + HOUR, disable=False)
        failing = feeds.get_feed(tx, "gazette")
        poll(tx, (entry(), claim()))

        assert (failing.failures, failing.last_error) == (2, "503")
        assert feeds.due_feeds(tx, NOW + HOUR / 2) == []
        healed = feeds.get_feed(tx, "gazette")
        assert (healed.failures, healed.last_error) == (0, None)


def test_a_disabled_feed_is_never_due(database: Database) -> None:
    with database.begin() as tx:
        feeds.record_failure(tx, feed(tx).id, "410 Gone", NOW, NOW, disable=True)

        assert feeds.due_feeds(tx, NOW + HOUR) == []
        assert not feeds.get_feed(tx, "gazette").enabled


def test_an_imported_file_has_a_feed_that_is_never_due(database: Database) -> None:
    with database.begin() as tx:
        first = feeds.import_feed(tx, "facts.jsonl", Trust.AUTO, NOW)
        again = feeds.import_feed(tx, "facts.jsonl", Trust.AUTO, NOW)

        assert first == again
        assert (first.url, first.enabled) == ("file:facts.jsonl", False)
        assert feeds.due_feeds(tx, NOW + HOUR) == []


def test_a_poll_that_breaks_off_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.begin() as tx:
        poll(tx, (entry(), claim()))
        raise RuntimeError("killed")

    with database.begin() as tx:
        assert [rows_in(tx, table) for table in ("feed", "document", "entry", "claim")] == [0] * 4


def test_what_postgresql_cannot_hold_is_marked_in_the_text(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry(), claim("Ada\x00 \ud800Byron")))

        assert claims.open_claims(tx)[0].claim.object == "Ada\ufffd ?Byron"


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 3, 1)  # noqa: DTZ001 that is the point

    with database.begin() as tx, pytest.raises(sa.exc.StatementError, match="without a zone"):
        feeds.add_feed(tx, "a", "https://example.org", Trust.AUTO, 60, False, naive)


def test_times_come_back_in_utc_whatever_zone_they_went_in_with(database: Database) -> None:
    with database.begin() as tx:
        feed(tx)
        local = NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)
        feeds.record_failure(tx, 1, "503", local, local, disable=False)

    with database.begin() as tx:
        polled_at = feeds.get_feed(tx, "gazette").last_polled_at
        assert polled_at == NOW
        assert polled_at.tzinfo is UTC


def test_open_claims_beyond_the_limit_go_before_held_ones(database: Database) -> None:
    with database.begin() as tx:
        poll(tx, (entry("a"), claim("A")), (entry("b"), claim("B")))
        held = claims.open_claims(tx)[0]
        facts.decide(tx, held.id, Decision(Ruling.HELD, "untrusted"), NOW)

        assert [one.claim.object for one in claims.open_claims(tx, 1)] == ["B"]
        assert [one.claim.object for one in claims.open_claims(tx)] == ["A", "B"]


def test_what_is_remembered_of_a_page_is_replaced_not_added_to(database: Database) -> None:
    first = Page("https://example.org/a", '"1"', None, {"head": "Ada"})
    second = Page("https://example.org/a", '"2"', None, {"head": "Bea"})
    fetched = Fetched(url=first.url, body=b"{}", etag='"2"')
    with database.begin() as tx:
        made = feed(tx)

        for page in (first, second):
            feeds.record_poll(tx, made.id, fetched, [], NOW, NOW + HOUR, page)

        assert pages.pages_of(tx, made.id) == {first.url: second}
        assert rows_in(tx, "page") == 1
        assert feeds.get_feed(tx, made.name).etag is None


def test_a_feed_keeps_its_kind_and_takes_new_options(database: Database) -> None:
    def add(tx: Session, kind: str, options: dict[str, object]) -> Feed:
        return feeds.add_feed(tx, "f", "http://a", Trust.AUTO, 60, False, NOW, kind, options)

    with database.begin() as tx:
        add(tx, "snapshot", {"subject": "$.a"})

        again = add(tx, "snapshot", {"subject": ["$.b"]})

        assert (again.kind, again.options) == ("snapshot", {"subject": ["$.b"]})
        assert feeds.get_feed(tx, "f") == again
        with pytest.raises(StoreError, match="of kind snapshot"):
            add(tx, "feed", {})
