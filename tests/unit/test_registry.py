"""Kinds of feeds by name, also those that another package brings."""

from pathlib import Path

import pytest

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.registry import GROUP, kind_named
from kdpo_daemon.records.intake import FeedKind

PLUGIN = """
from kdpo_daemon.feeds.kinds import Reading

def urls(feed):
    return [feed.url + "/brought"]

def read(feed, fetched, page, poll):
    return Reading([], {"all": "seen"})
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that brings the kind `tidings`."""
    about = tmp_path / "brought_kinds-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-kinds\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\ntidings = brought_kinds\n")
    (tmp_path / "brought_kinds.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", list(FeedKind))
def test_every_kind_that_ships_can_be_had(name: str) -> None:
    kind = kind_named(name)

    assert callable(kind.urls)
    assert callable(kind.read)


def test_an_unknown_kind_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match=r"no such kind of feed\. Kinds are feed, file, snapshot"
    ):
        kind_named("tidings")


@pytest.mark.usefixtures("package")
def test_another_package_may_bring_a_kind() -> None:
    kind = kind_named("tidings")

    assert kind.__name__ == "brought_kinds"  # type: ignore[attr-defined]
