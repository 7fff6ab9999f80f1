"""Polling a feed whose server may be slow, endless, lying, or not where it says."""

import gzip
import socket
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from kdpo_daemon.errors import SourceError
from kdpo_daemon.feeds.fetch import FetchPolicy, _may_be_kept, fetch
from kdpo_daemon.feeds.network import is_allowed
from kdpo_daemon.records.intake import Feed, Fetched, Trust
from tests.edges.feed_server import Answer, FeedServer, raw, running, says

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
POLICY = FetchPolicy(connect_s=2, read_s=2, total_s=5, max_bytes=100_000)
FEED = Feed(
    id=1,
    name="news",
    url="http://127.0.0.1/",
    trust=Trust.AUTO,
    every_s=3600,
    allow_private=True,
    enabled=True,
    next_poll_at=NOW,
)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with running() as server:
        yield server


def at(server: FeedServer, path: str = "/") -> Feed:
    return replace(FEED, url=server.url(path))


def refused(feed: Feed, policy: FetchPolicy = POLICY) -> SourceError:
    with pytest.raises(SourceError) as error:
        fetch(feed, policy, now=NOW)
    assert error.value.subject == "feed news"
    assert error.value.hint
    return error.value


def test_a_document_is_fetched_with_what_the_next_poll_needs(server: FeedServer) -> None:
    server.answers["/"] = says(
        200,
        b"<rss/>",
        Content_Type="text/xml; charset=utf-8",
        ETag='W/"1"',
        Last_Modified="Sun, 01 Feb 2026 00:00:00 GMT",
        Cache_Control="public, max-age=7200",
    )

    assert fetch(at(server), POLICY, now=NOW) == Fetched(
        url=server.url("/"),
        body=b"<rss/>",
        content_type="text/xml; charset=utf-8",
        etag='W/"1"',
        last_modified="Sun, 01 Feb 2026 00:00:00 GMT",
        max_age=7200.0,
    )


def test_a_publisher_sees_who_asks(server: FeedServer) -> None:
    server.answers["/"] = says(200)

    fetch(at(server), replace(POLICY, contact="ops@example.org"), now=NOW)

    assert server.seen[0]["User-Agent"].startswith("kdpo-daemon/")
    assert "(+ops@example.org)" in server.seen[0]["User-Agent"]
    assert server.seen[0]["Host"] == f"127.0.0.1:{server.port}"


def test_the_stored_validators_are_sent_and_kept_on_304(server: FeedServer) -> None:
    server.answers["/"] = says(304, Last_Modified="Mon, 02 Feb 2026 00:00:00 GMT")
    feed = replace(at(server), etag='"1"', last_modified="Sun, 01 Feb 2026 00:00:00 GMT")

    fetched = fetch(feed, POLICY, now=NOW)

    assert server.seen[0]["If-None-Match"] == '"1"'
    assert server.seen[0]["If-Modified-Since"] == "Sun, 01 Feb 2026 00:00:00 GMT"
    assert fetched.body is None
    assert (fetched.etag, fetched.last_modified) == ('"1"', "Mon, 02 Feb 2026 00:00:00 GMT")


@pytest.mark.parametrize("answer", [says(200, Expires="0", ETag='"2"'), says(200)])
def test_validators_that_are_made_up_or_missing_are_not_kept(
    server: FeedServer, answer: Answer
) -> None:
    server.answers["/"] = answer

    fetched = fetch(replace(at(server), etag='"1"'), POLICY, now=NOW)

    assert (fetched.etag, fetched.last_modified) == (None, None)


@pytest.mark.parametrize("cache_control", ["no-cache, max-age=60", "no-store", "max-age=x", ""])
def test_without_a_max_age_none_is_given(server: FeedServer, cache_control: str) -> None:
    server.answers["/"] = says(200, Cache_Control=cache_control)

    assert fetch(at(server), POLICY, now=NOW).max_age is None


def test_gzip_is_inflated(server: FeedServer) -> None:
    server.answers["/"] = says(200, gzip.compress(b"<rss/>"), Content_Encoding="gzip")

    assert fetch(at(server), POLICY, now=NOW).body == b"<rss/>"


def test_a_gzip_bomb_is_stopped_before_it_fills_the_memory(server: FeedServer) -> None:
    bomb = gzip.compress(bytes(300_000_000), compresslevel=1)
    server.answers["/"] = says(200, bomb, Content_Encoding="gzip")
    tracemalloc.start()
    try:
        error = refused(at(server))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "larger than 100000 bytes" in error.message
    assert peak < 20_000_000


def test_an_endless_body_is_stopped(server: FeedServer) -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.0 200 OK\r\n\r\n"
        while not server.closing.is_set():
            yield b"x" * 10_000

    server.answers["/"] = raw(endless)

    assert "larger than 100000 bytes" in refused(at(server)).message


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nX: "])
def test_a_server_that_drips_is_stopped_at_the_deadline(server: FeedServer, head: bytes) -> None:
    def dripping() -> Iterator[bytes]:
        yield head
        while not server.closing.wait(0.05):
            yield b"x"

    server.answers["/"] = raw(dripping)

    error = refused(at(server), replace(POLICY, total_s=0.5))

    assert "took longer than 0.5 s" in error.message


def test_a_silent_server_is_given_up(server: FeedServer) -> None:
    def silent() -> Iterator[bytes]:
        server.closing.wait(5)
        yield b""

    server.answers["/"] = raw(silent)

    assert "fell silent" in refused(at(server), replace(POLICY, read_s=0.2)).message


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<rss", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broke off"),
        (b"", "broke off"),
        (b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n<rss/>", "not the gzip"),
        (
            # without the time: it would be part of the test's name, and each worker has its own
            b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + gzip.compress(b"<rss/>", mtime=0)[:-9],
            "cut short",
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Encoding: br\r\n\r\nx", "not asked for"),
    ],
)
def test_a_broken_answer_is_refused(server: FeedServer, answer: bytes, why: str) -> None:
    server.answers["/"] = raw(lambda: iter([answer]))

    assert why in refused(at(server)).message


def test_redirects_are_followed(server: FeedServer) -> None:
    server.answers["/"] = says(301, Location="/moved")
    server.answers["/moved"] = says(302, Location=server.url("/there"))
    server.answers["/there"] = says(200, b"<rss/>")

    fetched = fetch(at(server), POLICY, now=NOW)

    assert (fetched.url, fetched.body) == (server.url("/there"), b"<rss/>")


@pytest.mark.parametrize(
    ("before", "url", "kept"),
    [
        (None, "http://a.example/", True),
        ("http://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example/", "http://a.example/" + "a" * 2000, False),
    ],
)
def test_a_permanent_redirect_is_kept_only_where_that_does_no_harm(
    before: str | None, url: str, kept: bool
) -> None:
    assert _may_be_kept(httpx.URL(url), httpx.URL(before) if before else None) is kept


@pytest.mark.parametrize("location", ["/", ""])
def test_a_redirect_loop_ends(server: FeedServer, location: str) -> None:
    server.answers["/"] = says(302, Location=location)

    assert "redirects more than 5 times" in refused(at(server)).message
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("file:///etc/passwd", "scheme 'file'"),
        ("ftp://example.org/feed", "scheme 'ftp'"),
        ("http://", "redirects"),
        ("http://a:b@example.org/", "password"),
        ("http://[::1", "cannot be read"),
        ("http://127.0.0.1:99999/", "port 99999"),
        ("http://169.254.169.254/latest/meta-data", "not public"),
    ],
)
def test_a_redirect_leads_nowhere_else(server: FeedServer, location: str, why: str) -> None:
    server.answers["/"] = says(302, Location=location)

    assert why in refused(at(server)).message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
def test_a_private_address_is_refused_however_it_is_written(server: FeedServer, host: str) -> None:
    feed = replace(FEED, url=server.url("/", host), allow_private=False)

    assert "not public" in refused(feed).message
    assert not server.seen


def test_a_redirect_to_a_private_address_is_refused(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = says(302, Location=server.url("/secret", "10.0.0.1"))
    monkeypatch.setattr(
        "kdpo_daemon.feeds.network.is_allowed", lambda address, **_: address == "127.0.0.1"
    )

    assert "10.0.0.1, which is not public" in refused(at(server)).message


def test_a_name_that_resolves_to_a_private_address_is_refused(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, "127.0.0.1")
    feed = replace(FEED, url=server.url("/", "news.example"), allow_private=False)

    assert "'news.example' has the address 127.0.0.1" in refused(feed).message
    assert not server.seen


def test_the_address_that_was_checked_is_the_one_connected_to(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = says(200, b"<rss/>")
    asked = resolves(monkeypatch, "127.0.0.1")

    fetch(replace(FEED, url=server.url("/", "news.example")), POLICY, now=NOW)

    assert asked.count("news.example") == 1  # a second answer could be another address
    assert server.seen[0]["Host"] == f"news.example:{server.port}"


def test_a_name_that_changes_between_check_and_connect_leads_nowhere_else(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = rebinds(monkeypatch, "127.0.0.2", "127.0.0.1")  # only the first one is allowed
    allow(monkeypatch, "127.0.0.2")

    error = refused(replace(FEED, url=server.url("/", "news.example")))

    assert "broke off" in error.message  # nobody listens at the address that was checked
    assert asked.count("news.example") == 1
    assert not server.seen


def test_a_name_that_changes_between_redirects_is_checked_again(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = says(302, Location="/there")
    rebinds(monkeypatch, "127.0.0.1", "10.0.0.1")
    allow(monkeypatch, "127.0.0.1")

    error = refused(replace(FEED, url=server.url("/", "news.example")))

    assert "'news.example' has the address 10.0.0.1" in error.message
    assert [seen["path"] for seen in server.seen] == ["/"]


def test_the_next_address_is_tried_when_one_does_not_answer(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/"] = says(200, b"<rss/>")
    resolves(monkeypatch, "127.0.0.2", "127.0.0.1")

    assert fetch(replace(FEED, url=server.url("/", "news.example")), POLICY, now=NOW).body


def test_a_name_that_does_not_resolve_is_refused() -> None:
    assert "cannot be resolved" in refused(replace(FEED, url="http://no.invalid/")).message


def test_a_port_that_nobody_listens_on_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

    assert "broke off" in refused(replace(FEED, url=url)).message


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.215.14", True, True),
        ("2606:2800:220:1::1", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, True),
        ("::1", False, True),
        ("fc00::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("64:ff9b::7f00:1", False, True),
        ("2002:7f00:1::", False, True),
        ("::127.0.0.1", False, True),
        ("::ffff:0:7f00:1", False, True),
        ("fec0::1", False, True),
        ("64:ff9b:1::7f00:1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - an address to refuse
        ("224.0.0.1", False, False),
    ],
)
def test_addresses_are_told_apart(address: str, public: bool, private: bool) -> None:
    assert is_allowed(address, allow_private=False) is public
    assert is_allowed(address, allow_private=True) is private


def test_a_feed_that_is_gone_says_so(server: FeedServer) -> None:
    server.answers["/"] = says(410)

    assert refused(at(server)).gone


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "120", 120.0),
        (503, "Sun, 01 Feb 2026 12:05:00 GMT", 300.0),
        (503, "Sun, 01 Feb 2026 11:00:00 GMT", 0.0),
        (429, "soon", None),
        (503, "Sun, 01 Feb 2026 12:05:00 +9999999999999999", None),
        (429, "", None),
        (404, "", None),
        (500, "", None),
        (204, "", None),
    ],
)
def test_a_refusal_keeps_its_wish(
    server: FeedServer, status: int, retry_after: str, seconds: float | None
) -> None:
    server.answers["/"] = says(status, Retry_After=retry_after)

    error = refused(at(server))

    assert str(status) in error.message
    assert error.retry_after == seconds
    assert not error.gone


def allow(monkeypatch: pytest.MonkeyPatch, only: str) -> None:
    monkeypatch.setattr(
        "kdpo_daemon.feeds.network.is_allowed", lambda address, **_: address == only
    )


def rebinds(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let a name resolve to one address after the other; give the list of names asked for."""
    asked: list[str] = []
    answers = iter(addresses)
    real = socket.getaddrinfo

    def answer(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        asked.append(host)
        if host in addresses:  # connecting to an address looks it up too
            return list(real(host, port, type=socket.SOCK_STREAM))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name resolve to these addresses; give the list of names asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        asked.append(host)
        if host in addresses:  # connecting to an address looks it up too
            return list(real(host, port, type=socket.SOCK_STREAM))
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked
