"""Let changes wait until they have stood, follow pages that others name, keep other names."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # Not in batch mode: SQLite would make the tables anew under the view that reads them.
    op.add_column("page", sa.Column("before", sa.Text(), nullable=False, server_default=""))
    wanted = sa.Column("wanted", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("page", wanted)
    op.add_column("page", sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "waiting",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("page_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("stands_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["page_id"], ["page.id"], name="fk_waiting_page_id_page"),
        sa.PrimaryKeyConstraint("id", name="pk_waiting"),
        sa.UniqueConstraint("page_id", "key", name="uq_waiting_page_id_key"),
    )
    for name in ("aliases", "old_aliases"):
        op.add_column("claim", sa.Column(name, JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("claim", "old_aliases")
    op.drop_column("claim", "aliases")
    op.drop_table("waiting")
    op.drop_column("page", "looked_at")
    op.drop_column("page", "wanted")
    op.drop_column("page", "before")
