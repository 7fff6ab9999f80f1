"""The engine, short transactions, and the state of the schema.  No tables and no queries here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlmodel import Session

from kdpo_daemon.errors import StoreError

__all__ = ["AUDIT_LOCK", "DEPLOY_LOCK", "LEASE_LOCK", "Database", "Session", "lock"]

# Any two numbers that no other program uses on the same PostgreSQL database.
UPGRADE_LOCK = 0x6B64706F01
AUDIT_LOCK = 0x6B64706F02
LEASE_LOCK = 0x6B64706F03
DEPLOY_LOCK = 0x6B64706F04

SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000")


class Database:
    """One SQLite file (`sqlite:///PATH`) or PostgreSQL database (`postgresql://...`).

    Nothing is opened before the first use.  Errors of the database itself come as StoreError.
    """

    def __init__(self, url: str) -> None:
        self._url = _with_driver(url)
        self.name = self._url.render_as_string(hide_password=True)
        self._engine = _engine(self._url, foreign_keys=True)

    @property
    def dialect(self) -> str:
        """Give `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Give a transaction: committed at the end of the block, undone on any exception.

        Keep it short: on SQLite nobody else writes meanwhile.
        """
        with self._errors(), Session(self._engine, expire_on_commit=False) as tx, tx.begin():
            yield tx

    def revision(self) -> str | None:
        """Give the migration that the database is at; None when it is empty."""
        with self._errors(), self._engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def head(self) -> str:
        """Give the migration that this program needs."""
        head = _scripts().get_current_head()
        if head is None:
            raise StoreError("no migrations found", subject=str(_migrations()))
        return head

    def check(self) -> None:
        """Raise StoreError unless the database is at the migration that this program needs."""
        revision, head = self.revision(), self.head()
        if revision == head:
            return
        known = {script.revision for script in _scripts().walk_revisions()}
        newer = revision is not None and revision not in known
        raise StoreError(
            f"the database is at migration {revision or 'none'}, this program needs {head}",
            subject=self.name,
            hint="Install the newer kdpo-daemon" if newer else "Run `kdpo db upgrade`",
        )

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema to a migration, as one transaction; a second caller waits its turn."""
        self._migrate(command.upgrade, revision)

    def downgrade(self, revision: str) -> None:
        """Take migrations back, down to `revision` ("base" for all): what they added is lost."""
        self._migrate(command.downgrade, revision)

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _migrate(self, verb: Any, revision: str) -> None:
        # SQLite alters a table by making it anew, which must not trip over foreign keys.
        engine = _engine(self._url, foreign_keys=False)
        try:
            with self._errors(), engine.begin() as connection:
                lock(connection, UPGRADE_LOCK)
                config = _config()
                config.attributes["connection"] = connection
                verb(config, revision)
        finally:
            engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
            raise  # our own mistake, not the database's
        except (exc.DBAPIError, exc.TimeoutError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(
                " ".join(str(cause).split()), subject=self.name, hint=_remedy(str(cause))
            ) from error


def lock(connection: Connection | Session, key: int) -> None:
    """Wait until no other transaction holds `key`, and hold it until this one ends.

    On SQLite there is nothing to do: BEGIN IMMEDIATE has let one writer in already.
    """
    bound = connection.connection() if isinstance(connection, Session) else connection
    if bound.dialect.name == "postgresql":
        bound.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _with_driver(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise StoreError(
            "not a database URL",
            subject="database.url",
            hint="Use sqlite:////var/lib/kdpo/kdpo.db or postgresql://user@host/name",
        ) from error
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise StoreError("a database needs a file", subject=url, hint="Use sqlite:///kdpo.db")
        return parsed.set(drivername="sqlite")
    raise StoreError(f"{backend} is not supported", hint="Use sqlite or postgresql")


def _engine(url: URL, *, foreign_keys: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, foreign_keys=foreign_keys)
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        raise StoreError(
            "the PostgreSQL driver is not installed",
            subject=url.render_as_string(hide_password=True),
            hint="Run `pip install kdpo-daemon[postgres]`",
        ) from error


def _sqlite_engine(url: URL, *, foreign_keys: bool) -> Engine:
    engine = sa.create_engine(url)
    pragmas = (*SQLITE_PRAGMAS, f"foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "do_connect")
    def make_directory(*_: object) -> None:
        directory = Path(url.database or "").parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot be made: {error.strerror}",
                subject=str(directory),
                hint="Make it, for the user who runs this, or name another in database.url",
            ) from error

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver would begin too late, and for reading only
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _remedy(cause: str) -> str:
    if "locked" in cause:
        return "Another process is writing; try again"
    if "not a database" in cause or "malformed" in cause:
        return "The file is damaged: put a backup in its place"
    if any(word in cause for word in ("readonly", "read-only", "unable to open", "ermission")):
        return "Check that the file and its directory belong to the user who runs this"
    return "Check that the database runs and that the URL, user and password are right"


def _migrations() -> Path:
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"  # in the wheel; in the source tree they lie beside the package
    return inside if inside.is_dir() else package.parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
