"""A folder into which files of facts are dropped -> an entry for each line.

What a file must look like, and when it is taken for whole, is said in docs/feeds.md.
"""

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.lines import read_file, refuse_name
from kdpo_daemon.facts.texts import clean
from kdpo_daemon.feeds.folder import files_of, path_of
from kdpo_daemon.feeds.kinds import Poll, Reading
from kdpo_daemon.records.intake import Feed, Fetched, Page


def urls(feed: Feed) -> list[str]:
    """Give a URL for each file, then the folder's own, which sets the time of the next poll.

    Raises:
        SettingsError: it was given options: it has none.
        SourceError: the folder cannot be listed.

    """
    if feed.options:
        raise SettingsError(
            f"a file feed has no option {min(feed.options)!r}",
            subject=f"feed {feed.name}",
            hint="leave the mapping out",
        )
    return [*files_of(feed), feed.url]


def read(
    feed: Feed,  # noqa: ARG001 - a kind's signature
    fetched: Fetched,
    page: Page,
    poll: Poll,
) -> Reading:
    """Give an entry for each line of a file.  RefusedError if it cannot be read as a whole."""
    name = clean(path_of(page.url).name)
    refuse_name(name)
    lines = read_file(name, fetched.body or b"", poll.max_entries)
    return Reading(lines.entries, refused=lines.refused)
