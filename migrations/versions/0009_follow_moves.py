"""Remember where a feed has moved for good, and how often it changes."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew under the view that reads it.
    op.add_column("feed", sa.Column("moved_to", sa.Text(), nullable=True))
    op.add_column("feed", sa.Column("interval_s", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("feed", "interval_s")
    op.drop_column("feed", "moved_to")
