from tests.databases import (
    connect,
    database,
    database_url,
    empty_url,
    migrated_postgres,
    migrated_sqlite,
    postgres,
)

__all__ = [
    "connect",
    "database",
    "database_url",
    "empty_url",
    "migrated_postgres",
    "migrated_sqlite",
    "postgres",
]
