"""The demo's feed, served over HTTP on loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the demo feed; answers conditional requests with 304."""

    def log_message(self, *_: object) -> None:
        """Say nothing: the demo's output is the daemon's."""


@contextmanager
def serve_feed(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback over HTTP; gives its URL."""
    handler = partial(_Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
