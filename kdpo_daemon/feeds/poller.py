"""One poll of one feed: its documents fetched, read, and put into claims.

Touches neither database nor chance, so that many polls can run at once.  What is to be put down
is in `Polled`; the stage ingest does that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kdpo_daemon.errors import RefusedError, SettingsError, SourceError
from kdpo_daemon.facts.by_pattern import claims_by_pattern
from kdpo_daemon.facts.claims import claims_of
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.facts.texts import clean
from kdpo_daemon.feeds.fetch import FetchPolicy, fetch
from kdpo_daemon.feeds.folder import fetch_file, path_of
from kdpo_daemon.feeds.kinds import Kind, Poll
from kdpo_daemon.feeds.registry import kind_named
from kdpo_daemon.records.intake import Claim, Entry, Extract, Feed, FeedKind, Fetched, Page

#: A feed of many URLs is left until its next poll after this many of them failed.
_GIVE_UP = 3


@dataclass(frozen=True)
class PageRead:
    """One document of a feed, read: its entries with their claims, and what to ask with next."""

    fetched: Fetched
    said: tuple[tuple[Entry, list[Claim]], ...]
    page: Page
    follow: tuple[Page, ...] = ()  #: pages that it says are to be read
    refused: tuple[RefusedError, ...] = ()
    last: bool = False  #: of the feed's documents; the next poll is counted from it


@dataclass(frozen=True)
class Failed:
    """A page that could not be read."""

    page: Page
    error: SourceError
    followed: bool  #: only another page names it

    @property
    def is_lost(self) -> bool:
        """Whether it is not there any more; of a followed page that is no failure of the feed."""
        return self.followed and self.error.missing


@dataclass(frozen=True)
class Polled:
    """What a feed gave: its documents, what was refused, and the first error if there was one."""

    feed: Feed
    pages: tuple[PageRead, ...] = ()
    error: SourceError | None = None
    failed: tuple[Failed, ...] = ()
    refused: tuple[RefusedError, ...] = ()
    gone: tuple[str, ...] = ()  #: URLs of files that are not there any more


@dataclass(frozen=True)
class Poller:
    """Reads feeds."""

    policy: FetchPolicy
    pack: Pack
    clock: Callable[[], datetime]

    def poll(self, feed: Feed, known: Mapping[str, Page]) -> Polled:
        """Fetch and read a feed of which `known` is remembered, by URL."""
        try:
            kind, urls = _kind(feed)
        except SourceError as error:
            return Polled(feed, error=error)
        if feed.kind != FeedKind.FILE:
            return self._poll(feed, kind, urls, known)
        # what is new comes first, the folder itself last
        urls.sort(key=lambda url: (url == feed.url, url in known))
        polled = self._poll(feed, kind, urls, known, self.policy.max_bytes)
        return replace(polled, gone=tuple(known.keys() - urls))

    def _poll(
        self,
        feed: Feed,
        kind: Kind,
        urls: Sequence[str],
        known: Mapping[str, Page],
        room: float = math.inf,
    ) -> Polled:
        """Read one page after another; beyond `room` bytes the feed stays due, and is read on."""
        read: list[PageRead] = []
        failed: list[Failed] = []
        refused: list[RefusedError] = []
        for page in self._pages(feed, urls, known):
            followed = page.url not in urls
            try:
                read.append(self._read(feed, kind, page, followed=followed))
                room -= len(read[-1].fetched.body or b"")
            except RefusedError as error:
                refused.append(error)
            except Exception as error:  # noqa: BLE001 - a kind may be anybody's code
                why = _told(feed, error)
                failed.append(Failed(page, why, followed))
                if why.busy or sum(not one.is_lost for one in failed) == _GIVE_UP:
                    break
            if room < 0:
                break
        errors = [one.error for one in failed if not one.is_lost]
        worth = _worth(read, whole=not errors and room >= 0)
        refused += [one for page in read for one in page.refused]
        first = _first(errors, len(urls)) if errors else None
        return Polled(feed, worth, first, tuple(failed), tuple(refused))

    def _pages(self, feed: Feed, urls: Sequence[str], known: Mapping[str, Page]) -> list[Page]:
        """Give the pages of a poll: the feed's own, and those of the followed that are due."""
        own = [known.get(url) or Page(url, feed.etag, feed.last_modified) for url in urls]
        now = self.clock()
        due = [one for one in known.values() if one.url not in urls and _is_due(one, now)]
        # what the others name has to be read before they are asked for more
        behind = sum(one.wanted for one in due) >= self.policy.max_followed
        return [*([] if behind else own), *due[: self.policy.max_followed]]

    def _read(self, feed: Feed, kind: Kind, page: Page, *, followed: bool) -> PageRead:
        if page.before:
            earlier = self._fetch(feed, Page(page.before))
            first = kind.read(feed, earlier, Page(page.url), self._handed(feed))
            page = replace(page, before="", values=first.values)
        # a change that has stood is told with the document that shows it
        again = followed or _is_due(page, self.clock())
        fetched = self._fetch(feed, Page(page.url) if again else page)
        if fetched.body is None:
            after = replace(page, etag=fetched.etag, last_modified=fetched.last_modified)
            return PageRead(fetched, (), after)
        reading = kind.read(feed, fetched, page, self._handed(feed))
        said = tuple((entry, self._claims(feed, entry)) for entry in reading.entries)
        after = Page(
            url=page.url,
            values=_kept(reading.values, said, page),
            waiting=reading.waiting,
            looked_at=self.clock() if followed else None,
        )
        if not reading.refused:  # else it is asked for anew, and told of again
            after = replace(after, etag=fetched.etag, last_modified=fetched.last_modified)
        # only a document that brought an entry is kept
        light = fetched if said else replace(fetched, body=b"")
        return PageRead(light, said, after, tuple(reading.follow), tuple(reading.refused))

    def _claims(self, feed: Feed, entry: Entry) -> list[Claim]:
        """Give what an entry states, else what the patterns find if the feed wants them."""
        if not entry.fact and feed.extract is Extract.PATTERNS:
            return claims_by_pattern(entry, self.pack)
        return claims_of(entry, self.pack)

    def _handed(self, feed: Feed) -> Poll:
        limit = self.policy.max_entries
        return Poll(self.clock(), limit, self.pack, lambda url: self._ask(feed, url))

    def _fetch(self, feed: Feed, page: Page) -> Fetched:
        if feed.kind == FeedKind.FILE:
            if page.url == feed.url:
                return Fetched(page.url, None)
            return fetch_file(path_of(feed.url), page, self.policy.max_bytes)
        asked = replace(feed, url=page.url, etag=page.etag, last_modified=page.last_modified)
        if page.url == feed.url and feed.moved_to:
            return self._fetch_moved(asked)
        return fetch(asked, self.policy, now=self.clock())

    def _fetch_moved(self, feed: Feed) -> Fetched:
        """Ask where a feed has moved; if that fails, its own URL, which may have other news."""
        if feed.address != feed.url:
            try:
                fetched = fetch(replace(feed, url=feed.address), self.policy, now=self.clock())
                return replace(fetched, moved_to=fetched.moved_to or feed.address)
            except SourceError as error:
                if error.busy:
                    raise
        # the validators are those of the other address, and could be taken for its own
        asked = replace(feed, etag=None, last_modified=None)
        return fetch(asked, self.policy, now=self.clock())

    def _ask(self, feed: Feed, url: str) -> bytes:
        return self._fetch(feed, Page(url)).body or b""


def _kind(feed: Feed) -> tuple[Kind, list[str]]:
    """Give a feed's kind and URLs; options that it cannot use are that feed's failure."""
    try:
        kind = kind_named(feed.kind)
        return kind, kind.urls(feed)
    except SettingsError as error:
        raise SourceError(str(error), subject=f"feed {feed.name}", hint="add it again") from error
    except Exception as error:
        raise _told(feed, error) from error


def _told(feed: Feed, error: Exception) -> SourceError:
    """Give an error as that of its feed: whatever a document does to us, the others go on."""
    if isinstance(error, SourceError):
        return error
    what = clean(f"{type(error).__name__}: {error}", 200)
    hint = "this is a mistake of the program or of a plug-in: report it, with the document"
    return SourceError(f"cannot be read, {what}", subject=f"feed {feed.name}", hint=hint)


def _is_due(page: Page, now: datetime) -> bool:
    """Tell whether a page is to be read in full: another names it, or a change has stood."""
    return page.wanted or any(one.stands_at <= now for one in page.waiting.values())


def _worth(read: Sequence[PageRead], *, whole: bool) -> tuple[PageRead, ...]:
    """Give what is to be put down: answers that brought something, and the last in any case.

    The time of the next poll is counted from the last one of a poll that went well.
    """
    earlier = [one for one in read[:-1] if one.fetched.body is not None]
    return (*earlier, *(replace(one, last=whole) for one in read[-1:]))


def _first(failed: Sequence[SourceError], urls: int) -> SourceError:
    """Give the first error as that of its feed, which the other URLs keep going."""
    error = failed[0]
    if urls == 1:
        return error
    return SourceError(
        f"one of its {urls} URLs failed: {error.message}",
        subject=error.subject,
        hint=error.hint,
        retry_after=error.retry_after,
        busy=error.busy,
    )


def _kept(
    values: Mapping[str, str], claims: Sequence[tuple[Entry, Sequence[Claim]]], page: Page
) -> dict[str, str]:
    """Give the values to compare with next time: of each key the last that named something.

    "vacant", or words that cannot be read, must not make the next holder look new when it is the
    one from before.
    """
    unread = {
        entry.key
        for entry, said in claims
        if entry.key in page.values and not any(claim.object for claim in said)
    }
    return {key: page.values[key] if key in unread else new for key, new in values.items()}
