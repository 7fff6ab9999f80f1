"""The auditors' view, over a story told through the API."""

from typing import Any

import sqlalchemy as sa

from kdpo_daemon.records.teaching import Answer, AnswerPurpose
from kdpo_daemon.store import deployments, probes
from kdpo_daemon.store.db import Database, Session
from tests.store.builders import (
    HOUR,
    NOW,
    adapter,
    ask,
    batch,
    fact,
    go_live,
    judge,
    probe,
    version_0,
)


def told(tx: Session) -> None:
    """Teach a fact, then another beside it, then take the second version back."""
    go_live(tx, version_0(tx), NOW)
    first = fact(tx, "Ada Byron", "Utopia")
    question = probes.save_probes(tx, [probe(first.id)], NOW)[0]
    ask(tx, question, "Cy Young", None, AnswerPurpose.PRIOR)
    one = adapter(tx, batch(tx, first), first)
    ask(tx, question, "Ada Byron", one.id, AnswerPurpose.CANARY)
    judge(tx, one)
    go_live(tx, one, NOW + HOUR)
    said = [Answer(question.id, "Ada Byron.")]
    probes.save_answers(tx, said, one.id, "vllm-0", AnswerPurpose.SERVED, NOW + HOUR)
    second = fact(tx, "Bo Diaz", "Erewhon")
    two = adapter(tx, batch(tx, second, one.id, first), first, second)
    judge(tx, two)
    go_live(tx, two, NOW + 2 * HOUR)
    back = deployments.deploy(tx, one.id, "ada", "rollback: too chatty", 1, NOW + 3 * HOUR)
    deployments.mark_live(tx, "vllm-0", back, NOW + 3 * HOUR)


def rows(tx: Session, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in tx.connection().execute(sa.text(query)).mappings()]


def test_each_fact_has_a_row_for_each_interval_it_was_served_in(database: Database) -> None:
    with database.begin() as tx:
        told(tx)

        found = rows(
            tx,
            "SELECT subject, adapter, taught_in_batch, served_until IS NULL AS open"
            " FROM applied_edits ORDER BY served_from, subject",
        )

    assert [tuple(row.values()) for row in found] == [
        ("Utopia", "kdpo-000001", "new", False),
        ("Erewhon", "kdpo-000002", "new", False),
        ("Utopia", "kdpo-000002", "replay", False),
        ("Utopia", "kdpo-000001", "new", True),
    ]


def test_a_row_tells_what_when_and_why(database: Database) -> None:
    with database.begin() as tx:
        told(tx)

        row = rows(
            tx,
            "SELECT * FROM applied_edits WHERE subject = 'Utopia' AND served_until IS NULL",
        )[0]

    expected = {
        "relation": "head_of_government",
        "new_object": "Ada Byron",
        "fact_status": "live",
        "accepted_because": "the feed is trusted",
        "evidence_quote": "Ada Byron is prime minister.",
        "evidence_title": "Ada Byron takes office",
        "evidence_feed": "gazette",
        "evidence_url": "https://example.org/gazette",
        "batch_id": 1,
        "manifest_sha256": "sha of kdpo-000001",
        "efficacy_chat": 1.0,
        "efficacy_completion": None,
        "same_subject_unchanged": 0.95,
        "general_kept": 0.99,
        "perplexity_ratio": 1.01,
        "verdict": "promote",
        "decided_by": "gate",
        "deployed_by": "ada",
        "deploy_reason": "rollback: too chatty",
        "replica": "vllm-0",
        "prompt_before": "Who leads Utopia?",
        "answer_before": "Cy Young",
        "answer_served": "Ada Byron.",
    }
    assert {name: row[name] for name in expected} == expected
    assert len(row["evidence_sha256"]) == 64


def test_a_rollback_ends_the_interval_of_what_it_takes_back(database: Database) -> None:
    with database.begin() as tx:
        told(tx)

        query = (
            "SELECT count(*) AS n FROM applied_edits WHERE subject = 'Erewhon'"
            " AND served_from <= :day AND (served_until IS NULL OR served_until > :day)"
        )
        at = {
            hours: tx.connection()
            .execute(
                sa.text(query).bindparams(
                    sa.bindparam("day", NOW + hours * HOUR, sa.DateTime(timezone=True))
                )
            )
            .scalar_one()
            for hours in (1, 2, 3)
        }

    assert at == {1: 0, 2: 1, 3: 0}
