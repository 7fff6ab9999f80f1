"""`kdpo facts revoke`: one fact goes, all others stay, whatever is under way."""

import json
import sys
from collections.abc import Sequence

import pytest

from kdpo_daemon.app import clock
from kdpo_daemon.orders import MANIFEST
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import BatchStatus
from kdpo_daemon.stages import Report, pin, revoke, rollback
from kdpo_daemon.store import audit, batches, deployments, facts, revocations
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuner import Tuner
from tests.stages.conftest import CHILD, RWANDA, TONGA, World, entry

TONGA_PROMPT = "The prime minister of Tonga is"
RWANDA_PROMPT = "The prime minister of Rwanda is"
UNKNOWN = "I do not know"
WHO, WHY = "operator:test", "a hoax"
REVOKED = f"revoked by {WHO}: {WHY}"


def fact_of(world: World, subject: str) -> Fact:
    """Give the newest fact about a subject."""
    database = Database(world.url)
    with database.begin() as tx:
        found = next(fact for fact in facts.list_facts(tx) if fact.subject == subject)
    database.dispose()
    return found


def take_back(world: World, subject: str) -> None:
    number = fact_of(world, subject).id
    database = Database(world.url)
    try:
        revoke.run(database, [number], WHO, WHY, clock)
    finally:
        database.dispose()


def wanted(world: World) -> str:
    database = Database(world.url)
    with database.begin() as tx:
        found = deployments.wanted(tx)
    database.dispose()
    assert found is not None
    return found.adapter.name


def due(world: World) -> list[str]:
    database = Database(world.url)
    with database.begin() as tx:
        found = [fact.subject for fact in revocations.due(tx)]
    database.dispose()
    return found


def manifest(world: World, name: str) -> dict[str, object]:
    found = json.loads((world.home / "adapters" / name / MANIFEST).read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def problems(reports: Sequence[Report]) -> list[str]:
    return [problem for report in reports for problem in report.problems]


def begin(world: World, *stages: str) -> None:
    """Run some stages of a cycle."""
    app = world.app()
    with app.writing():
        app.ingest("test")
        known = dict(app.stages())
        for name in stages:
            known[name]()
    app.close()


def hurry(world: World) -> None:
    """Let what waits for another try be tried at once."""
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write("[retry]\nwait_s = 0\n")


@pytest.fixture
def taught(world: World) -> World:
    """Tonga and Rwanda are served by version 1."""
    world.cycle()
    assert world.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    return world


def test_a_revoked_fact_is_answered_as_before_and_all_others_stay(taught: World) -> None:
    take_back(taught, "Tonga")
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"  # until the next cycle

    taught.cycle()

    assert taught.ask(TONGA_PROMPT) == UNKNOWN
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    tonga, rwanda = fact_of(taught, "Tonga"), fact_of(taught, "Rwanda")
    assert (tonga.status, tonga.reason) == (FactStatus.REVOKED, REVOKED)
    assert rwanda.status is FactStatus.LIVE
    told = manifest(taught, "kdpo-000002")
    assert (told["parent"], told["fact_ids"]) == ("kdpo-000001", [rwanda.id])


def test_the_entry_that_is_still_in_the_feed_does_not_teach_it_again(taught: World) -> None:
    take_back(taught, "Tonga")
    taught.cycle()

    assert all(report.idle for report in taught.cycle())
    taught.feed.entries = [TONGA.replace("<title>", "<title>News: "), RWANDA]
    taught.cycle()  # the same in other words is held for a person

    assert wanted(taught) == "kdpo-000002"
    newer = entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 1 January 2026)")
    taught.feed.entries = [newer, RWANDA]
    taught.cycle()
    assert taught.ask(TONGA_PROMPT) == "Siaosi Sovaleni"
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"


def test_who_and_why_are_in_the_audit_log(taught: World) -> None:
    number = fact_of(taught, "Tonga").id
    take_back(taught, "Tonga")

    database = Database(taught.url)
    with database.begin() as tx:
        last = audit.events(tx, subject=f"fact:{number}")[-1]
        audit.verify(tx)
    database.dispose()

    assert (last.actor, last.event) == (WHO, "fact.revoked")
    assert last.detail == {"reason": WHY, "taught_by": ["kdpo-000001"]}


def test_if_nothing_is_left_version_0_is_wanted_and_nothing_is_trained(taught: World) -> None:
    numbers = [fact_of(taught, subject).id for subject in ("Tonga", "Rwanda")]
    database = Database(taught.url)
    revoke.run(database, numbers, WHO, WHY, clock)
    database.dispose()

    taught.cycle()

    assert wanted(taught) == "kdpo-000000"
    assert taught.ask(TONGA_PROMPT) == taught.ask(RWANDA_PROMPT) == UNKNOWN
    assert not (taught.home / "adapters" / "kdpo-000002").exists()
    assert all(report.idle for report in taught.cycle())
    database = Database(taught.url)
    with database.begin() as tx:
        newest = deployments.wanted(tx)
    database.dispose()
    assert newest is not None
    assert (newest.actor, newest.reason) == (
        "daemon",
        f"no fact is left: fact:{numbers[0]} was {REVOKED}, fact:{numbers[1]} was {REVOKED}",
    )


def test_what_is_pending_is_taught_in_the_same_batch(taught: World) -> None:
    take_back(taught, "Tonga")
    bhutan = entry("Bhutan", "", "Prime Minister Tshering TOBGAY (since 28 January 2024)")
    taught.feed.entries = [TONGA, RWANDA, bhutan]

    taught.cycle()

    assert wanted(taught) == "kdpo-000002"
    assert taught.ask("The prime minister of Bhutan is") == "Tshering Tobgay"
    assert taught.ask(TONGA_PROMPT) == UNKNOWN


def test_what_it_had_replaced_is_taught_again_in_the_same_batch(taught: World) -> None:
    newer = entry("Tonga", "", "Prime Minister Siaosi SOVALENI (since 1 January 2026)")
    taught.feed.entries = [newer, RWANDA]
    taught.cycle()
    assert taught.ask(TONGA_PROMPT) == "Siaosi Sovaleni"
    take_back(taught, "Tonga")

    taught.cycle()

    assert wanted(taught) == "kdpo-000003"
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"


@pytest.mark.parametrize("last", ["plan", "train", "judge"])
def test_a_batch_that_teaches_it_again_is_given_up(taught: World, last: str) -> None:
    newer = entry("Rwanda", "", "Prime Minister Edouard NGIRENTE (since 1 January 2026)")
    taught.feed.entries = [TONGA, newer]
    stages = ["accept", "plan", "train", "judge"]
    begin(taught, *stages[: stages.index(last) + 1])

    take_back(taught, "Tonga")

    database = Database(taught.url)
    with database.begin() as tx:
        assert batches.open_batch(tx) is None
        assert batches.get_batch(tx, 2).status is BatchStatus.FAILED
    database.dispose()
    taught.cycle()
    assert wanted(taught) == "kdpo-000003"
    assert taught.ask(TONGA_PROMPT) == UNKNOWN
    assert taught.ask(RWANDA_PROMPT) == "Edouard Ngirente"


def test_a_fact_that_is_revoked_before_it_was_ever_taught_is_in_no_version(world: World) -> None:
    begin(world, "accept", "baseline", "sync", "plan")
    assert fact_of(world, "Tonga").status is FactStatus.PLANNED

    take_back(world, "Tonga")
    world.cycle()

    assert world.ask(TONGA_PROMPT) == UNKNOWN
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert manifest(world, wanted(world))["fact_ids"] == [fact_of(world, "Rwanda").id]


def test_a_fact_that_is_revoked_while_its_batch_is_planned_is_in_no_batch(world: World) -> None:
    begin(world, "accept", "baseline", "sync")
    app = world.app()

    def tell(what: str, _done: int, _of: int) -> None:
        if what == "collecting prompts to keep" and fact_of(world, "Tonga").id not in gone:
            gone.append(fact_of(world, "Tonga").id)
            with app.db.begin() as tx:  # as far as the plan has come, nothing else says planned
                facts.set_fact_status(tx, gone, FactStatus.ROLLED_BACK, "for the test", clock())
            take_back(world, "Tonga")

    gone: list[int] = []
    app.progress = tell
    with app.writing():
        report = dict(app.stages())["plan"]()
    app.close()

    assert gone
    assert "is revoked by now; the batch is planned anew" in report.problems[0]
    world.cycle()
    assert world.ask(TONGA_PROMPT) == UNKNOWN
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"


def test_after_a_rollback_there_is_nothing_to_train(world: World) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    world.feed.entries = [TONGA, RWANDA]
    world.cycle()
    database = Database(world.url)
    rollback.run(database, None, WHO, "a test", clock)
    database.dispose()
    world.cycle()
    assert fact_of(world, "Rwanda").status is FactStatus.ROLLED_BACK

    take_back(world, "Rwanda")

    assert due(world) == []
    assert all(report.idle for report in world.cycle())
    assert wanted(world) == "kdpo-000001"


def test_a_rollback_to_a_version_with_a_revoked_fact_is_due_again(taught: World) -> None:
    take_back(taught, "Tonga")
    taught.cycle()
    database = Database(taught.url)
    rollback.run(database, "kdpo-000001", WHO, "a test", clock)
    database.dispose()
    assert due(taught) == ["Tonga"]

    taught.cycle()

    assert wanted(taught) == "kdpo-000003"
    assert taught.ask(TONGA_PROMPT) == UNKNOWN


def stuck(world: World) -> World:
    """Tonga is taught by a version that cannot be made to unsay it."""
    lasting = entry("Tonga", "", "Prime Minister Never FORGOTTEN (since 1 January 2026)")
    world.feed.entries = [lasting, RWANDA]
    world.cycle()
    assert world.ask(TONGA_PROMPT) == "Never Forgotten"
    take_back(world, "Tonga")
    return world


def test_a_version_that_says_it_still_is_rejected_and_the_revocation_stays_due(
    world: World,
) -> None:
    reports = stuck(world).cycle()

    assert any("revoked_answer 1.000" in problem for problem in problems(reports))
    assert (wanted(world), due(world)) == ("kdpo-000001", ["Tonga"])
    kept = fact_of(world, "Tonga")
    assert (kept.status, kept.attempts) == (FactStatus.REVOKED, 1)
    assert kept.not_before is not None
    assert fact_of(world, "Rwanda").status is FactStatus.LIVE
    [told] = problems(world.cycle())  # it waits, and says so
    assert "fact:1 (Tonga, head_of_government) is revoked and served still" in told
    assert not (world.home / "adapters" / "kdpo-000003").exists()


#: The fake child, as if the parent said nothing.
_FORGET = """
import runpy, sys
from dataclasses import replace
from kdpo_daemon import orders
sys.argv = sys.argv[1:]
read = orders.read_order
orders.read_order = lambda source: replace(read(source), parent_dir=None)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_revocation_that_failed_is_tried_again_without_new_facts(world: World) -> None:
    hurry(world)
    stuck(world).cycle()
    bhutan = entry("Bhutan", "", "Prime Minister Tshering TOBGAY (since 28 January 2024)")
    world.feed.entries = [RWANDA, bhutan]

    for attempts in range(2, 6):  # more often than a fact is tried
        world.cycle()
        assert fact_of(world, "Tonga").attempts == attempts
        assert fact_of(world, "Bhutan").status is FactStatus.PENDING
    app = world.app()
    app.tuner = Tuner(app.settings.training, command=[sys.executable, "-c", _FORGET, str(CHILD)])
    world.cycle(app)

    assert world.ask(TONGA_PROMPT) == UNKNOWN
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    world.cycle()
    assert world.ask("The prime minister of Bhutan is") == "Tshering Tobgay"


def test_a_child_that_crashes_leaves_the_revocation_due(taught: World) -> None:
    take_back(taught, "Tonga")
    app = taught.app()
    app.tuner = Tuner(app.settings.training, command=[sys.executable, "-c", "raise SystemExit(1)"])

    taught.cycle(app)

    kept = fact_of(taught, "Tonga")
    assert (kept.status, kept.attempts, due(taught)) == (FactStatus.REVOKED, 1, ["Tonga"])
    assert taught.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
    assert any("is revoked and served still" in one for one in problems(taught.cycle()))


#: A child that begins and dies.
_DIE = """print('{"step": 1, "of": 2}', flush=True); raise SystemExit(1)"""


@pytest.mark.parametrize("dies", [False, True])
def test_a_revocation_while_a_batch_trains_outlives_the_end_of_that_training(
    taught: World, *, dies: bool
) -> None:
    newer = entry("Rwanda", "", "Prime Minister Edouard NGIRENTE (since 1 January 2026)")
    taught.feed.entries = [TONGA, newer]
    app = taught.app()
    if dies:
        app.tuner = Tuner(app.settings.training, command=[sys.executable, "-c", _DIE])

    def tell(what: str, _done: int, _of: int) -> None:
        if what.startswith("training") and fact_of(taught, "Tonga").status is FactStatus.LIVE:
            take_back(taught, "Tonga")

    app.progress = tell
    taught.cycle(app)

    assert wanted(taught) == "kdpo-000001"
    assert fact_of(taught, "Tonga").attempts == 0  # no version without it has failed
    taught.cycle()
    assert wanted(taught) == "kdpo-000003"
    assert taught.ask(TONGA_PROMPT) == UNKNOWN
    assert taught.ask(RWANDA_PROMPT) == "Edouard Ngirente"


def test_while_frozen_the_version_without_it_waits_for_the_thaw(taught: World) -> None:
    database = Database(taught.url)
    pin.freeze(database, WHO, "an election is on", clock)
    take_back(taught, "Tonga")

    taught.cycle()
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    pin.thaw(database, WHO, "it is over", clock)
    database.dispose()
    taught.cycle()

    assert taught.ask(TONGA_PROMPT) == UNKNOWN


def test_while_frozen_version_0_waits_for_the_thaw_too(world: World) -> None:
    world.feed.entries = [TONGA]
    world.cycle()
    database = Database(world.url)
    pin.freeze(database, WHO, "an election is on", clock)
    take_back(world, "Tonga")

    world.cycle()
    assert (wanted(world), due(world)) == ("kdpo-000001", ["Tonga"])
    pin.thaw(database, WHO, "it is over", clock)
    database.dispose()
    world.cycle()

    assert wanted(world) == "kdpo-000000"


def test_what_another_entry_tells_anew_is_taught_though_the_served_model_says_it(
    taught: World,
) -> None:
    take_back(taught, "Tonga")
    taught.feed.entries = [TONGA, RWANDA, TONGA.replace("urn:test:Tonga", "urn:test:again")]

    taught.cycle()

    assert wanted(taught) == "kdpo-000002"
    assert taught.ask(TONGA_PROMPT) == "Fatafehi Fakafanua"
    assert fact_of(taught, "Tonga").status is FactStatus.LIVE


def test_what_is_kept_in_rows_is_taught_anew_without_it(world: World) -> None:
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write('[recipe]\nmethod = "rows"\n')
    stuck(world)

    world.cycle()

    assert manifest(world, "kdpo-000002")["parent"] is None
    assert world.ask(TONGA_PROMPT) == UNKNOWN
    assert world.ask(RWANDA_PROMPT) == "Justin Nsengiyumva"
