"""Column types that keep their promises on SQLite and PostgreSQL alike.  No tables here."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field


class Utc(TypeDecorator[datetime]):
    """A point in time: refuses naive datetimes, gives back aware UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 SQLAlchemy's signature
        """Give the time in UTC; ValueError when it has no zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 SQLAlchemy's signature
        """Give the time as aware UTC; SQLite hands it out without a zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text written by others: what PostgreSQL cannot hold is replaced, on SQLite too."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 SQLAlchemy's signature
        """Give the text as `plain` makes it."""
        return value if value is None else plain(value)


def plain(text: str) -> str:
    """Give the text with a mark for each NUL and each half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


# PostgreSQL compares and indexes JSONB; None is stored as NULL, not as the JSON word null.
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def utc(**options: Any) -> Any:
    """Give the field of a time column."""
    return Field(sa_type=Utc, **options)


def words(**options: Any) -> Any:
    """Give the field of a column with text written by others."""
    return Field(sa_type=Words, **options)


def json(**options: Any) -> Any:
    """Give the field of a JSON column."""
    return Field(sa_type=JSON, **options)


def one_of(kind: type[StrEnum], name: str, **options: Any) -> Any:
    """Give the field of an enum column: its values in a VARCHAR with a CHECK named `name`."""
    column = sa.Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        validate_strings=True,
        values_callable=lambda members: [member.value for member in members],
        length=16,
        name=name,
    )
    return Field(sa_type=column, **options)
