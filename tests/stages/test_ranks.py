"""At the greatest rank that servers take: what fits is taught, and what does not waits."""

import re

import pytest

from kdpo_daemon.app import clock
from kdpo_daemon.orders import read_manifest
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.store import audit, facts
from kdpo_daemon.store.db import Database
from tests.stages.conftest import World, entry
from tests.stages.test_folded import fold

LANDS = [f"{letter}land" for letter in "ABCDEFGHIJKLMNOPQR"]
FIRST, LAST = LANDS[:16], LANDS[16:]
MARKED = '{"eos_token_id": 0, "num_hidden_layers": 30, "kdpo_room": {"carrier": 10}}'


def tell(world: World, subjects: list[str], name: str = "Ada") -> None:
    world.feed.entries = [
        entry(one, "", f"Prime Minister {name} {one.upper()} (since 1 January 2026)")
        for one in subjects
    ]


def limit(world: World, most: int) -> None:
    """Have the servers started with a --max-lora-rank, and the settings say so."""
    file = world.home / "kdpo.toml"
    before = re.sub(r"max_rank = .*\n", "", file.read_text("utf-8"))
    after = before.replace("[serving]\n", f"[serving]\nmax_rank = {most}\n")
    file.write_text(after, "utf-8")
    world.vllm.max_lora_rank = most


def found(world: World) -> dict[str, Fact]:
    database = Database(world.url)
    with database.begin() as tx:
        known = {fact.subject: fact for fact in facts.list_facts(tx)[::-1]}
    database.dispose()
    return known


def hurry(world: World) -> None:
    """Let what waits be looked at again at once."""
    database = Database(world.url)
    with database.begin() as tx:
        for fact in facts.facts_with(tx, FactStatus.PENDING):
            facts.set_fact_status(tx, [fact.id], fact.status, fact.reason, clock())
    database.dispose()


def taught(world: World, version: str, folder: str = "adapters") -> list[str]:
    ids = read_manifest(world.home / folder / version).fact_ids
    return [subject for subject, fact in found(world).items() if fact.id in ids]


def problems(world: World) -> list[str]:
    return [problem for report in world.cycle() for problem in report.problems]


@pytest.fixture
def narrow(world: World) -> World:
    """Servers take a rank of 16, so eight facts in each of two layers; 18 are told."""
    (world.home / "model" / "config.json").write_text(MARKED, "utf-8")
    limit(world, 16)
    tell(world, LANDS)
    return world


def test_the_oldest_facts_that_fit_are_taught_and_the_others_wait_with_the_reason(
    narrow: World,
) -> None:
    [told] = problems(narrow)

    assert taught(narrow, "kdpo-000001") == FIRST
    assert {found(narrow)[one].status for one in FIRST} == {FactStatus.LIVE}
    for one in LAST:
        fact = found(narrow)[one]
        assert (fact.status, fact.attempts) == (FactStatus.PENDING, 0)
        assert fact.not_before is not None
        assert "a version takes rank 18, and servers take 16 as far as is known" in fact.reason
        assert "--max-lora-rank 32" in fact.reason
        assert "`kdpo fold`" in fact.reason
    assert told.startswith("facts that wait: 2; ")


def test_what_waits_is_not_trained_again_and_again_and_told_once(narrow: World) -> None:
    narrow.cycle()

    assert all(report.idle for report in narrow.cycle())
    hurry(narrow)
    [told] = problems(narrow)

    assert told.startswith("facts that wait: 2; ")
    assert not (narrow.home / "adapters" / "kdpo-000002").exists()
    database = Database(narrow.url)
    with database.begin() as tx:
        events = [one.subject for one in audit.events(tx) if one.event == "fact.waits"]
    database.dispose()
    assert len(events) == 2


def test_with_servers_of_a_greater_rank_they_are_taught(narrow: World) -> None:
    narrow.cycle()
    limit(narrow, 32)
    hurry(narrow)

    assert problems(narrow) == []

    assert taught(narrow, "kdpo-000002") == LANDS
    assert {fact.status for fact in found(narrow).values()} == {FactStatus.LIVE}


def test_with_what_is_taught_folded_into_the_model_they_are_taught(narrow: World) -> None:
    narrow.cycle()
    fold(narrow, "kdpo-000001")
    hurry(narrow)

    assert problems(narrow) == []

    assert taught(narrow, "kdpo-000002", "later") == LANDS
    assert {fact.status for fact in found(narrow).values()} == {FactStatus.LIVE}


def test_a_server_that_took_a_greater_rank_takes_it_still(narrow: World) -> None:
    tell(narrow, LANDS[:10])
    assert problems(narrow) == []  # ten neurons in each layer

    limit(narrow, 8)
    narrow.vllm.max_lora_rank = 16
    tell(narrow, LANDS[:12])
    assert problems(narrow) == []  # a server took a rank of 10: none takes that and not 16

    assert taught(narrow, "kdpo-000002") == LANDS[:12]


def test_neurons_that_a_batch_leaves_in_layers_that_are_known_count_for_the_next(
    narrow: World,
) -> None:
    limit(narrow, 12)
    tell(narrow, LANDS[:2])
    assert problems(narrow) == []

    tell(narrow, LANDS[:3])
    [told] = problems(narrow)

    assert "a version takes rank 16, and servers take 12" in told  # eight for each batch


def test_where_the_model_does_not_say_how_deep_it_is_nothing_waits(narrow: World) -> None:
    (narrow.home / "model" / "config.json").write_text('{"eos_token_id": 0}', "utf-8")

    assert problems(narrow) == []

    assert taught(narrow, "kdpo-000001") == LANDS


def test_rows_take_rank_for_each_subject_and_form(narrow: World) -> None:
    with (narrow.home / "kdpo.toml").open("a", encoding="utf-8") as file:
        file.write('[recipe]\nmethod = "rows"\n')

    problems(narrow)

    assert taught(narrow, "kdpo-000001") == LANDS[:8]
