"""Create the tables, and the triggers that keep the audit log append-only."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
TABLES = (
    "feed",
    "document",
    "entry",
    "claim",
    "fact",
    "probe",
    "batch",
    "pair",
    "keep_prompt",
    "adapter",
    "adapter_fact",
    "answer",
    "score",
    "verdict",
    "deployment",
    "replica",
    "served",
    "audit",
    "lease",
)


def one_of(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def upgrade() -> None:
    create_feeds()
    create_facts()
    create_batches()
    create_adapters()
    create_servers()
    create_books()
    guard_audit()


def downgrade() -> None:
    with op.batch_alter_table("batch") as batch:
        batch.drop_constraint("fk_batch_parent_adapter_id_adapter", type_="foreignkey")
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_audit_change()")


def create_feeds() -> None:
    op.create_table(
        "feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("trust", one_of("trust", "auto", "manual"), nullable=False),
        sa.Column("every_s", sa.Integer(), nullable=False),
        sa.Column("allow_private", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("last_modified", sa.Text(), nullable=True),
        sa.Column("next_poll_at", TIME, nullable=False),
        sa.Column("last_polled_at", TIME, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed")),
        sa.UniqueConstraint("name", name=op.f("uq_feed_name")),
    )
    op.create_table(
        "document",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("feed_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("fetched_at", TIME, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["feed_id"], ["feed.id"], name=op.f("fk_document_feed_id_feed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document")),
    )
    op.create_index(op.f("ix_document_feed_id_sha256"), "document", ["feed_id", "sha256"])
    op.create_table(
        "entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.Integer(), nullable=False),
        sa.Column("feed_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("published_at", TIME, nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("fact", JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], name=op.f("fk_entry_document_id_document")
        ),
        sa.ForeignKeyConstraint(["feed_id"], ["feed.id"], name=op.f("fk_entry_feed_id_feed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entry")),
    )
    op.create_index(op.f("ix_entry_feed_id_key"), "entry", ["feed_id", "key"])
    op.create_index(op.f("ix_entry_document_id"), "entry", ["document_id"])


def create_facts() -> None:
    op.create_table(
        "claim",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("old_object", sa.Text(), nullable=False),
        sa.Column("valid_from", TIME, nullable=True),
        sa.Column("quote", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column(
            "ruling", one_of("ruling", "open", "accepted", "held", "rejected"), nullable=False
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", TIME, nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("approved_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name=op.f("fk_claim_entry_id_entry")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claim")),
    )
    op.create_index(op.f("ix_claim_entry_id"), "claim", ["entry_id"])
    op.create_index(op.f("ix_claim_ruling"), "claim", ["ruling"])
    op.create_table(
        "fact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("claim_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("old_object", sa.Text(), nullable=False),
        sa.Column("valid_from", TIME, nullable=True),
        sa.Column("observed_at", TIME, nullable=False),
        sa.Column(
            "status",
            one_of(
                "status",
                "pending",
                "known",
                "planned",
                "live",
                "quarantined",
                "superseded",
                "rolled_back",
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", TIME, nullable=True),
        sa.Column("superseded_by", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["claim_id"], ["claim.id"], name=op.f("fk_fact_claim_id_claim")),
        sa.ForeignKeyConstraint(
            ["superseded_by"], ["fact.id"], name=op.f("fk_fact_superseded_by_fact")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fact")),
        sa.UniqueConstraint("claim_id", name=op.f("uq_fact_claim_id")),
    )
    op.create_index(
        "ix_fact_standing",
        "fact",
        ["subject_key", "relation"],
        unique=True,
        sqlite_where=sa.text("status <> 'superseded'"),
        postgresql_where=sa.text("status <> 'superseded'"),
    )
    op.create_index(op.f("ix_fact_status"), "fact", ["status"])


def create_batches() -> None:
    op.create_table(
        "probe",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=True),
        sa.Column(
            "kind",
            one_of("kind", "edit", "paraphrase", "same_subject", "same_relation", "general"),
            nullable=False,
        ),
        sa.Column("form", one_of("form", "completion", "chat"), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("expected", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["fact_id"], ["fact.id"], name=op.f("fk_probe_fact_id_fact")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe")),
        sa.UniqueConstraint("digest", name=op.f("uq_probe_digest")),
    )
    op.create_index(op.f("ix_probe_fact_id"), "probe", ["fact_id"])
    op.create_table(
        "batch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            one_of("status", "planned", "trained", "promoted", "rejected", "failed"),
            nullable=False,
        ),
        sa.Column("parent_adapter_id", sa.Integer(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
    )
    op.create_table(
        "pair",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.Column("form", one_of("form", "completion", "chat"), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("prompt_ids", JSON, nullable=False),
        sa.Column("chosen_ids", JSON, nullable=False),
        sa.Column("rejected_ids", JSON, nullable=False),
        sa.Column("old_ids", JSON, nullable=False),
        sa.Column("margin", sa.Float(), nullable=False),
        sa.Column("replay", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_pair_batch_id_batch")),
        sa.ForeignKeyConstraint(["fact_id"], ["fact.id"], name=op.f("fk_pair_fact_id_fact")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pair")),
    )
    op.create_index(op.f("ix_pair_batch_id"), "pair", ["batch_id"])
    op.create_index(op.f("ix_pair_fact_id"), "pair", ["fact_id"])
    op.create_table(
        "keep_prompt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("form", one_of("form", "completion", "chat"), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("ids", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.id"], name=op.f("fk_keep_prompt_batch_id_batch")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keep_prompt")),
    )
    op.create_index(op.f("ix_keep_prompt_batch_id"), "keep_prompt", ["batch_id"])


def create_adapters() -> None:
    op.create_table(
        "adapter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=True),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("manifest", JSON, nullable=False),
        sa.Column("manifest_sha256", sa.String(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.id"], name=op.f("fk_adapter_batch_id_batch")
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["adapter.id"], name=op.f("fk_adapter_parent_id_adapter")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapter")),
        sa.UniqueConstraint("batch_id", name=op.f("uq_adapter_batch_id")),
        sa.UniqueConstraint("name", name=op.f("uq_adapter_name")),
    )
    op.create_table(
        "adapter_fact",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("fact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_adapter_fact_adapter_id_adapter")
        ),
        sa.ForeignKeyConstraint(
            ["fact_id"], ["fact.id"], name=op.f("fk_adapter_fact_fact_id_fact")
        ),
        sa.PrimaryKeyConstraint("adapter_id", "fact_id", name=op.f("pk_adapter_fact")),
    )
    op.create_index(op.f("ix_adapter_fact_fact_id"), "adapter_fact", ["fact_id"])
    op.create_table(
        "answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("probe_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=True),
        sa.Column("replica", sa.String(), nullable=False),
        sa.Column(
            "purpose", one_of("purpose", "prior", "base", "canary", "served"), nullable=False
        ),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_answer_adapter_id_adapter")
        ),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_answer_probe_id_probe")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer")),
    )
    op.create_index(op.f("ix_answer_probe_id_adapter_id"), "answer", ["probe_id", "adapter_id"])
    op.create_table(
        "score",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_score_adapter_id_adapter")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score")),
        sa.UniqueConstraint("adapter_id", "name", name=op.f("uq_score_adapter_id_name")),
    )
    op.create_table(
        "verdict",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("ruling", one_of("ruling", "promote", "reject"), nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("policy", JSON, nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_verdict_adapter_id_adapter")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdict")),
        sa.UniqueConstraint("adapter_id", name=op.f("uq_verdict_adapter_id")),
    )
    # Batch and adapter name each other, so this key comes when both are there.
    with op.batch_alter_table("batch") as batch:
        batch.create_foreign_key(
            op.f("fk_batch_parent_adapter_id_adapter"), "adapter", ["parent_adapter_id"], ["id"]
        )


def create_servers() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fencing", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_deployment_adapter_id_adapter")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    op.create_index(op.f("ix_deployment_adapter_id"), "deployment", ["adapter_id"])
    op.create_table(
        "replica",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column(
            "state",
            one_of("state", "absent", "loading", "canary", "live", "draining", "failed"),
            nullable=False,
        ),
        sa.Column("deployment_id", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("checked_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_replica_deployment_id_deployment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
        sa.UniqueConstraint("name", name=op.f("uq_replica_name")),
    )
    op.create_table(
        "served",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("replica", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("live_from", TIME, nullable=False),
        sa.Column("live_until", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_served_adapter_id_adapter")
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_served_deployment_id_deployment")
        ),
        sa.ForeignKeyConstraint(
            ["replica"], ["replica.name"], name=op.f("fk_served_replica_replica")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_served")),
    )
    op.create_index(op.f("ix_served_adapter_id"), "served", ["adapter_id"])
    op.create_index(
        "ix_served_open",
        "served",
        ["replica"],
        unique=True,
        sqlite_where=sa.text("live_until IS NULL"),
        postgresql_where=sa.text("live_until IS NULL"),
    )


def create_books() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("fencing", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def guard_audit() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """
            CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'the audit log is append-only'
                    USING ERRCODE = 'integrity_constraint_violation';
            END $$
            """
        )
        op.execute(
            """
            CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
            """
        )
        return
    for verb in ("update", "delete"):
        op.execute(
            f"""
            CREATE TRIGGER audit_no_{verb} BEFORE {verb.upper()} ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
            """
        )
