"""What a kind of feed is: which URLs to fetch, and a fetched document -> entries.

A kind is a module (or an object) with the functions of `Kind`.  The shipped ones are beside this
file; a package brings another through the entry point group `kdpo_daemon.feed_kinds`, see
docs/feeds.md.  A kind keeps no state: what it has to remember goes through `values`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from kdpo_daemon.errors import RefusedError, SourceError
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.facts.texts import clean
from kdpo_daemon.records.intake import Entry, Feed, Fetched, Page, Waiting

#: Fetches one more URL under the feed's own rules; gives its bytes, or raises SourceError.
Ask = Callable[[str], bytes]


@dataclass(frozen=True)
class Poll:
    """What a kind may use while it reads a document of a poll."""

    now: datetime
    max_entries: int  #: entries that are taken of one document
    pack: Pack
    ask: Ask


@dataclass(frozen=True)
class Reading:
    """What a document says: entries, and the values to compare the next one with.

    A value is known by the key of the entry that tells of its change.  A document of which
    anything is refused is read again at the next poll.
    """

    entries: list[Entry]
    values: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[RefusedError] = ()
    #: Changes that have not stood for long enough; the page is read in full when one has.
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    #: Further pages to read, in this poll or a later one; forgotten once nothing of them waits.
    follow: Sequence[Page] = ()


def as_json(feed_name: str, url: str, body: bytes) -> object:
    """Read a document that has to be JSON.  SourceError if it is not."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"is not JSON: {clean(str(error), 200)}",
            subject=f"feed {feed_name}",
            hint=f"look at {url}",
        ) from error


class Kind(Protocol):
    """How the documents of a kind of feed are read."""

    def urls(self, feed: Feed) -> list[str]:
        """Give the URLs to fetch, in order.  SettingsError if the options cannot be used."""

    def read(self, feed: Feed, fetched: Fetched, page: Page, poll: Poll) -> Reading:
        """Give what the document of a page says that `page.values` do not; {}: never read before.

        A value whose entry is cut off by `poll.max_entries` is not to be remembered yet.

        Raises:
            RefusedError: this document cannot be read, the feed's others may be.
            SourceError: the document cannot be read.

        """
