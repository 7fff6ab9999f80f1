"""Webhooks over HTTP: an address of its own, limits on what comes in, JSON for what goes out.

Decides nothing about what is posted: that is `stages.receive`.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from prometheus_client import Counter
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.stages.receive import Answer
from kdpo_daemon.telemetry import logger

#: Largest post, in bytes, and the longest that its headers, and then its body, may take to arrive.
MAX_BYTES, READ_S = 1024 * 1024, 30
#: Connections at a time: each may hold one post in memory.
_AT_ONCE = 64

#: Takes feed, headers and body.
Post = Callable[[str, Mapping[str, str], bytes], Answer]


class Receiver:
    """A server in a thread of its own, from `start` to `stop`."""

    def __init__(self, listen: str, post: Post, posts: Counter, read_s: float = READ_S) -> None:
        self._listen = listen
        self._post = post
        self._posts = posts
        self._read_s = read_s
        self._log = logger()
        config = uvicorn.Config(
            self._pages(),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_AT_ONCE,
            # one post each: who holds a connection without a word takes it from others
            http=_impatient(read_s),
            headers=[("Connection", "close")],
            timeout_graceful_shutdown=10,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen.  SettingsError if the address cannot be had."""
        bound = _bound(self._listen)
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), daemon=True, name="receiver"
        )
        self._thread.start()

    def stop(self) -> None:
        """Finish the posts in hand and take no more."""
        self._server.should_exit = True
        if self._thread:
            self._thread.join()

    def _pages(self) -> FastAPI:
        pages = FastAPI(title="kdpo_daemon", docs_url=None, redoc_url=None, openapi_url=None)

        @pages.post("/feeds/{name}")
        async def post(name: str, request: Request) -> Response:
            answer = await self._answer(name, request)
            self._posts.labels(str(answer.status.value)).inc()
            if "errors" in answer.content and answer.status != HTTPStatus.UNAUTHORIZED:
                self._log.warning("webhook.refused", feed=name, **vars(answer))
            return _response(answer)

        return pages

    async def _answer(self, name: str, request: Request) -> Answer:
        try:
            async with asyncio.timeout(self._read_s):
                body = await _body(request)
        except TimeoutError:
            return _cut(
                HTTPStatus.REQUEST_TIMEOUT,
                f"took longer than {self._read_s:g} s to arrive",
                "post it again",
            )
        except ClientDisconnect:
            return _cut(HTTPStatus.BAD_REQUEST, "was cut short", "post it again")
        if body is None:
            return _cut(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"is larger than {MAX_BYTES} bytes",
                "post it in several parts",
            )
        return await run_in_threadpool(self._post, name, request.headers, body)


def _impatient(read_s: float) -> type[H11Protocol]:
    """Give connections that end if the headers of a request do not come in time."""

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(read_s, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None:
                self.transport.close()

    return Impatient


async def _body(request: Request) -> bytes | None:
    """Read a body no further than it may be; None if it is larger."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            return None
    return bytes(body)


def _cut(status: HTTPStatus, error: str, hint: str) -> Answer:
    """Give the answer to a post that was not read to its end."""
    told = {"field": "", "error": error, "hint": hint}
    return Answer(status, {"errors": [told], "more": 0})


def _response(answer: Answer) -> Response:
    headers = {"Retry-After": str(answer.retry_after)} if answer.retry_after else {}
    return JSONResponse(dict(answer.content), answer.status, headers)


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not host or not 0 < int(port) < 65536:
            raise ValueError("it is not ADDRESS:PORT")  # noqa: TRY301
        return socket.create_server((host, int(port)), family=family)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot be listened on: {error}",
            subject=f"webhook.listen = {listen}",
            hint="give a free address and port of this machine, such as 127.0.0.1:9465",
        ) from error
