"""Find what was said about a slot by an index, and let a slot have several values."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STANDING = sa.text("status <> 'superseded'")


def upgrade() -> None:
    op.add_column("claim", sa.Column("subject_key", sa.Text(), nullable=False, server_default=""))
    op.add_column("claim", sa.Column("held_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("fact", sa.Column("object_key", sa.Text(), nullable=False, server_default=""))
    _fill()
    op.create_index("ix_claim_subject_key_relation", "claim", ["subject_key", "relation"])
    op.create_index("ix_claim_ruling_decided_at", "claim", ["ruling", "decided_at"])
    op.create_index("ix_fact_superseded_by", "fact", ["superseded_by"])
    _index_standing("subject_key", "relation", "object_key")


def downgrade() -> None:
    # one fact can stand in a slot again: the newest does
    op.execute(
        "UPDATE fact SET status = 'superseded' WHERE status <> 'superseded' AND EXISTS ("
        " SELECT 1 FROM fact AS newer WHERE newer.subject_key = fact.subject_key"
        " AND newer.relation = fact.relation AND newer.status <> 'superseded'"
        " AND newer.id > fact.id)"
    )
    _index_standing("subject_key", "relation")
    op.drop_index("ix_fact_superseded_by", "fact")
    op.drop_index("ix_claim_ruling_decided_at", "claim")
    op.drop_index("ix_claim_subject_key_relation", "claim")
    op.drop_column("fact", "object_key")
    op.drop_column("claim", "held_by")
    op.drop_column("claim", "subject_key")


def _index_standing(*columns: str) -> None:
    op.drop_index("ix_fact_standing", "fact")
    op.create_index(
        "ix_fact_standing",
        "fact",
        list(columns),
        unique=True,
        sqlite_where=STANDING,
        postgresql_where=STANDING,
    )


def _fill() -> None:
    """Give each claim the key of its subject, as the program wrote it at this revision."""
    claim = sa.table("claim", sa.column("id"), sa.column("subject"), sa.column("subject_key"))
    connection = op.get_bind()
    update = (
        sa.update(claim)
        .where(claim.c.id == sa.bindparam("of"))
        .values(subject_key=sa.bindparam("to"))
    )
    last = 0
    while rows := connection.execute(
        sa.select(claim.c.id, claim.c.subject)
        .where(claim.c.id > last)
        .order_by(claim.c.id)
        .limit(10_000)
    ).all():
        connection.execute(update, [{"of": row.id, "to": _key(row.subject)} for row in rows])
        last = rows[-1].id


def _key(subject: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", subject).casefold().split())
