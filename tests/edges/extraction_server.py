"""A local endpoint that answers as it is told, in the shape of OpenAI's chat completions."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Writes the whole answer to a request's handler; gets what was asked.
Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Endpoint:
    """A running endpoint: its answer, and every request it saw."""

    port: int
    answer: Answer
    seen: list[dict[str, Any]] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def content(text: str, status: int = 200) -> Answer:
    """Answer with a message of this content."""

    def answer(to: BaseHTTPRequestHandler, _asked: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": text}
        send(to, status, {"model": "m", "choices": [{"index": 0, "message": message}]})

    return answer


def facts(*said: dict[str, object]) -> Answer:
    """Answer with facts, as the schema wants them."""
    return content(json.dumps({"facts": list(said)}))


def refuses(status: int, message: str = "no") -> Answer:
    """Answer with an error."""

    def answer(to: BaseHTTPRequestHandler, _asked: dict[str, Any]) -> None:
        send(to, status, {"error": {"message": message, "code": status}})

    return answer


def send(to: BaseHTTPRequestHandler, status: int, body: object) -> None:
    raw = json.dumps(body).encode()
    to.send_response(status)
    to.send_header("Content-Type", "application/json")
    to.send_header("Content-Length", str(len(raw)))
    to.end_headers()
    to.wfile.write(raw)


@contextmanager
def running(answer: Answer) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.seen.append({"path": self.path, **asked})
            endpoint.bearers.append(self.headers.get("Authorization", ""))
            # the client hangs up on what takes too long
            with suppress(BrokenPipeError, ConnectionResetError):
                endpoint.answer(self, asked)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        endpoint = Endpoint(httpd.server_address[1], answer)
        httpd.kdpo_closing = endpoint.closing  # type: ignore[attr-defined]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.closing.set()
            httpd.shutdown()
            thread.join()
