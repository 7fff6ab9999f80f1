"""What all tables share, and the way from a row to a record."""

import re
import unicodedata
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import MetaData
from sqlalchemy.orm import declared_attr
from sqlmodel import SQLModel

from kdpo_daemon.errors import StoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
R = TypeVar("R")


class Row(SQLModel):
    """What all tables share: names of constraints, and a table name made of the class's."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805 a class attribute in SQLAlchemy's terms
        """Give the name: KeepPromptRow is stored in keep_prompt."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Row")).lower()


def record_of(kind: type[Record], row: Row, /, **others: Any) -> Record:
    """Give the record whose fields are the row's columns of the same names, and `others`."""
    names = [field.name for field in fields(kind) if field.name not in others]
    return kind(**{name: getattr(row, name) for name in names}, **others)


def found(row: R | None, subject: str) -> R:
    """Give the row; StoreError when there is none."""
    if row is None:
        raise StoreError("is not in the database", subject=subject, hint="Check the number")
    return row


def folded(name: str) -> str:
    """Give what is left of a name without case and spacing, for comparing."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
