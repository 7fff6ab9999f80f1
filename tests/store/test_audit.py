"""The audit log: append-only, and tampering shows."""

import hashlib
import json
import threading

import pytest
import sqlalchemy as sa

from kdpo_daemon.errors import StoreError
from kdpo_daemon.store import audit
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import HOUR, NOW

DROP_GUARD = {
    "sqlite": ("DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"),
    "postgresql": ("DROP TRIGGER audit_append_only ON audit",),
}


def write(tx: Session, count: int = 3) -> None:
    for number in range(1, count + 1):
        detail = {"number": number, "share": 0.1, "big": 1e20, "name": "Ä\x00"}
        audit.record(tx, "gate", "judged", f"fact:{number}", detail, NOW + number * HOUR)


def tamper(database: Database, statement: str) -> None:
    with database.begin() as tx:
        for drop in DROP_GUARD[database.dialect]:
            tx.connection().execute(sa.text(drop))
        tx.connection().execute(sa.text(statement))


def test_events_come_back_as_they_were_recorded(database: Database) -> None:
    with database.begin() as tx:
        write(tx)

        first = audit.events(tx)[0]
        assert (first.at, first.actor, first.event) == (NOW + HOUR, "gate", "judged")
        assert first.detail == {"number": 1, "share": 0.1, "big": 1e20, "name": "Ä\x00"}
        assert [one.id for one in audit.events(tx, after=1)] == [2, 3]
        assert [one.id for one in audit.events(tx, limit=2)] == [1, 2]
        assert [one.id for one in audit.events(tx, subject="fact:2")] == [2]


def test_an_untouched_log_is_verified(database: Database) -> None:
    with database.begin() as tx:
        empty = audit.verify(tx)
        write(tx)
    with database.begin() as tx:
        assert (empty, audit.verify(tx)) == (0, 3)


def test_the_hash_can_be_recomputed_as_documented(database: Database) -> None:
    with database.begin() as tx:
        write(tx, 1)

        line = tx.connection().execute(sa.text("SELECT * FROM audit")).mappings().one()

    sealed = ["0" * 64, "2026-03-01T13:00:00+00:00", "gate", "judged", "fact:1", line["detail"]]
    assert line["hash"] == hashlib.sha256(json.dumps(sealed).encode()).hexdigest()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit WHERE id = 2"]
)
def test_the_database_refuses_to_change_the_log(database: Database, statement: str) -> None:
    with database.begin() as tx:
        write(tx)

    with pytest.raises(sa.exc.IntegrityError, match="append-only"), database.begin() as tx:
        tx.connection().execute(sa.text(statement))


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", "audit line 2: was changed"),
        ("UPDATE audit SET detail = '{}' WHERE id = 3", "audit line 3: was changed"),
        ("DELETE FROM audit WHERE id = 2", "audit line 3: does not follow"),
        ("DELETE FROM audit WHERE id = 1", "audit line 2: does not follow"),
    ],
)
def test_tampering_is_found_and_the_line_named(
    database: Database, statement: str, complaint: str
) -> None:
    with database.begin() as tx:
        write(tx)
    tamper(database, statement)

    with database.begin() as tx, pytest.raises(StoreError, match=complaint):
        audit.verify(tx)


def test_writers_at_once_keep_one_chain(database: Database) -> None:
    def work() -> None:
        for _ in range(5):
            with database.begin() as tx:
                write(tx, 2)

    writers = [threading.Thread(target=work) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    with database.begin() as tx:
        assert audit.verify(tx) == 40
