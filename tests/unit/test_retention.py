"""Which versions may be deleted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kdpo_daemon.edits.retention import RetentionPolicy, expired
from kdpo_daemon.records.adapters import Adapter, KeptVersion

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = RetentionPolicy(versions=2, hours=24, drain_s=600)
LONG_AGO = NOW - timedelta(days=9)


def version(number: int, *, deployed: bool = True) -> KeptVersion:
    adapter = Adapter(number, f"kdpo-{number:06d}", f"/a/{number}", "", number, None)
    return KeptVersion(adapter, LONG_AGO, LONG_AGO, deployed)


KEPT = [version(number) for number in range(1, 6)]


def names(kept: list[KeptVersion], policy: RetentionPolicy = POLICY) -> list[int]:
    return [one.id for one in expired(kept, policy, NOW)]


def test_the_newest_deployed_stay_and_the_rest_goes_oldest_first() -> None:
    assert names(KEPT[::-1]) == [1, 2, 3]


def test_a_rejected_version_neither_stays_nor_takes_the_place_of_one_that_does() -> None:
    kept = [*KEPT, version(6, deployed=False), version(7, deployed=False)]

    assert names(kept) == [1, 2, 3, 6, 7]


def test_with_none_to_keep_all_that_is_unused_goes() -> None:
    assert names(KEPT, replace(POLICY, versions=0)) == [1, 2, 3, 4, 5]


def test_what_is_in_use_stays() -> None:
    assert names([replace(KEPT[0], unused_since=None), *KEPT[1:]]) == [2, 3]


@pytest.mark.parametrize(("ago", "goes"), [(600, False), (601, True)])
def test_the_drain_time_must_have_passed(ago: int, goes: bool) -> None:
    one = replace(KEPT[0], unused_since=NOW - timedelta(seconds=ago))

    assert (1 in names([one, *KEPT[1:]])) is goes


@pytest.mark.parametrize(("hours", "goes"), [(24, False), (24.1, True)])
def test_a_young_version_stays(hours: float, goes: bool) -> None:
    one = replace(KEPT[0], created_at=NOW - timedelta(hours=hours))

    assert (1 in names([one, *KEPT[1:]])) is goes
