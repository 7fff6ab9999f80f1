"""Probes, answers, batches, adapters: what is put down comes back, and only once."""

import pytest
import sqlalchemy as sa

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Score, Verdict, VerdictRuling
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.records.teaching import Answer, AnswerPurpose, BatchStatus, ProbeKind
from kdpo_daemon.store import adapters, batches, facts, probes
from kdpo_daemon.store.db import Database
from tests.store.builders import (
    HOUR,
    KEEP,
    NOW,
    adapter,
    ask,
    batch,
    fact,
    judge,
    pair,
    probe,
    version_0,
)


def test_probes_are_saved_once_and_given_in_the_order_asked_for(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        general = probe(None, ProbeKind.GENERAL, "What boils at 100 degrees?")
        wanted = [probe(made.id), general, probe(made.id)]

        first = probes.save_probes(tx, wanted, NOW)
        again = probes.save_probes(tx, wanted, NOW + HOUR)

        assert first == again
        assert [one.id for one in first] == [1, 2, 1]
        assert probes.probes_of(tx, [made.id]) == [first[0]]
        assert probes.general_probes(tx) == [first[1]]
        assert first[0].expected == ("Ada Byron",)


def test_very_long_prompts_are_kept_whole(database: Database) -> None:
    text = "".join(chr(0x4E00 + i % 5000) for i in range(20_000))  # does not compress

    with database.begin() as tx:
        saved = probes.save_probes(tx, [probe(None, ProbeKind.GENERAL, text)], NOW)

        assert saved[0].prompt.text == text


def test_the_latest_answer_counts_for_each_model(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        trained = adapter(tx, batch(tx, made), made)
        question = probes.save_probes(tx, [probe(made.id)], NOW)[0]
        ask(tx, question, "Cy", None, AnswerPurpose.BASE)
        ask(tx, question, "Di", trained.id, AnswerPurpose.CANARY)
        later = [Answer(question.id, "Ada")]
        probes.save_answers(tx, later, trained.id, "vllm-0", AnswerPurpose.SERVED, NOW + HOUR)

        assert probes.answers(tx, [question.id], None) == {question.id: "Cy"}
        assert probes.answers(tx, [question.id], trained.id) == {question.id: "Ada"}
        assert probes.answers(tx, [question.id], trained.id, AnswerPurpose.CANARY) == {
            question.id: "Di"
        }
        assert probes.answers(tx, [], None) == {}


def test_an_answer_that_only_repeats_the_latest_is_not_put_down_again(database: Database) -> None:
    with database.begin() as tx:
        question = probes.save_probes(tx, [probe(None, ProbeKind.GENERAL)], NOW)[0]

        for text in ("Cy\x00", "Cy\x00", "Di", "Cy\x00"):
            ask(tx, question, text, None, AnswerPurpose.BASE)

        count = tx.connection().execute(sa.text("SELECT count(*) FROM answer")).scalar_one()
        assert count == 3


def test_a_batch_comes_back_as_it_was_planned(database: Database) -> None:
    with database.begin() as tx:
        taught, replayed = fact(tx, subject="A"), fact(tx, subject="B")
        facts.set_fact_status(tx, [replayed.id], FactStatus.LIVE, "served", NOW)

        made = batch(tx, taught, None, replayed)

        assert made.adapter_name == "kdpo-000001"
        assert batches.open_batch(tx) == made == batches.get_batch(tx, made.id)
        assert batches.pairs_of(tx, made.id) == [
            pair(taught.id),
            pair(replayed.id, replay=True),
        ]
        assert batches.keep_of(tx, made.id) == [KEEP]
        assert facts.get_fact(tx, taught.id).status is FactStatus.PLANNED
        assert facts.get_fact(tx, replayed.id).status is FactStatus.LIVE


def test_planning_the_same_batch_twice_makes_one(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)

        assert batch(tx, made) == batch(tx, made)


@pytest.mark.parametrize(
    "status", [BatchStatus.PROMOTED, BatchStatus.REJECTED, BatchStatus.FAILED]
)
def test_a_finished_batch_is_no_longer_open(database: Database, status: BatchStatus) -> None:
    with database.begin() as tx:
        made = batch(tx, fact(tx))

        batches.set_batch_status(tx, made.id, status, NOW, error="why")

        assert batches.open_batch(tx) is None


def test_each_failed_attempt_of_a_batch_counts(database: Database) -> None:
    with database.begin() as tx:
        made = batch(tx, fact(tx))

        for _ in range(2):
            batches.set_batch_status(
                tx, made.id, BatchStatus.PLANNED, NOW, "killed", failed_attempt=True
            )

        assert batches.get_batch(tx, made.id).attempts == 2


@pytest.mark.parametrize("kind", [kind for kind in ProbeKind if kind is not ProbeKind.EDIT])
def test_a_held_out_probe_that_is_trained_on_is_found(database: Database, kind: ProbeKind) -> None:
    with database.begin() as tx:
        made = fact(tx)
        planned = batches.save_batch(tx, None, 1, [pair(made.id)], [KEEP], NOW)
        clean = batches.overlap(tx, planned.id)

        probes.save_probes(tx, [probe(made.id, kind), probe(None, kind, "Water boils at")], NOW)

        assert clean == []
        assert batches.overlap(tx, planned.id) == ["Water boils at", "Who leads Utopia?"]


def test_an_edit_probe_may_be_trained_on(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        probes.save_probes(tx, [probe(made.id)], NOW)

        assert batches.overlap(tx, batch(tx, made).id) == []


def test_an_adapter_is_saved_once_and_moves_its_batch(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        planned = batch(tx, made)

        first = adapter(tx, planned, made)
        again = adapter(tx, planned, made)

        assert first == again == adapters.adapter_by_name(tx, "kdpo-000001")
        assert first == adapters.adapter_of_batch(tx, planned.id)
        assert [one.id for one in adapters.facts_in(tx, first.id)] == [made.id]
        assert batches.get_batch(tx, planned.id).status is BatchStatus.TRAINED


def test_saving_an_adapter_again_does_not_reopen_its_batch(database: Database) -> None:
    with database.begin() as tx:
        made = fact(tx)
        planned = batch(tx, made)
        adapter(tx, planned, made)
        batches.set_batch_status(tx, planned.id, BatchStatus.REJECTED, NOW)

        adapter(tx, planned, made)

        assert batches.get_batch(tx, planned.id).status is BatchStatus.REJECTED


def test_an_adapter_with_another_manifest_is_refused(database: Database) -> None:
    with database.begin() as tx:
        version_0(tx)

        with pytest.raises(StoreError, match="another manifest"):
            adapters.save_adapter(tx, "kdpo-000000", "/a", "{}", "other", None, None, [], NOW)


def test_an_unknown_adapter_is_an_error_that_lists_the_known_ones(database: Database) -> None:
    with database.begin() as tx:
        made = version_0(tx)

        assert adapters.list_adapters(tx) == [made]
        with pytest.raises(StoreError, match="Known adapters: kdpo-000000"):
            adapters.adapter_by_name(tx, "kdpo-9")


def test_scores_are_replaced_by_those_of_the_next_judging(database: Database) -> None:
    with database.begin() as tx:
        made = version_0(tx)
        adapters.save_scores(tx, made.id, [Score("a", 0.1, 1), Score("b", 0.2, 2)])

        for _ in range(2):
            adapters.save_scores(tx, made.id, [Score("b", 0.3, 3), Score("c", 0.4, 4)])

        assert adapters.scores_of(tx, made.id) == [Score("b", 0.3, 3), Score("c", 0.4, 4)]


def test_the_last_verdict_counts(database: Database) -> None:
    with database.begin() as tx:
        made = version_0(tx)
        before = adapters.verdict_of(tx, made.id)
        judge(tx, made)
        judge(tx, made)
        promoted = adapters.verdict_of(tx, made.id)
        no = Verdict(VerdictRuling.REJECT, ("a person said so", "twice"))

        adapters.save_verdict(tx, made.id, no, "ada", {}, NOW + HOUR)

        assert before is None
        assert promoted
        assert promoted.ruling is VerdictRuling.PROMOTE
        assert adapters.verdict_of(tx, made.id) == no
