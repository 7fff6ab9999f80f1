"""A name that facts are posted to: nothing is polled, see `stages.receive`."""

import re

from kdpo_daemon.errors import SettingsError, SourceError
from kdpo_daemon.feeds.kinds import Poll, Reading
from kdpo_daemon.records.intake import Feed, Fetched, Page

#: Names that may stand in a URL's path and as a key file's name.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


def is_name(name: str) -> bool:
    """Tell whether a name can be a webhook's."""
    return _NAME.fullmatch(name) is not None


def urls(feed: Feed) -> list[str]:
    """Give no URL.  SettingsError if the feed's name or options cannot be used."""
    if feed.options:
        raise SettingsError(
            f"a webhook has no option {min(feed.options)!r}",
            subject=f"feed {feed.name}",
            hint="leave the mapping out",
        )
    if not is_name(feed.name):
        hint = "use up to 64 letters, digits, '.', '_' and '-'"
        raise SettingsError("cannot stand in a URL", subject=f"feed {feed.name}", hint=hint)
    return []


def read(
    feed: Feed,
    fetched: Fetched,  # noqa: ARG001 - a kind's signature
    page: Page,  # noqa: ARG001
    poll: Poll,  # noqa: ARG001
) -> Reading:
    """Raise SourceError: it is never polled."""
    hint = "its publisher posts to it, see docs/feeds.md"
    raise SourceError("is not polled", subject=f"feed {feed.name}", hint=hint)
