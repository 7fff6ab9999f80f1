"""Kinds of feeds by name: the shipped ones, and those of other packages."""

from importlib.metadata import entry_points
from typing import cast

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.kinds import Kind, feed, file, snapshot, webhook, wikidata
from kdpo_daemon.records.intake import FeedKind

#: The group of entry points in which a package names its kinds.
GROUP = "kdpo_daemon.feed_kinds"

_SHIPPED: dict[str, Kind] = {
    FeedKind.FEED: feed,
    FeedKind.SNAPSHOT: snapshot,
    FeedKind.WIKIDATA: wikidata,
    FeedKind.FILE: file,
    FeedKind.WEBHOOK: webhook,
}


def kind_named(name: str) -> Kind:
    """Give a kind.  SettingsError, with the names that exist, when there is none."""
    if name in _SHIPPED:
        return _SHIPPED[name]
    brought = entry_points(group=GROUP)
    if name not in brought.names:
        names = ", ".join(sorted({*_SHIPPED, *brought.names}))
        raise SettingsError(
            "no such kind of feed",
            subject=f"kind {name}",
            hint=f"kinds are {names}; install the package that brings another",
        )
    return cast(Kind, brought[name].load())
