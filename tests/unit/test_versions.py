"""Versions of programs, and which is the later one."""

from datetime import UTC, datetime

import pytest

from kdpo_daemon.facts.versions import is_earlier, read_version, same_version


@pytest.mark.parametrize(
    ("raw", "version"),
    [
        ("3.13.1", "3.13.1"),
        ("v3.13.1", "3.13.1"),
        ("Python v3.13.1 (released 3 December 2024)", "3.13.1"),
        ("version 131", "131"),
        ("24.04 LTS", "24.04 LTS"),
        ("3.14.0rc2", "3.14.0rc2"),
        ("1.2.3-beta.4+build5", "1.2.3-beta.4+build5"),
        ("3.13.1 replaces all earlier ones; 3.12 ends", "3.13.1"),
        ("Windows 11", "Windows 11"),
    ],
)
def test_a_version_is_read_without_the_name(raw: str, version: str) -> None:
    assert read_version(raw).object == version
    assert read_version(version).object == version


def test_the_day_of_the_release_is_kept() -> None:
    assert read_version("3.13.1 (3 December 2024)").since == datetime(2024, 12, 3, tzinfo=UTC)


@pytest.mark.parametrize("raw", ["3.11.9, 3.12.3", "3.11.9 and 3.12.3", "none", ""])
def test_no_version_is_guessed(raw: str) -> None:
    assert read_version(raw).object == ""


@pytest.mark.parametrize(("one", "other"), [("3.12", "3.12.0"), ("v2.0", "2.0"), ("11", "11")])
def test_two_spellings_of_a_version_are_one(one: str, other: str) -> None:
    assert same_version(one, other)
    assert not is_earlier(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("3.9.1", "3.10"), ("3.14.0rc2", "3.14.0"), ("1.2", "1.2.1")]
)
def test_an_earlier_version_is_known(one: str, other: str) -> None:
    assert is_earlier(one, other)
    assert not is_earlier(other, one)
    assert not same_version(one, other)


def test_of_names_nobody_knows_the_order() -> None:
    assert not is_earlier("Jammy Jellyfish", "Noble Numbat")
    assert same_version("Noble Numbat", "noble numbat")
