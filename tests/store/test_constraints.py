"""What the database itself refuses, whoever writes to it."""

import pytest
import sqlalchemy as sa
from sqlmodel import select

from kdpo_daemon.records.teaching import AnswerPurpose
from kdpo_daemon.store import extractions, probes
from kdpo_daemon.store.db import Database
from kdpo_daemon.store.tables import EntryRow, FeedRow
from tests.store.builders import NOW, adapter, ask, batch, fact, go_live, judge, probe, version_0

ENUMS = sorted(
    (table.name, column.name)
    for table in FeedRow.metadata.tables.values()
    for column in table.columns
    if isinstance(column.type, sa.Enum)
)


def fill(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        trained = adapter(tx, batch(tx, made), made)
        question = probes.save_probes(tx, [probe(made.id)], NOW)[0]
        ask(tx, question, "Ada", trained.id, AnswerPurpose.CANARY)
        judge(tx, trained)
        go_live(tx, trained, NOW)
        extractions.enqueue(tx, tx.exec(select(EntryRow)).one(), NOW)


def test_a_value_that_is_not_in_the_enum_is_refused(database: Database) -> None:
    fill(database)

    for table, column in ENUMS:
        with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
            tx.connection().execute(
                sa.update(sa.table(table, sa.column(column))).values({column: "nonsense"})
            )


def test_enums_are_stored_as_their_values(database: Database) -> None:
    fill(database)

    with database.begin() as tx:
        stored = [
            tx.connection()
            .execute(sa.select(sa.column(column)).select_from(sa.table(table)))
            .scalars()
            .first()
            for table, column in ENUMS
        ]
    assert all(value and value == value.lower() for value in stored)


def test_a_row_that_points_nowhere_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
        tx.connection().execute(
            sa.text("INSERT INTO adapter_fact (adapter_id, fact_id) VALUES (7, 7)")
        )
        tx.connection().execute(sa.text("SELECT 1"))


def test_version_0_needs_no_batch(database: Database) -> None:
    with database.begin() as tx:
        assert version_0(tx).batch_id is None
