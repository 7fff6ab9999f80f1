"""A wiki on loopback: its API and its entities, from recorded revisions and a list of edits."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Wiki:
    """Revisions of items, the edits that made them, and what the wiki thinks the time is."""

    port: int
    now: datetime
    most: int = 500  #: changes in one answer
    revisions: dict[int, dict[str, Any]] = field(default_factory=dict)  #: entities by revision
    current: dict[str, int] = field(default_factory=dict)  #: revision by item
    edits: list[dict[str, Any]] = field(default_factory=list)
    merged: dict[str, str] = field(default_factory=dict)
    redirects: set[int] = field(default_factory=set)  #: revisions that only pointed elsewhere
    broken: set[str] = field(default_factory=set)  #: items that give a status 500
    lag: float = 0
    status: int = 200  #: of every answer
    seen: list[str] = field(default_factory=list)  #: paths with their queries
    agents: set[str | None] = field(default_factory=set)
    asked_at_once: int = 0
    unchanged: int = 0  #: answers with status 304
    _asking: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def edit(self, entity: dict[str, Any], comment: str = "/* wbeditentity-update:0| */") -> int:
        """Save an entity as it is from now on."""
        revision = 1000 + len(self.revisions)
        item = str(entity["id"])
        self.revisions[revision] = entity | {"modified": f"{self.now:%Y-%m-%dT%H:%M:%SZ}"}
        self.list_edit(item, self.current.get(item, 0), revision, comment)
        self.current[item] = revision
        return revision

    def list_edit(self, item: str, old: int, new: int, comment: str) -> None:
        self.edits.append(
            {
                "type": "edit" if old else "new",
                "ns": 0,
                "title": item,
                "pageid": 1,
                "revid": new,
                "old_revid": old,
                "rcid": 7000 + len(self.edits),
                "timestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
                "comment": comment,
            }
        )

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    # ------------------------------------------------------------ answers

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self._asking += 1
            self.asked_at_once = max(self.asked_at_once, self._asking)
        self.seen.append(to.path)
        self.agents.add(to.headers.get("User-Agent"))
        parts = urlsplit(to.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        status, said, headers = self.status, {}, {"Retry-After": "120"}
        if status == 200:
            headers = {}
            item = parts.path.rpartition("/")[2].removesuffix(".json")
            if parts.path == "/w/api.php":
                said = self._api(query)
            else:
                status, said, headers = self._entity(to, item, int(query.get("revision", 0)))
        with self._lock:
            self._asking -= 1
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name, value)
        to.end_headers()
        if status != 304:
            to.wfile.write(json.dumps(said).encode())

    def _api(self, query: dict[str, str]) -> dict[str, Any]:
        if self.lag > float(query["maxlag"]):
            info = f"Waiting for all: {self.lag} seconds lagged."
            return {"error": {"code": "maxlag", "info": info, "lag": self.lag}}
        said: dict[str, Any] = {"batchcomplete": True}
        if "curtimestamp" in query:
            said["curtimestamp"] = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        if query.get("list") == "recentchanges":
            assert query["rcdir"] == "newer"
            rows = [
                one
                for one in self.edits
                if query["rcstart"] <= one["timestamp"] <= query["rcend"]
                and one["type"] == query["rctype"]
            ]
            first = int(query.get("rccontinue", "0|0").partition("|")[2])
            rows = [one for one in rows if one["rcid"] >= first]
            most = min(self.most, int(query["rclimit"]))
            said["query"] = {"recentchanges": rows[:most]}
            if rows[most:]:
                stamp = "".join(c for c in rows[most]["timestamp"] if c.isdigit())
                said["continue"] = {
                    "rccontinue": f"{stamp}|{rows[most]['rcid']}",
                    "continue": "-||",
                }
        return said

    def _entity(
        self, to: BaseHTTPRequestHandler, item: str, revision: int
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if item in self.broken:
            return 500, {}, {}
        if item in self.merged:
            item = self.merged[item]
        if revision in self.redirects:
            return 400, {}, {}
        number = revision or self.current.get(item, 0)
        if number not in self.revisions:
            return 404, {}, {}
        entity = self.revisions[number]
        modified = datetime.fromisoformat(entity["modified"])
        headers = {"Last-Modified": f"{modified:%a, %d %b %Y %H:%M:%S GMT}"}
        if to.headers.get("If-Modified-Since") == headers["Last-Modified"]:
            self.unchanged += 1
            return 304, {}, headers
        return 200, {"entities": {item: entity}}, headers


@contextmanager
def running(now: datetime) -> Iterator[Wiki]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wiki.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        wiki = Wiki(httpd.server_address[1], now)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield wiki
        finally:
            httpd.shutdown()
            thread.join()
