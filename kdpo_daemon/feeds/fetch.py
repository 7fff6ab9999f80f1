"""A feed's URL -> bytes, "unchanged", or a SourceError that says what to do.

Whoever controls a feed controls every byte that arrives here, so size, time and addresses are
bounded.  Speaks httpcore, the layer under httpx, for its network backend (see `network`); asks
for gzip and inflates it itself, since a decoder that hands out a whole decompressed piece at once
would let a bomb through.  Does not parse.  The resolver's own time is the only wait not bounded.
"""

import re
import ssl
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import urlsplit

import httpcore
import httpx

from kdpo_daemon import __version__
from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.network import Guard
from kdpo_daemon.records.intake import Feed, Fetched

_OK, _NOT_MODIFIED, _GONE, _TOO_MANY, _UNAVAILABLE = 200, 304, 410, 429, 503
# Wikibase says 400 for a revision at which an entity was merged into another
_MISSING = (400, 404)
_REDIRECTS = (301, 302, 303, 307, 308)
_PERMANENT = (301, 308)
_LONGEST_URL = 2000  #: that is remembered
_TELL = "tell its publisher"
_PORTS = 65536


@dataclass(frozen=True)
class FetchPolicy:
    """How feeds are polled."""

    connect_s: float = 10.0  #: longest wait for a connection
    read_s: float = 20.0  #: longest silence of a server
    total_s: float = 60.0  #: longest poll of one feed, redirects and body included
    max_bytes: int = 15 * 1024 * 1024  #: largest document, decompressed
    max_redirects: int = 5
    max_entries: int = 500  #: entries read from one document; the rest is left out
    longest_wait_s: int = 24 * 3600  #: neither back-off nor a publisher's wish delays more
    at_once: int = 8  #: feeds polled at the same time; never two of one host
    max_followed: int = 100  #: documents that a poll may read because another one names them
    contact: str = ""  #: mail address or web page that publishers see in the User-Agent


def fetch(feed: Feed, policy: FetchPolicy, *, now: datetime) -> Fetched:
    """Poll a feed, conditionally if its server gave us something to refer to.

    Returns:
        The document, or a body of None when the server says that nothing changed.

    Raises:
        SourceError: naming the feed, what went wrong, and what to do.

    """
    guard = Guard(feed, policy.total_s)
    with httpcore.ConnectionPool(ssl_context=_tls(), network_backend=guard) as pool:
        try:
            return _follow(pool, feed, policy, now)
        except httpcore.TimeoutException as error:
            what = f"took longer than {policy.total_s:g} s" if guard.late else "fell silent"
            raise _failed(feed, what, "it is tried again later; see [fetch] total_s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _failed(feed, f"broke off: {error}", "check its URL and the network") from error


def host_of(feed: Feed) -> str:
    """Give the host and port that a feed is fetched from: what must not be asked too often."""
    return urlsplit(feed.address).netloc.lower()


@cache
def _tls() -> ssl.SSLContext:
    # reading the certificates takes longer than most polls
    return httpx.create_ssl_context()


# ---------------------------------------------------------------- one request after another


def _follow(
    pool: httpcore.ConnectionPool, feed: Feed, policy: FetchPolicy, now: datetime
) -> Fetched:
    """Ask, and ask again where a redirect leads; each address is checked like the first."""
    timeouts = {"connect": policy.connect_s, "read": policy.read_s, "write": policy.read_s}
    url: httpx.URL | None = None
    location, for_good = feed.url, True
    for _ in range(policy.max_redirects + 1):
        before, url = url, _joined(url, location, feed)
        for_good = for_good and _may_be_kept(url, before)
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        asking = _headers(url, feed, policy)
        with pool.stream(
            "GET", target, headers=asking, extensions={"timeout": timeouts}
        ) as answer:
            headers = httpx.Headers(answer.headers)
            if answer.status not in _REDIRECTS:
                moved_to = str(url) if before and for_good else None
                _raise_for_status(answer.status, headers, feed, now, moved_to)
                body = _body(answer, headers, feed, policy) if answer.status == _OK else None
                return replace(_fetched(str(url), body, headers, feed), moved_to=moved_to)
            for_good = for_good and answer.status in _PERMANENT
            location = headers.get("location", "")
    raise _failed(feed, f"redirects more than {policy.max_redirects} times", "check its URL")


def _joined(base: httpx.URL | None, location: str, feed: Feed) -> httpx.URL:
    """Give where a redirect from `base` leads, or the feed's own URL, checked."""
    try:
        url = base.join(location) if base else httpx.URL(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise _failed(
            feed, f"has a URL that cannot be read: {error}", "correct the URL"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        what = f"leads to a URL of scheme {url.scheme!r}"
        raise _failed(feed, what, "only http and https are polled; check its URL")
    if not 0 < (url.port or 80) < _PORTS:
        raise _failed(feed, f"leads to port {url.port}, which no server has", "check its URL")
    if url.userinfo:
        raise _failed(feed, "has a name or password in its URL", "remove it: it would be logged")
    return url


def _may_be_kept(url: httpx.URL, before: httpx.URL | None) -> bool:
    """Tell whether a redirect may be remembered: one away from https would never be undone."""
    safe = before is None or before.scheme != "https" or url.scheme == "https"
    return safe and len(str(url)) <= _LONGEST_URL


def _headers(url: httpx.URL, feed: Feed, policy: FetchPolicy) -> list[tuple[bytes, bytes]]:
    contact = f" (+{policy.contact})" if policy.contact else ""
    headers = {
        "Host": url.netloc.decode("ascii"),
        "User-Agent": f"kdpo-daemon/{__version__}{contact}",
        "Accept": "application/atom+xml, application/rss+xml, application/feed+json, */*;q=0.5",
        "Accept-Encoding": "gzip",
        "Connection": "close",
    }
    if feed.etag:
        headers["If-None-Match"] = feed.etag
    if feed.last_modified:
        headers["If-Modified-Since"] = feed.last_modified
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _raise_for_status(
    status: int, headers: httpx.Headers, feed: Feed, now: datetime, moved_to: str | None
) -> None:
    if status in (_OK, _NOT_MODIFIED):
        return
    if status == _GONE:
        raise SourceError(
            "is gone for good (410)",
            subject=f"feed {feed.name}",
            hint="it will not be polled again; look for its successor",
            gone=True,
            moved_to=moved_to,
        )
    retry_after = _retry_after(headers.get("retry-after", ""), now)
    busy = status in (_TOO_MANY, _UNAVAILABLE)
    if busy:
        hint = "it is polled again when the server allows it; raise its interval if this goes on"
    else:
        hint = "check its URL, and whether it needs a key or a contact in [fetch] contact"
    raise SourceError(
        f"was answered with status {status}",
        subject=f"feed {feed.name}",
        hint=hint,
        retry_after=retry_after,
        busy=busy,
        missing=status in _MISSING,
    )


def _body(
    answer: httpcore.Response, headers: httpx.Headers, feed: Feed, policy: FetchPolicy
) -> bytes:
    """Read and inflate piece by piece: neither a bomb nor an endless body fills the memory."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise _failed(feed, f"is encoded as {encoding!r}, which was not asked for", _TELL)
    inflater = zlib.decompressobj(wbits=31) if encoding.endswith("gzip") else None
    body = bytearray()
    for piece in answer.iter_stream():
        room = policy.max_bytes - len(body) + 1
        try:
            body += inflater.decompress(piece, room) if inflater else piece
        except zlib.error as error:
            raise _failed(feed, f"is not the gzip that it says: {error}", _TELL) from error
        if len(body) > policy.max_bytes:
            hint = "raise [fetch] max_bytes if it is meant to be so large"
            raise _failed(feed, f"is larger than {policy.max_bytes} bytes", hint)
    if inflater and not inflater.eof:
        raise _failed(feed, "was cut short", "try again later")
    return bytes(body)


def _fetched(url: str, body: bytes | None, headers: httpx.Headers, feed: Feed) -> Fetched:
    # `Expires: 0` comes from servers whose validators are made up for each answer
    volatile = headers.get("expires", "").strip() == "0"
    # a 304 need not repeat what we hold
    held = (feed.etag, feed.last_modified) if body is None else (None, None)
    return Fetched(
        url=url,
        body=body,
        content_type=headers.get("content-type", ""),
        etag=None if volatile else _short(headers.get("etag")) or held[0],
        last_modified=None if volatile else _short(headers.get("last-modified")) or held[1],
        max_age=_max_age(headers.get("cache-control", "")),
    )


def _short(header: str | None) -> str | None:
    """Give a validator that is worth keeping: a publisher may send any length."""
    return header if header and len(header) <= 500 else None


def _max_age(cache_control: str) -> float | None:
    if re.search(r"\bno-(?:cache|store)\b", cache_control, re.IGNORECASE):
        return None
    found = re.search(r"\bmax-age\s*=\s*\"?(\d{1,10})\b", cache_control, re.IGNORECASE)
    return float(found[1]) if found else None


def _retry_after(header: str, now: datetime) -> float | None:
    """Give the seconds of a Retry-After header, which holds seconds or a date."""
    if re.fullmatch(r"\d{1,10}", header.strip()):
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # a time zone may have any number of digits
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def _failed(feed: Feed, message: str, hint: str) -> SourceError:
    return SourceError(message, subject=f"feed {feed.name}", hint=hint)
