"""Let a fact be revoked: it ends, gives its slot back, and no later version teaches it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATUSES = (
    "pending",
    "known",
    "planned",
    "live",
    "quarantined",
    "superseded",
    "rolled_back",
)


def upgrade() -> None:
    op.drop_index("ix_fact_standing", "fact")
    _allow(*STATUSES, "revoked")
    _index_standing("status NOT IN ('superseded', 'revoked')")


def downgrade() -> None:
    op.drop_index("ix_fact_standing", "fact")
    op.execute("UPDATE fact SET status = 'superseded' WHERE status = 'revoked'")
    _allow(*STATUSES)
    _index_standing("status <> 'superseded'")


def _allow(*statuses: str) -> None:
    """Let the column have these values.  SQLite makes the table anew, under the view."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    view = _take_down_view() if sqlite else ""
    with op.batch_alter_table("fact") as fact:
        if not sqlite:  # which forgets the old constraint with the old table
            fact.drop_constraint(op.f("ck_fact_status"), type_="check")
        allowed = ", ".join(f"'{one}'" for one in statuses)
        fact.create_check_constraint(op.f("ck_fact_status"), f"status IN ({allowed})")
    if view:
        op.execute(view)


def _take_down_view() -> str:
    """Drop the auditors' view; give the SQL that makes it again, as it was."""
    told = sa.text("SELECT sql FROM sqlite_master WHERE name = 'applied_edits'")
    view = str(op.get_bind().execute(told).scalar_one())
    op.execute("DROP VIEW applied_edits")
    return view


def _index_standing(standing: str) -> None:
    op.create_index(
        "ix_fact_standing",
        "fact",
        ["subject_key", "relation", "object_key"],
        unique=True,
        sqlite_where=sa.text(standing),
        postgresql_where=sa.text(standing),
    )
