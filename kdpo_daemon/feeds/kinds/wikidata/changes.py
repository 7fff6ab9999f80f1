"""Recent changes of a wiki -> the items whose watched properties may have changed.

`api.php?action=query&list=recentchanges`, oldest first, from where the poll before stopped.  The
times are the wiki's own, so that its clock and ours may differ.  A change that is listed twice
does no harm; its item is only looked at again.  Does not look at the items.
"""

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from urllib.parse import urlencode

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.texts import clean
from kdpo_daemon.feeds.kinds import Poll, Reading, as_json
from kdpo_daemon.feeds.kinds.wikidata.watch import PLACE, WatchList
from kdpo_daemon.records.intake import Feed, Fetched, Page

#: Changes in one answer; more is for bots that are logged in.
_AT_ONCE = 500
# A change may show up in the list a little after its own time.
_LATE = timedelta(seconds=30)
_COMMON = {"action": "query", "format": "json", "formatversion": "2", "maxlag": "5"}
_BUSY = frozenset({"maxlag", "ratelimited", "readonly"})
_ITEM = re.compile(r"(?:\w+:)?(Q\d{1,18})")
#: Namespaces of items: on Wikidata, elsewhere.
_NAMESPACES = (0, 120)
# Wikibase itself writes the beginning of a comment.
_NO_STATEMENTS = re.compile(
    r"/\* (?:wbset(?:label|description|alias|sitelink)|wblinktitles|clientsitelink"
    r"|wbeditentity-update-languages(?:-short)?:)"
)
_STATEMENT = re.compile(r"/\* wb(?:set|create|remove)(?:claim|qualifier|reference)")
_PROPERTY = re.compile(r"\[\[Property:(P\d+)")
# What is remembered: the time up to which all was seen, and where within the next stretch.
_START, _CONTINUE = "start", "continue"


def url_of(watched: WatchList) -> str:
    """Give the URL that a poll begins with: it asks what time it is there."""
    return f"{watched.api}?{urlencode(_COMMON | {'curtimestamp': '1'})}"


def read(
    feed: Feed,
    watched: WatchList,
    properties: Collection[str],
    fetched: Fetched,
    page: Page,
    poll: Poll,
) -> Reading:
    """Give the pages of the items to look at, and in `values` where to go on next time.

    The first poll only notes what time it is there.

    Raises:
        SourceError: the wiki is busy, or answers with something else; then nothing has moved on.

    """
    end = _stamp(feed, _answer(feed, fetched.url, fetched.body or b""))
    start, going_on = page.values.get(_START, end), page.values.get(_CONTINUE, "")
    follow: dict[str, Page] = {}
    for _ in range(ceil(watched.max_changes / _AT_ONCE) if start < end else 0):
        url = _changes_url(watched, start, end, going_on)
        answer = _answer(feed, url, poll.ask(url))
        for change in answer.get("query", {}).get("recentchanges", []):
            item = _item_of(change, properties)
            if item:
                follow.setdefault(item, _page(feed, item, int(change["old_revid"])))
        going_on = clean(str(answer.get("continue", {}).get("rccontinue", "")))
        if not going_on:
            start = end
            break
    position = {_START: start, _CONTINUE: going_on}
    return Reading([], position, follow=tuple(follow.values()))


def _changes_url(watched: WatchList, start: str, end: str, going_on: str) -> str:
    asked = {
        "list": "recentchanges",
        "rcdir": "newer",
        "rctype": "edit",
        "rcprop": "ids|title|timestamp|comment",
        "rclimit": str(min(_AT_ONCE, watched.max_changes)),
        "rcstart": start,
        "rcend": end,
    }
    more = {"rccontinue": going_on} if going_on else {}
    return f"{watched.api}?{urlencode(_COMMON | asked | more)}"


def _answer(feed: Feed, url: str, body: bytes) -> dict[str, Any]:
    """Give what the API says; SourceError if that is an error, or that the wiki is busy."""
    read: Any = as_json(feed.name, url, body)
    if not isinstance(read, dict) or "error" in read:
        error = read.get("error") if isinstance(read, dict) else None
        said = error if isinstance(error, dict) else {}
        raise _refused(feed, said)
    return read


def _refused(feed: Feed, error: dict[str, Any]) -> SourceError:
    code = str(error.get("code", ""))
    lag = error.get("lag")
    return SourceError(
        clean(f"was answered with {code or 'no object'}: {error.get('info', '')}", 200),
        subject=f"feed {feed.name}",
        hint="it goes on where it was" if code in _BUSY else "look at its `api`",
        retry_after=max(5.0, float(lag)) if isinstance(lag, int | float) else None,
        busy=code in _BUSY,
    )


def _stamp(feed: Feed, answer: dict[str, Any]) -> str:
    """Give the time up to which the list is complete, as the wiki writes it."""
    try:
        now = datetime.fromisoformat(str(answer.get("curtimestamp")))
    except ValueError as error:
        why = "does not say what time it is"
        raise SourceError(why, subject=f"feed {feed.name}", hint="look at its `api`") from error
    return f"{now - _LATE:%Y-%m-%dT%H:%M:%SZ}"


def _item_of(change: dict[str, Any], properties: Collection[str]) -> str:
    """Give the item whose watched statements a change may have touched, or ""."""
    found = _ITEM.fullmatch(str(change.get("title", "")))
    if not found or change.get("ns") not in _NAMESPACES:
        return ""
    comment = str(change.get("comment", ""))
    if _NO_STATEMENTS.match(comment):
        return ""
    named = _PROPERTY.findall(comment) if _STATEMENT.match(comment) else []
    return found[1] if not named or set(named) & set(properties) else ""


def _page(feed: Feed, item: str, revision: int) -> Page:
    url = feed.url.replace(PLACE, item)
    mark = "&" if "?" in url else "?"
    return Page(url, before=f"{url}{mark}revision={revision}")
