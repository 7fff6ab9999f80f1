from kdpo_daemon.edits.rollout import Load, Promote, Reported, Step, Unload, steps
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import ModelCard

BASE = ModelCard("base", "/models/base", None)
SEVEN = Adapter(7, "kdpo-000007", "/adapters/kdpo-000007", "aa", 7, None)
EIGHT = Adapter(8, "kdpo-000008", "/adapters/kdpo-000008", "bb", 8, 7)


def card(adapter: Adapter, root: str = "") -> ModelCard:
    return ModelCard(adapter.name, root or adapter.path, "base")


def todo(wanted: Adapter, *cards: ModelCard, served: str | None) -> list[Step]:
    return steps(wanted, Reported((BASE, *cards), served))


def test_a_server_that_serves_what_is_wanted_is_left_alone() -> None:
    assert todo(SEVEN, card(SEVEN), served="kdpo-000007") == []


def test_an_alias_that_came_back_by_itself_needs_no_load() -> None:
    resolved = ModelCard("kdpo-000007.prod", SEVEN.path, "base")

    assert todo(SEVEN, resolved, served="kdpo-000007") == []


def test_a_bare_server_loads_before_the_alias_moves() -> None:
    assert todo(SEVEN, served=None) == [Load(SEVEN), Promote(SEVEN)]


def test_a_judged_candidate_only_needs_the_alias() -> None:
    assert todo(EIGHT, card(EIGHT), served="kdpo-000007") == [Promote(EIGHT)]


def test_a_rollback_is_the_same_with_the_older_adapter() -> None:
    done = todo(SEVEN, card(EIGHT), served="kdpo-000008")

    assert done == [Load(SEVEN), Promote(SEVEN), Unload("kdpo-000008")]


def test_left_over_versions_are_unloaded_last() -> None:
    done = todo(EIGHT, card(SEVEN), card(EIGHT), served="kdpo-000008")

    assert done == [Unload("kdpo-000007")]


def test_a_version_loaded_from_another_place_is_loaded_again() -> None:
    done = todo(EIGHT, card(EIGHT, "/elsewhere"), served="kdpo-000007")

    assert done == [Unload("kdpo-000008"), Load(EIGHT), Promote(EIGHT)]


def test_adapters_of_others_are_never_touched() -> None:
    other = ModelCard("sql-expert", "/adapters/sql", "base")
    alias = ModelCard("prod", SEVEN.path, "base")

    assert todo(SEVEN, other, alias, served="kdpo-000007") == []


def test_a_candidate_that_waits_for_its_verdict_stays_loaded() -> None:
    reported = Reported((BASE, card(SEVEN), card(EIGHT)), "kdpo-000007")

    assert steps(SEVEN, reported, frozenset({"kdpo-000008"})) == []
