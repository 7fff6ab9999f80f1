"""A local feed server that misbehaves as it is told: one function per path writes the answer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class FeedServer:
    """A running server: what it answers by path, and the headers of every request it saw."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a status, a body and headers (`Retry_After` stands for Retry-After)."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    return answer


def raw(pieces: Callable[[], Iterator[bytes]]) -> Answer:
    """Write pieces to the socket as they are, for as long as the other side listens."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        for piece in pieces():
            to.wfile.write(piece)
            to.wfile.flush()

    return answer


@contextmanager
def running() -> Iterator[FeedServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append({"path": self.path, **dict(self.headers.items())})
            # the client hangs up on what it does not want
            with suppress(BrokenPipeError, ConnectionResetError):
                server.answers[self.path](self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        server = FeedServer(httpd.server_address[1])
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            httpd.shutdown()
            thread.join()
