"""The schema: from nothing to head and back, on both databases."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.intake import Page
from kdpo_daemon.store import facts, feeds, pages, revocations
from kdpo_daemon.store.db import Database
from kdpo_daemon.store.tables import FeedRow
from tests.store.builders import NOW, adapter, batch, fact

METADATA = FeedRow.metadata
Connect = Callable[[str], Database]

#: As the first migrations know feeds.
OLD_FEED = (
    "INSERT INTO feed (name, url, trust, every_s, allow_private, enabled, next_poll_at, failures)"
    " VALUES ('old', 'http://a', 'auto', 60, false, true, '2026-01-01 00:00:00', 0)"
)


def tables_in(database: Database) -> set[str]:
    with database.begin() as tx:
        return set(sa.inspect(tx.connection()).get_table_names())


def test_an_empty_database_is_at_no_revision(empty_url: str, connect: Connect) -> None:
    assert connect(empty_url).revision() is None


def test_head_is_what_the_tables_say(empty_url: str, connect: Connect) -> None:
    database = connect(empty_url)

    database.upgrade()

    with database.begin() as tx:
        context = MigrationContext.configure(tx.connection(), opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_every_check_constraint_of_the_tables_is_in_the_database(database: Database) -> None:
    wanted = {
        (table.name, constraint.name)
        for table in METADATA.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }

    with database.begin() as tx:
        inspector = sa.inspect(tx.connection())
        there = {
            (table, constraint["name"])
            for table in METADATA.tables
            for constraint in inspector.get_check_constraints(table)
        }

    assert len(wanted) == 12
    assert there == wanted


def test_head_can_be_taken_back_to_nothing_and_made_again(
    empty_url: str, connect: Connect
) -> None:
    database = connect(empty_url)
    database.upgrade()

    database.downgrade("base")

    assert tables_in(database) == {"alembic_version"}
    database.upgrade()
    database.check()


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    database.upgrade()

    database.check()


def test_feeds_of_before_have_the_kind_feed_and_survive_both_ways(
    empty_url: str, connect: Connect
) -> None:
    database = connect(empty_url)
    database.upgrade("0002")
    with database.begin() as tx:
        tx.connection().exec_driver_sql(OLD_FEED)

    database.upgrade("0003")

    with database.begin() as tx:
        old = tx.connection().exec_driver_sql("SELECT kind, options FROM feed").one()
        assert (old.kind, str(old.options)) == ("feed", "{}")
        assert tx.connection().exec_driver_sql("SELECT count(*) FROM page").scalar_one() == 0
    database.downgrade("0002")
    assert "page" not in tables_in(database)
    with database.begin() as tx:
        names = tx.connection().exec_driver_sql("SELECT name FROM feed").scalars().all()
    assert names == ["old"]


def test_what_was_read_of_a_page_survives_both_ways(empty_url: str, connect: Connect) -> None:
    database = connect(empty_url)
    database.upgrade("0004")
    with database.begin() as tx:
        tx.connection().exec_driver_sql(OLD_FEED)
        tx.connection().exec_driver_sql(
            'INSERT INTO page (feed_id, url, "values")'
            " SELECT id, 'http://a/1', '{\"1\": \"one\"}' FROM feed"
        )

    database.upgrade("0006")

    with database.begin() as tx:
        (page,) = pages.pages_of(tx, 1).values()
    assert page == Page("http://a/1", values={"1": "one"})
    database.downgrade("0004")
    assert "waiting" not in tables_in(database)
    with database.begin() as tx:
        values = tx.connection().exec_driver_sql('SELECT "values" FROM page').scalars().all()
    assert len(values) == 1


def test_feeds_of_before_have_moved_nowhere_and_survive_both_ways(
    empty_url: str, connect: Connect
) -> None:
    database = connect(empty_url)
    database.upgrade("0008")
    with database.begin() as tx:
        tx.connection().exec_driver_sql(OLD_FEED)

    database.upgrade("0009")

    with database.begin() as tx:
        assert feeds.get_feed(tx, "old").moved_to is None
    database.downgrade("0008")
    with database.begin() as tx:
        names = tx.connection().exec_driver_sql("SELECT name FROM feed").scalars().all()
    assert names == ["old"]


def test_facts_of_before_are_in_no_group_and_survive_both_ways(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        facts.group(tx, [made.id])
    database.downgrade("0009")
    with database.begin() as tx:
        ask = tx.connection().exec_driver_sql
        assert ask("SELECT count(*) FROM fact").scalar_one() == 1
        assert ask("SELECT count(*) FROM applied_edits").scalar_one() == 0

    database.upgrade()

    with database.begin() as tx:
        assert facts.get_fact(tx, made.id) == made


def test_facts_and_what_points_to_them_survive_both_ways_of_the_revocations(
    empty_url: str, connect: Connect
) -> None:
    database = connect(empty_url)
    database.upgrade()
    with database.begin() as tx:
        revoked = fact(tx)
        adapter(tx, batch(tx, revoked), revoked)
        facts.set_fact_status(tx, [revoked.id], FactStatus.LIVE, "served", NOW)
        revocations.revoke(tx, revoked.id, "a hoax", NOW)
        newer = fact(tx, "Bo Diaz")

    database.downgrade("0009")

    def stored() -> list[tuple[object, ...]]:
        with database.begin() as tx:
            ask = tx.connection().exec_driver_sql
            ask("SELECT * FROM applied_edits")  # the view is there
            taught = ask("SELECT fact_id FROM adapter_fact").scalars().all()
            rows = ask("SELECT id, status, object_key FROM fact ORDER BY id").all()
            assert taught == [revoked.id]
            return [tuple(row) for row in rows]

    assert stored() == [(revoked.id, "superseded", ""), (newer.id, "pending", "")]
    with pytest.raises(sa.exc.IntegrityError), database.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE fact SET status = 'revoked'")
    database.upgrade()
    assert stored() == [(revoked.id, "superseded", ""), (newer.id, "pending", "")]
    with database.begin() as tx:
        assert facts.list_facts(tx)[0] == newer


def test_check_refuses_an_empty_database_and_names_the_remedy(
    empty_url: str, connect: Connect
) -> None:
    with pytest.raises(StoreError, match=r"at migration none.*kdpo db upgrade"):
        connect(empty_url).check()


def test_check_refuses_an_old_revision(empty_url: str, connect: Connect) -> None:
    database = connect(empty_url)
    database.upgrade("0001")

    with pytest.raises(StoreError, match=r"at migration 0001.*kdpo db upgrade"):
        database.check()


def test_check_refuses_a_database_of_a_newer_program(database: Database) -> None:
    with database.begin() as tx:
        tx.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreError, match=r"at migration 9999.*newer kdpo-daemon"):
        database.check()


def test_upgrades_at_once_all_succeed(empty_url: str, connect: Connect) -> None:
    program = (
        "import sys; from kdpo_daemon.store.db import Database; Database(sys.argv[1]).upgrade()"
    )
    command = [sys.executable, "-c", program, empty_url]

    upgrades = [subprocess.Popen(command) for _ in range(3)]

    assert [one.wait(timeout=60) for one in upgrades] == [0, 0, 0]
    connect(empty_url).check()


def test_importing_the_store_does_not_import_torch() -> None:
    program = (
        "import sys; from kdpo_daemon.store import "
        "adapters, audit, batches, claims, deployments, facts, feeds, leases, probes; "
        "sys.exit('torch' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "kdpo.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)

    with pytest.raises(StoreError, match=r"kdpo\.db: file is not a database\. .*backup"):
        connect(f"sqlite:///{path}").check()


def test_a_directory_that_cannot_be_made_is_a_store_error(
    tmp_path: Path, connect: Connect
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match=r"file/a: cannot be made: .*Make it"):
        connect(f"sqlite:///{tmp_path / 'file' / 'a' / 'kdpo.db'}").revision()


def test_an_error_of_the_block_itself_is_left_as_it_is(database: Database) -> None:
    with pytest.raises(FileNotFoundError), database.begin():
        raise FileNotFoundError("not the database's")


def test_the_directory_of_a_new_file_is_made(tmp_path: Path, connect: Connect) -> None:
    assert connect(f"sqlite:///{tmp_path / 'a' / 'b' / 'kdpo.db'}").revision() is None


def test_a_server_that_does_not_answer_is_a_store_error(tmp_path: Path, connect: Connect) -> None:
    with pytest.raises(StoreError, match="Check that the database runs"):
        connect(f"postgresql://kdpo:secret@/kdpo?host={tmp_path}").check()


def test_a_password_is_never_shown() -> None:
    assert "secret" not in Database("postgresql://kdpo:secret@localhost/kdpo").name


@pytest.mark.parametrize(
    "url", ["mysql://localhost/kdpo", "kdpo.db", "", "sqlite://", "sqlite:///:memory:"]
)
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Database(url)


def test_a_sqlite_connection_is_set_up_as_documented(tmp_path: Path, connect: Connect) -> None:
    with connect(f"sqlite:///{tmp_path / 'kdpo.db'}").begin() as tx:
        ask = tx.connection().exec_driver_sql
        names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")

        assert [ask(f"PRAGMA {name}").scalar_one() for name in names] == ["wal", 1, 5000, 1]
