"""RSS, Atom and JSON Feed: entries carry their facts themselves, nothing is compared."""

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.kinds import Ask, Reading
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Feed, Fetched, Page


def urls(feed: Feed) -> list[str]:
    """Give the feed's one URL.  SettingsError if it was given options: it has none."""
    if feed.options:
        raise SettingsError(
            f"a feed has no option {min(feed.options)!r}",
            subject=f"feed {feed.name}",
            hint="leave it out, or name the kind with --kind",
        )
    return [feed.url]


def read(
    feed: Feed,
    fetched: Fetched,
    page: Page,  # noqa: ARG001 - a kind's signature
    max_entries: int,
    ask: Ask,  # noqa: ARG001
) -> Reading:
    """Give the entries of a feed's document.  SourceError if it is none."""
    return Reading(parse(feed.name, fetched, max_entries))
