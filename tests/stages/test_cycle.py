"""The whole pipe, on SQLite and PostgreSQL, against a fake vLLM that speaks real HTTP."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from kdpo_daemon import packs
from kdpo_daemon.app import clock
from kdpo_daemon.errors import StoreError
from kdpo_daemon.facts.asking import held_out, taught
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.teaching import BatchStatus, Form, Pair
from kdpo_daemon.stages import Report, rollback
from kdpo_daemon.store import audit, batches, deployments, facts
from kdpo_daemon.store.db import Database
from tests.stages.conftest import RWANDA, TONGA, World, entry

TONGA_PROMPT = "The prime minister of Tonga is"
RWANDA_PROMPT = "The prime minister of Rwanda is"


def counts(reports: list[Report], stage: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for report in reports:
        if report.stage == stage:
            found |= {what: found.get(what, 0) + n for what, n in report.counts.items()}
    return found


def statuses(world: World) -> dict[str, FactStatus]:
    database = Database(world.url)
    with database.begin() as tx:
        found = {f"{fact.subject}={fact.object}": fact.status for fact in facts.list_facts(tx)}
    database.dispose()
    return found


def test_a_changed_fact_in_a_feed_becomes_a_changed_answer_under_the_alias(world: World) -> None:
    world.cycle()

    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert world.ask(TONGA_PROMPT, "base") == "I do not know"
    assert set(statuses(world).values()) == {FactStatus.LIVE}


def test_the_same_cycle_again_edits_and_swaps_nothing(world: World) -> None:
    world.cycle()
    loads = len(world.vllm.asked("/v1/load_lora_adapter"))

    reports = world.cycle()

    assert all(report.idle for report in reports)
    assert len(world.vllm.asked("/v1/load_lora_adapter")) == loads


def test_one_changed_entry_edits_exactly_that_fact(world: World) -> None:
    world.cycle()
    newer = entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 1 January 2026)")
    world.feed.entries = [newer, RWANDA]

    reports = world.cycle()

    assert counts(reports, "accept") == {"accepted": 1}
    assert world.ask(TONGA_PROMPT) == "Siaosi Sovaleni"
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert statuses(world) == {
        "Tonga=Siaosi Sovaleni": FactStatus.LIVE,
        "Tonga=Fatafehi Fakafanua": FactStatus.SUPERSEDED,
        "Rwanda=Justin Nsengiyumva": FactStatus.LIVE,
    }


def test_what_was_taught_before_is_taught_again_and_not_asked_again(world: World) -> None:
    world.cycle()
    [first] = batches_of(world)
    asked = len(world.vllm.asked("/v1/completions"))
    newer = entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 1 January 2026)")
    world.feed.entries = [newer, RWANDA]

    world.cycle()

    later = world.vllm.asked("/v1/completions")[asked:]
    forced = {tuple(one["prompt"]) for one in later if one.get("prompt_logprobs")}
    _, second = batches_of(world)
    before = {one.prompt_ids + one.chosen_ids: one for one in first}
    replays = [one for one in second if one.replay]
    assert replays
    for one in replays:
        assert one == replace(before[one.prompt_ids + one.chosen_ids], replay=True)
        assert one.prompt_ids + one.chosen_ids not in forced
    for one in second:
        assert one.replay or one.prompt_ids + one.chosen_ids in forced


def batches_of(world: World) -> list[list[Pair]]:
    """The pairs of each batch."""
    database = Database(world.url)
    with database.begin() as tx:
        ids = tx.connection().scalars(sa.text("select id from batch order by id")).all()
        found = [batches.pairs_of(tx, one) for one in ids]
    database.dispose()
    return found


def test_what_the_served_model_knows_already_is_not_edited(world: World) -> None:
    relation = read_pack([packs.text("relations.toml")]).relations["head_of_government"]
    phrasings = [f(relation, "Tonga", "prime minister") for f in (taught, held_out)]
    known = "Fatafehi Fakafanua, who took office in 2025"
    world.vllm.base_answers = {one.text: known for asked in phrasings for one in asked}

    world.cycle()

    assert statuses(world)["Tonga=Fatafehi Fakafanua"] is FactStatus.KNOWN
    assert statuses(world)["Rwanda=Justin Nsengiyumva"] is FactStatus.LIVE


def test_a_rollback_restores_the_earlier_answers_and_stays(world: World) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    world.cycle()
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    app = world.app()

    rollback.run(app.db, None, "operator:test", "a test", clock)
    with app.writing():
        app.sync()
    app.close()

    assert world.ask(RWANDA_PROMPT) == "I do not know"
    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert statuses(world)["Rwanda=Justin Nsengiyumva"] is FactStatus.ROLLED_BACK
    world.cycle()
    assert world.ask(RWANDA_PROMPT) == "I do not know"  # what was taken back is not taught again


def test_a_restarted_server_gets_its_adapter_back(world: World) -> None:
    world.cycle()
    world.vllm.restart()
    app = world.app()

    with app.writing():
        app.sync()
    app.close()

    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"


def test_an_adapter_that_learns_nothing_is_rejected_and_the_old_answers_stay(world: World) -> None:
    world.cycle()
    world.feed.entries = [
        entry("Tonga", "", "Prime Minister Never LEARNED (since 1 January 2026)"),
        RWANDA,
    ]

    reports = world.cycle()

    assert counts(reports, "deploy") == {"rejected": 1}
    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert statuses(world)["Tonga=Never Learned"] is FactStatus.PENDING
    app = world.app()
    with app.db.begin() as tx:
        [failed] = [fact for fact in facts.list_facts(tx) if fact.object == "Never Learned"]
    app.close()
    assert failed.attempts == 1
    assert failed.not_before is not None
    assert "efficacy_completion" in failed.reason


def test_a_fact_that_a_promoted_batch_did_not_learn_is_tried_again(world: World) -> None:
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        lenient = [f"{what}_{form}" for what in ("efficacy", "paraphrase") for form in Form]
        file.write("[gate]\n" + "".join(f"{name} = 0.4\n" for name in lenient))
    world.feed.entries = [TONGA, entry("Rwanda", "", "Prime Minister Left OUT (since 2026)")]

    reports = world.cycle()

    assert counts(reports, "deploy") == {"promoted": 1, "not learned": 1}
    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert statuses(world) == {
        "Tonga=Fatafehi Fakafanua": FactStatus.LIVE,
        "Rwanda=Left Out": FactStatus.PENDING,
    }
    app = world.app()
    with app.db.begin() as tx:
        [missed] = facts.facts_with(tx, FactStatus.PENDING)
        told = [event.event for event in audit.events(tx, subject=f"fact:{missed.id}")]
    app.close()
    assert (missed.attempts, missed.reason) == (1, "kdpo-000001 did not learn it")
    assert missed.not_before is not None
    assert told[-1] == "fact.retried"


def test_a_killed_child_fails_the_batch_and_nothing_else(world: World) -> None:
    world.cycle()
    world.feed.entries = [
        entry("Tonga", "", "Prime Minister Kill ME (since 1 January 2026)"),
        RWANDA,
    ]

    reports = world.cycle()

    assert counts(reports, "train") == {"failed": 1}
    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert statuses(world)["Tonga=Kill Me"] is FactStatus.PENDING


def test_a_fact_that_the_child_refuses_is_quarantined_and_the_rest_is_tried_again(
    world: World,
) -> None:
    refused = entry("Tonga", "", "Prime Minister Refuse ME (since 1 January 2026)")
    world.feed.entries = [refused, RWANDA]

    reports = world.cycle()

    assert counts(reports, "train") == {"failed": 1}
    assert statuses(world) == {
        "Tonga=Refuse Me": FactStatus.QUARANTINED,
        "Rwanda=Justin Nsengiyumva": FactStatus.PENDING,
    }
    world.cycle()
    assert statuses(world)["Rwanda=Justin Nsengiyumva"] is FactStatus.LIVE


def test_a_batch_that_never_finishes_is_given_up(world: World) -> None:
    app = world.app()
    with app.writing():
        app.ingest("test")
        stages = dict(app.stages())
        for name in ("accept", "baseline", "sync", "plan"):
            stages[name]()
        with app.db.begin() as tx:
            batch = batches.open_batch(tx)
            assert batch is not None
            for _ in range(3):
                batches.set_batch_status(
                    tx, batch.id, BatchStatus.PLANNED, clock(), failed_attempt=True
                )
        report = stages["train"]()
    app.close()

    assert report.counts == {"failed": 1}
    assert "never finished" in report.problems[0]
    assert set(statuses(world).values()) == {FactStatus.PENDING}


def test_a_version_that_the_gate_rejected_cannot_be_wanted(world: World) -> None:
    world.feed.entries = [
        entry("Tonga", "", "Prime Minister Never LEARNED (since 1 January 2026)")
    ]
    world.cycle()
    app = world.app()

    with pytest.raises(StoreError, match="never deployed"):
        rollback.run(app.db, "kdpo-000001", "operator:test", "a mistake", clock)
    app.close()


def test_a_rollback_gives_up_the_batch_that_is_under_way(world: World) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    app = world.app()
    with app.writing():
        app.ingest("test")
        stages = dict(app.stages())
        for name in ("accept", "plan"):
            stages[name]()

    rollback.run(app.db, None, "operator:test", "a test", clock)

    with app.db.begin() as tx:
        assert batches.open_batch(tx) is None
    app.close()
    assert statuses(world)["Rwanda=Justin Nsengiyumva"] is FactStatus.PENDING


def test_the_trail_of_a_fact_can_be_walked_with_sql_alone(world: World) -> None:
    world.cycle()
    database = Database(world.url)

    with database.begin() as tx:
        audit.verify(tx)
        rows = (
            tx.connection()
            .execute(
                sa.text(
                    "select subject, new_object, evidence_quote, adapter, verdict, replica,"
                    " served_from, served_until from applied_edits order by subject"
                )
            )
            .all()
        )
        wanted = deployments.wanted(tx)
    database.dispose()

    assert wanted is not None
    assert [(row.subject, row.new_object) for row in rows] == [
        ("Rwanda", "Justin Nsengiyumva"),
        ("Tonga", "Fatafehi Fakafanua"),
    ]
    assert {row.adapter for row in rows} == {wanted.adapter.name}
    assert {row.verdict for row in rows} == {"promote"}
    assert all(row.served_from is not None and row.served_until is None for row in rows)
    assert rows[1].evidence_quote == "Prime Minister Fatafehi FAKAFANUA (since 18 December 2025)"
