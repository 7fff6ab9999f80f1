"""Give feeds a kind with its options, and remember what was read last of each of their URLs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew under the view that reads it.
    op.add_column("feed", sa.Column("kind", sa.String(), nullable=False, server_default="feed"))
    op.add_column("feed", sa.Column("options", JSON, nullable=False, server_default="{}"))
    op.create_table(
        "page",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("feed_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("last_modified", sa.Text(), nullable=True),
        sa.Column("values", JSON, nullable=False),
        sa.ForeignKeyConstraint(["feed_id"], ["feed.id"], name="fk_page_feed_id_feed"),
        sa.PrimaryKeyConstraint("id", name="pk_page"),
        sa.UniqueConstraint("feed_id", "url", name="uq_page_feed_id_url"),
    )


def downgrade() -> None:
    op.drop_table("page")
    op.drop_column("feed", "options")
    op.drop_column("feed", "kind")
