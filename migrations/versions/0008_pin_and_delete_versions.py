"""Let a deployment be pinned, and an adapter's files be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "deployment", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    when = sa.DateTime(timezone=True)
    op.add_column("adapter", sa.Column("unused_since", when, nullable=True))
    op.add_column("adapter", sa.Column("deleted_at", when, nullable=True))


def downgrade() -> None:
    op.drop_column("adapter", "deleted_at")
    op.drop_column("adapter", "unused_since")
    op.drop_column("deployment", "pinned")
