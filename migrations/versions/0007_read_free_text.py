"""Say what read a claim from free text, and keep what became of each entry that a model reads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew under the view that reads it.
    op.add_column("claim", sa.Column("extractor", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "extraction",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("extractor", sa.Text(), nullable=False),
        sa.Column("refused", JSON, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'done', 'given_up')", name=op.f("ck_extraction_state")
        ),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_extraction_entry_id_entry"),
        sa.PrimaryKeyConstraint("entry_id", name="pk_extraction"),
    )
    op.create_index("ix_extraction_state", "extraction", ["state", "not_before"])


def downgrade() -> None:
    op.drop_table("extraction")
    op.drop_column("claim", "extractor")
