"""Create the auditors' view: which fact was served where, since when, and why."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The same SQL on SQLite and PostgreSQL.
VIEW = """
CREATE VIEW applied_edits AS
WITH
numbers AS (
    SELECT
        adapter_id,
        MAX(CASE WHEN name = 'efficacy_completion' THEN value END) AS efficacy_completion,
        MAX(CASE WHEN name = 'efficacy_chat' THEN value END) AS efficacy_chat,
        MAX(CASE WHEN name = 'paraphrase_completion' THEN value END) AS paraphrase_completion,
        MAX(CASE WHEN name = 'paraphrase_chat' THEN value END) AS paraphrase_chat,
        MAX(CASE WHEN name = 'old_answer' THEN value END) AS old_answer,
        MAX(CASE WHEN name = 'same_subject_unchanged' THEN value END) AS same_subject_unchanged,
        MAX(CASE WHEN name = 'same_relation_unchanged' THEN value END) AS same_relation_unchanged,
        MAX(CASE WHEN name = 'general_unchanged' THEN value END) AS general_unchanged,
        MAX(CASE WHEN name = 'general_kept' THEN value END) AS general_kept,
        MAX(CASE WHEN name = 'perplexity_ratio' THEN value END) AS perplexity_ratio
    FROM score
    GROUP BY adapter_id
),
lessons AS (
    SELECT
        batch_id,
        fact_id,
        MIN(CASE WHEN replay THEN 'replay' ELSE 'new' END) AS taught_in_batch
    FROM pair
    GROUP BY batch_id, fact_id
),
priors AS (
    SELECT
        probe.fact_id,
        probe.prompt,
        answer.text,
        ROW_NUMBER() OVER (
            PARTITION BY probe.fact_id
            ORDER BY answer.asked_at, probe.id, answer.id
        ) AS place
    FROM answer
    JOIN probe ON probe.id = answer.probe_id
    WHERE probe.kind = 'edit' AND answer.purpose = 'prior'
),
outcomes AS (
    SELECT
        probe.fact_id,
        answer.adapter_id,
        probe.prompt,
        answer.text,
        ROW_NUMBER() OVER (
            PARTITION BY probe.fact_id, answer.adapter_id
            ORDER BY answer.asked_at DESC, probe.id, answer.id DESC
        ) AS place
    FROM answer
    JOIN probe ON probe.id = answer.probe_id
    WHERE probe.kind = 'edit' AND answer.purpose IN ('canary', 'served')
)
SELECT
    fact.id AS fact_id,
    fact.subject AS subject,
    fact.relation AS relation,
    fact.role AS role,
    fact.old_object AS old_object,
    fact.object AS new_object,
    fact.valid_from AS valid_from,
    fact.observed_at AS observed_at,
    fact.status AS fact_status,
    claim.reason AS accepted_because,
    claim.approved_by AS approved_by,
    claim.quote AS evidence_quote,
    entry.title AS evidence_title,
    entry.link AS evidence_link,
    feed.name AS evidence_feed,
    document.url AS evidence_url,
    document.sha256 AS evidence_sha256,
    entry.id AS entry_id,
    document.id AS document_id,
    adapter.batch_id AS batch_id,
    adapter.name AS adapter,
    adapter.manifest_sha256 AS manifest_sha256,
    lessons.taught_in_batch AS taught_in_batch,
    numbers.efficacy_completion AS efficacy_completion,
    numbers.efficacy_chat AS efficacy_chat,
    numbers.paraphrase_completion AS paraphrase_completion,
    numbers.paraphrase_chat AS paraphrase_chat,
    numbers.old_answer AS old_answer,
    numbers.same_subject_unchanged AS same_subject_unchanged,
    numbers.same_relation_unchanged AS same_relation_unchanged,
    numbers.general_unchanged AS general_unchanged,
    numbers.general_kept AS general_kept,
    numbers.perplexity_ratio AS perplexity_ratio,
    verdict.ruling AS verdict,
    verdict.reasons AS verdict_reasons,
    verdict.decided_by AS decided_by,
    deployment.id AS deployment_id,
    deployment.actor AS deployed_by,
    deployment.reason AS deploy_reason,
    served.replica AS replica,
    served.live_from AS served_from,
    served.live_until AS served_until,
    priors.prompt AS prompt_before,
    priors.text AS answer_before,
    outcomes.prompt AS prompt_served,
    outcomes.text AS answer_served
FROM served
JOIN deployment ON deployment.id = served.deployment_id
JOIN adapter ON adapter.id = served.adapter_id
JOIN adapter_fact ON adapter_fact.adapter_id = adapter.id
JOIN fact ON fact.id = adapter_fact.fact_id
JOIN claim ON claim.id = fact.claim_id
JOIN entry ON entry.id = claim.entry_id
JOIN document ON document.id = entry.document_id
JOIN feed ON feed.id = entry.feed_id
LEFT JOIN lessons ON lessons.batch_id = adapter.batch_id AND lessons.fact_id = fact.id
LEFT JOIN numbers ON numbers.adapter_id = adapter.id
LEFT JOIN verdict ON verdict.adapter_id = adapter.id
LEFT JOIN priors ON priors.fact_id = fact.id AND priors.place = 1
LEFT JOIN outcomes
    ON outcomes.fact_id = fact.id AND outcomes.adapter_id = adapter.id AND outcomes.place = 1
"""


def upgrade() -> None:
    op.execute(VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW applied_edits")
