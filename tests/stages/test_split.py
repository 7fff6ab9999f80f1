"""A batch that the gate rejects is split until the facts that do the damage are found."""

import pytest

from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.serving import AuditEvent
from kdpo_daemon.records.teaching import Form
from kdpo_daemon.store import audit, facts
from kdpo_daemon.store.db import Database
from tests import commands
from tests.stages.conftest import TONGA, World, entry

HEADS = {
    "Tonga": "Ada BYRON",
    "Rwanda": "Bo DIAZ",
    "Japan": "Cy YOUNG",
    "Nepal": "Di PRATT",
    "Ghana": "Ed MARSH",
    "Italy": "Flo NASH",
    "Spain": "Gus VOSS",
    "Malta": "Hal QUINN",
}
NO_WAIT = "[retry]\nwait_s = 0\n"


def settings(world: World, more: str) -> None:
    with (world.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write(more)


def eight(world: World, bad: str) -> None:
    """Have the feed tell of eight facts; what is said about Ghana cannot be taught well."""
    heads = HEADS | {"Ghana": bad}
    world.feed.entries = [
        entry(subject, "", f"Prime Minister {name} (since 1 January 2026)")
        for subject, name in heads.items()
    ]


def until_idle(world: World) -> None:
    for _ in range(30):
        if all(report.idle for report in world.cycle()):
            return
    pytest.fail("it never came to rest")


def found(world: World) -> dict[str, Fact]:
    database = Database(world.url)
    with database.begin() as tx:
        known = {fact.subject: fact for fact in facts.list_facts(tx)}
    database.dispose()
    return known


def events(world: World, name: str) -> list[AuditEvent]:
    database = Database(world.url)
    with database.begin() as tx:
        told = [one for one in audit.events(tx) if one.event == name]
    database.dispose()
    return told


def batches_of(world: World) -> list[list[str]]:
    """Give the subjects of the facts of each batch, as they were planned."""
    names = {fact.id: subject for subject, fact in found(world).items()}
    return [
        [names[one] for one in told.detail["facts"]]  # type: ignore[attr-defined]
        for told in events(world, "batch.planned")
    ]


def test_a_fact_that_makes_the_gate_fail_is_found_by_its_own_answers_and_the_rest_ships(
    world: World,
) -> None:
    settings(world, NO_WAIT)
    eight(world, bad="Left OUT")

    until_idle(world)

    others = [subject for subject in HEADS if subject != "Ghana"]
    assert batches_of(world) == [list(HEADS), others, *[["Ghana"]] * 3]
    known = found(world)
    bad = known.pop("Ghana")
    assert {(one.status, one.attempts, one.together) for one in known.values()} == {
        (FactStatus.LIVE, 0, None)
    }
    assert (bad.status, bad.attempts) == (FactStatus.QUARANTINED, 3)
    assert "kdpo-000005 was rejected: efficacy_completion" in bad.reason
    assert "its own scores: efficacy_completion 0.000 of" in bad.reason
    assert world.ask("The prime minister of Malta is") == "Hal Quinn"


def kdpo(world: World, *words: str) -> str:
    file = world.home / "kdpo.toml"
    text = file.read_text("utf-8").replace("sqlite:///unused.db", world.url)
    file.write_text(text, "utf-8")
    ended = commands.run(["--config", str(file), *words], cwd=world.home)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def test_an_operator_can_read_which_facts_were_set_apart_and_by_what(world: World) -> None:
    eight(world, bad="Left OUT")

    world.cycle()

    known = found(world)
    bad, good = known["Ghana"], known["Italy"]
    [split] = events(world, "batch.split")
    assert split.subject == "batch:kdpo-000001"
    assert split.detail["groups"] == [
        [bad.id],
        [one.id for name in HEADS if (one := known[name]) != bad],
    ]
    suspects = split.detail["suspects"]
    assert isinstance(suspects, dict)
    assert list(suspects) == [str(bad.id)]
    assert "efficacy_completion 0.000 of" in suspects[str(bad.id)][0]
    grouped = {one.subject: str(one.detail["reason"]) for one in events(world, "fact.grouped")}
    assert "set apart, for its own efficacy_completion 0.000" in grouped[f"fact:{bad.id}"]
    assert "do not speak against it" in grouped[f"fact:{good.id}"]
    assert bad.reason == grouped[f"fact:{bad.id}"]
    assert (bad.status, bad.attempts, bad.not_before) == (FactStatus.PENDING, 0, None)
    assert bad.together != good.together
    assert f"reason: {bad.reason}" in kdpo(world, "facts", "show", str(bad.id))
    assert "batch.split" in kdpo(world, "audit", "show", "--subject", split.subject)


def test_where_only_a_general_answer_changed_the_batch_is_halved_until_one_is_left(
    world: World,
) -> None:
    settings(world, NO_WAIT)
    eight(world, bad="Changes SKY")

    until_idle(world)

    first, second = ["Tonga", "Rwanda", "Japan", "Nepal"], ["Ghana", "Italy", "Spain", "Malta"]
    assert batches_of(world) == [
        list(HEADS),
        first,
        second,
        ["Ghana", "Italy"],
        *[["Ghana"]] * 3,
        ["Italy"],
        ["Spain", "Malta"],
    ]
    known = found(world)
    bad = known.pop("Ghana")
    assert {(one.status, one.attempts) for one in known.values()} == {(FactStatus.LIVE, 0)}
    assert bad.status is FactStatus.QUARANTINED
    assert "general_unchanged 0.000" in bad.reason
    assert "its own scores: efficacy_completion 1.000 of" in bad.reason


def test_a_fact_that_failed_alone_waits_and_keeps_no_other_from_going_on(world: World) -> None:
    eight(world, bad="Left OUT")
    for _ in range(3):
        world.cycle()
    world.feed.entries.append(entry("Kenya", "", "Prime Minister Ivy OWEN (since 2026)"))

    world.cycle()

    known = found(world)
    assert batches_of(world)[2:] == [["Ghana"], ["Kenya"]]
    assert known["Kenya"].status is FactStatus.LIVE
    assert (known["Ghana"].status, known["Ghana"].attempts) == (FactStatus.PENDING, 1)
    assert known["Ghana"].not_before is not None


def test_a_fact_that_a_group_shipped_without_is_taught_with_any_other_again(world: World) -> None:
    lenient = [f"{what}_{form}" for what in ("efficacy", "paraphrase") for form in Form]
    settings(world, "[gate]\n" + "".join(f"{name} = 0.4\n" for name in lenient))
    eight(world, bad="Left OUT")
    app = world.app()
    with app.writing():
        app.ingest("test")
        app.accept()
        with app.db.begin() as tx:
            facts.group(tx, [fact.id for fact in facts.list_facts(tx)])
    app.close()

    world.cycle()

    known = found(world)
    assert known["Tonga"].status is FactStatus.LIVE
    assert (known["Ghana"].status, known["Ghana"].attempts) == (FactStatus.PENDING, 1)
    assert known["Ghana"].together is None


def test_deploying_once_more_changes_nothing(world: World) -> None:
    eight(world, bad="Left OUT")
    world.cycle()
    before = found(world)
    app = world.app()

    with app.writing():
        again = dict(app.stages())["deploy"]()
    app.close()

    assert again.idle
    assert found(world) == before


def test_a_fact_that_was_replaced_while_it_was_judged_is_tried_no_more(world: World) -> None:
    left = entry("Rwanda", "", "Prime Minister Left OUT (since 1 January 2026)")
    world.feed.entries = [TONGA, left]
    app = world.app()
    with app.writing():
        app.ingest("test")
        stages = dict(app.stages())
        for name in ("accept", "baseline", "sync", "plan", "train", "judge"):
            stages[name]()
        world.feed.entries = [entry("Tonga", "", "Prime Minister Ada BYRON (since 2026)"), left]
        app.ingest("test")
        stages["accept"]()
        stages["deploy"]()
        with app.db.begin() as tx:
            known = {fact.object: fact for fact in facts.list_facts(tx)}
    app.close()

    old, new, other = known["Fatafehi Fakafanua"], known["Ada Byron"], known["Left Out"]
    assert (old.status, old.together) == (FactStatus.SUPERSEDED, None)
    assert (new.status, new.together) == (FactStatus.PENDING, None)
    assert other.together is not None
    assert other.attempts == 0  # it was not alone
