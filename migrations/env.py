"""Runs the migrations on the connection of `Database.upgrade`.

While developing: `alembic -x url=sqlite:///dev.db revision --autogenerate -m "add noun"`.
"""

from typing import Literal

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection

from kdpo_daemon.store.tables import FeedRow

# A migration must do the same in years: it names no type of ours.
PLAIN = {"Utc": "sa.DateTime(timezone=True)", "Words": "sa.Text()", "AutoString": "sa.String()"}


def render(kind: str, column: object, _: object) -> str | Literal[False]:
    return PLAIN.get(type(column).__name__, False) if kind == "type" else False


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=FeedRow.metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=render,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as own:
        migrate(own)
