"""How long the accept stage takes for new claims, with few and with very many stored facts.

`measure` fills empty databases with made-up facts and times the real stage, from the poll that
brought the claims to the facts made of them.  Half of the claims are about subjects that have a
fact already.  The databases take turns, so that what else the machine does hits all alike.
Works on any database the daemon runs on.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from kdpo_daemon import packs
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.records.intake import Claim, Entry, Fetched, Trust
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.store import feeds
from kdpo_daemon.store.db import Database

_RELATION = "head_of_government"
_LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
_SOURCES = 4  # so that no source brings more in a day than is believed


@dataclass(frozen=True)
class AcceptTime:
    """How long the stage took: seconds, once for each lot of claims."""

    dialect: str
    stored: int
    claims: int
    seconds: tuple[float, ...]

    @property
    def best_s(self) -> float:
        """The shortest: what the stage takes when nothing else wants the machine."""
        return min(self.seconds)


def measure(
    sizes: Sequence[tuple[str, int]], claims: int = 100, rounds: int = 5
) -> list[AcceptTime]:
    """Fill the empty database at each URL with so many facts, and time lots of new claims."""
    with ExitStack() as stack:
        databases = []
        for url, stored in sizes:
            db = Database(url)
            stack.callback(db.dispose)
            db.upgrade()
            _fill(db, stored)
            databases.append((db, stored))
        lots = [
            [_timed(db, stored, claims, lot) for db, stored in databases]
            for lot in range(rounds + 1)
        ]
        return [
            AcceptTime(db.dialect, stored, claims, seconds)
            for (db, stored), seconds in zip(databases, zip(*lots[1:], strict=True), strict=True)
        ]  # the first lot warms up


def _timed(db: Database, stored: int, claims: int, lot: int) -> float:
    now = _LONG_AGO + timedelta(days=100 + 2 * lot)
    names = [f"Subject {1 + (lot * claims + n) * 7 % stored}" for n in range(claims // 2)]
    names += [f"Newcomer {lot} {n}" for n in range(claims - len(names))]
    with db.begin() as tx:
        for source in range(_SOURCES):
            feed = feeds.add_feed(
                tx, f"source {source}", f"https://{source}.example/", Trust.AUTO, 3600, False, now
            )
            said = [_said(name, lot, now) for name in names[source::_SOURCES]]
            feeds.record_poll(tx, feed.id, Fetched(feed.url, f"{lot}".encode()), said, now, now)
    pack = read_pack([packs.text("relations.toml")])
    began = time.perf_counter()
    report = Accept(db, pack, AcceptancePolicy(), lambda: now).run()
    took = time.perf_counter() - began
    if report.counts != {"accepted": claims}:
        raise AssertionError(f"expected {claims} accepted claims, got {report.counts}")
    return took


def _said(subject: str, lot: int, now: datetime) -> tuple[Entry, Sequence[Claim]]:
    key = f"{subject} {lot}"
    entry = Entry(key, subject, "", now, "", None, key)
    return entry, [Claim(subject, _RELATION, "", f"Ada {'BCDFGHJKL'[lot]}yron", "", now, key)]


def _fill(db: Database, stored: int) -> None:
    """Put `stored` facts of one old document into the tables, each with its entry and claim."""
    with db.begin() as tx:
        feed = feeds.add_feed(
            tx, "old", "https://old.example/", Trust.AUTO, 3600, False, _LONG_AGO
        )
        connection = tx.connection()
        for statement in (_DOCUMENT, _ENTRIES, _CLAIMS, _FACTS):
            connection.execute(sa.text(statement), {"stored": stored, "feed": feed.id})
        if db.dialect == "postgresql":  # ids given by hand, and what autovacuum does in time
            for table in ("document", "entry", "claim", "fact"):
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {stored})"
                )
            connection.exec_driver_sql("ANALYZE")


# SQL, so that a million rows take seconds; the program's own way takes hours.
_DOCUMENT = """
INSERT INTO document (id, feed_id, url, fetched_at, sha256, content_type, body)
VALUES (1, :feed, '', '2025-01-01 00:00:00.000000', '', '', '')
"""
_ENTRIES = """
INSERT INTO entry (id, document_id, feed_id, key, content_hash, title, link, summary)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :stored)
SELECT i, 1, :feed, 'key ' || i, '', '', '', '' FROM n
"""
_CLAIMS = """
INSERT INTO claim (id, entry_id, subject, subject_key, relation, role, object, old_object,
    valid_from, quote, note, ruling, reason, decided_at, approved_by, held_by)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :stored)
SELECT i, i, 'Subject ' || i, 'subject ' || i, 'head_of_government', '', 'Old Holder', '',
    '2025-01-01 00:00:00.000000', '', '', 'accepted', 'passed the rules',
    '2025-01-01 00:00:00.000000', '', '' FROM n
"""
_FACTS = """
INSERT INTO fact (id, claim_id, subject, subject_key, relation, role, object, object_key,
    old_object, valid_from, observed_at, status, reason, changed_at, attempts)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :stored)
SELECT i, i, 'Subject ' || i, 'subject ' || i, 'head_of_government', '', 'Old Holder', '', '',
    '2025-01-01 00:00:00.000000', '2025-01-01 00:00:00.000000', 'live', '',
    '2025-01-01 00:00:00.000000', 0 FROM n
"""
