"""RSS, Atom and JSON Feed: nothing is compared.

Entries carry their facts themselves.  The option `extract` says how facts are found in the text
of those that carry none; without it, they are not.
"""

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.kinds import Poll, Reading
from kdpo_daemon.feeds.parse import parse
from kdpo_daemon.records.intake import Extract, Feed, Fetched, Page


def urls(feed: Feed) -> list[str]:
    """Give the feed's one URL.  SettingsError if it was given options that it does not have."""
    unknown = feed.options.keys() - {"extract"}
    if unknown:
        raise SettingsError(
            f"a feed has no option {min(unknown)!r}",
            subject=f"feed {feed.name}",
            hint="leave it out, or name the kind with --kind",
        )
    said = feed.options.get("extract", Extract.NONE)
    if said not in list(Extract):
        raise SettingsError(
            f"extract must be one of {', '.join(Extract)}, not {said!r}",
            subject=f"feed {feed.name}",
            hint="give --extract",
        )
    return [feed.url]


def read(
    feed: Feed,
    fetched: Fetched,
    page: Page,  # noqa: ARG001 - a kind's signature
    poll: Poll,
) -> Reading:
    """Give the entries of a feed's document.  SourceError if it is none."""
    return Reading(parse(feed.name, fetched, poll.max_entries))
