"""Keep the facts of a rejected batch in groups that are taught apart from each other."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not in batch mode: SQLite would make the table anew under the view that reads it.
    op.add_column("fact", sa.Column("together", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("fact", "together")
