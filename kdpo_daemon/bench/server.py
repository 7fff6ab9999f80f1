"""A web site on loopback that answers as a static host does: documents with an ETag, and 304."""

import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Site:
    """Serves what was published; counts what was asked for and what was sent in full."""

    def __init__(self) -> None:
        self.asked = 0
        self.sent = 0
        self._documents: dict[str, tuple[str, bytes]] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """Give the URL of a path without its leading slash."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def publish(self, path: str, body: bytes, version: str = "") -> None:
        """Serve a document from now on; with another version, as if it were another one."""
        tag = sha256(version.encode() + body).hexdigest()[:16]
        self._documents[f"/{path}"] = (f'"{tag}"', body)

    def _answer(self, to: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        etag, body = self._documents.get(to.path, ("", b""))
        if not etag:
            to.send_error(404)
            return
        same = to.headers.get("If-None-Match") == etag
        to.send_response(304 if same else 200)
        to.send_header("ETag", etag)
        to.send_header("Content-Length", "0" if same else str(len(body)))
        to.end_headers()
        if not same:
            self.sent += 1
            to.wfile.write(body)
