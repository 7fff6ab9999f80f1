"""Entities of Wikidata, or of another Wikibase -> entries for changed best-rank statements.

With items each is polled; without, the wiki's recent changes name the items to look at.  An entity
is compared with what was read of it before, or with the revision before the change.  A change is
told once it has stood, with the reference that it rests on where one is wanted.
"""

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.feeds.kinds import Poll, Reading
from kdpo_daemon.feeds.kinds.wikidata import changes
from kdpo_daemon.feeds.kinds.wikidata.comparison import Comparison
from kdpo_daemon.feeds.kinds.wikidata.entities import own_entity, refused
from kdpo_daemon.feeds.kinds.wikidata.watch import PLACE, relations_of, watch_list_of
from kdpo_daemon.records.intake import Feed, Fetched, Page


def urls(feed: Feed) -> list[str]:
    """Give one URL for each item, or that of the recent changes.  SettingsError if unusable."""
    watched = watch_list_of(feed)
    if not watched.items:
        return [changes.url_of(watched)]
    return [feed.url.replace(PLACE, item) for item in watched.items]


def read(feed: Feed, fetched: Fetched, page: Page, poll: Poll) -> Reading:
    """Give an entry for each change of the watched statements that has stood.

    Raises:
        SourceError: the document is no entity, was merged into another, or a label cannot be
            fetched; or the wiki does not answer with recent changes.

    """
    watched = watch_list_of(feed)
    try:
        relations = relations_of(watched, poll.pack)
    except SettingsError as error:
        raise refused(feed, str(error), "add it again") from error
    try:
        if page.url == changes.url_of(watched):
            return changes.read(feed, watched, relations, fetched, page, poll)
        entity = own_entity(feed, page.url, fetched.url, fetched.body or b"")
        return Comparison(feed, watched, entity, page, poll).reading(relations)
    except (LookupError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise refused(feed, "is not what a Wikibase writes", f"look at {fetched.url}") from error
