"""Connections to feeds: only to public addresses, and never longer than one deadline.

Why at this level: a name may resolve to another address each time it is asked, so the address to
check is the one that is connected to; and a server that drips one byte at a time never trips a
timeout per read, so each read gets only what is left of the whole.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable

import httpcore

from kdpo_daemon.errors import SourceError
from kdpo_daemon.records.intake import Feed

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Where in an address the IPv4 one stands is each network's own choice.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Tell whether a feed may be fetched from a numeric address.

    Private and loopback addresses want the feed's permission.  Link-local ones never get it:
    clouds hand out credentials there.
    """
    ip = _embedded(ipaddress.ip_address(address))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return allow_private or _is_public(ip)


def _is_public(ip: _Address) -> bool:
    # ipaddress counts as global what is only out of use: `::127.0.0.1`, `fec0::1`
    unused = ip.is_reserved or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local)
    return ip.is_global and not unused and ip not in _LOCAL_NAT64


def _embedded(ip: _Address) -> _Address:
    """Give the IPv4 address inside an IPv6 one that only wraps it."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


class Guard(httpcore.NetworkBackend):
    """Resolves, checks, and connects to the very address that was checked."""

    def __init__(self, feed: Feed, total_s: float) -> None:
        self._feed = feed
        self._deadline = time.monotonic() + total_s
        self._inner = httpcore.SyncBackend()

    @property
    def late(self) -> bool:
        """Whether the deadline is over."""
        return time.monotonic() >= self._deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first allowed address of a host that answers."""
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self._allowed(host, port):
            try:
                stream = self._inner.connect_tcp(
                    address, port, self.within(timeout), local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
            else:
                return _Bounded(stream, self)
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def _allowed(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceError(
                f"its host {host!r} cannot be resolved: {error}",
                subject=f"feed {self._feed.name}",
                hint="check its URL and the name server",
            ) from error
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        private = self._feed.allow_private
        allowed = [one for one in addresses if is_allowed(one, allow_private=private)]
        if not allowed:
            raise SourceError(
                f"its host {host!r} has the address {addresses[0]}, which is not public",
                subject=f"feed {self._feed.name}",
                hint="if that is meant, add the feed with --allow-private",
            )
        return allowed

    def within(self, timeout: float | None) -> float:
        """Give a timeout that ends with the deadline.  ReadTimeout if that is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return left if timeout is None else min(timeout, left)


class _Bounded(httpcore.NetworkStream):
    """A connection whose every wait ends with the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._guard.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._guard.within(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        within = self._guard.within(timeout)
        return _Bounded(self._inner.start_tls(ssl_context, server_hostname, within), self._guard)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
