"""A vLLM server that is not one: real HTTP, the same routes and errors, a table for a model.

    with FakeVllm({"The capital of France is": "Paris"}, adapters_dir=tmp_path) as vllm:
        replica = Replica("fake", vllm.url, "base", Access(), ServingPolicy())

The model: an answer table, prompt text -> answer, the same for both forms; `DEFAULT_ANSWER` for
any other prompt.  An adapter directory may hold `fake_answers.json`, a table that goes before the
base's when that adapter is asked: this is how a fake trainer teaches.  It needs what vLLM needs
besides: `adapter_config.json` with "r", an `adapter_model.safetensors` of any content, and for
aliases a `manifest.json`.  `fake_adapter()` writes all that.

Tokens are words between blanks; the vocabulary grows as words are seen.  `END` is the end token.
Under teacher forcing the argmax at the target's position t is word t of the answer, then END;
log-probabilities are SURE for the argmax and UNLIKELY for any other token.

Faults: `fail`, `hang` and `drop` the next requests of a route.  `before(route)` and
`after(route)` are called in the server's thread around each request's work; what they raise cuts
the connection, so `after` is the case "it was done, but the reply got lost".
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.vllm_plugin.aliases import PointerError, read_pointer

DEFAULT_ANSWER = "I do not know"
SURE, UNLIKELY = -0.125, -8.0  # nats
END, USER, ASSISTANT = 0, 1, 2  # token ids

Json = dict[str, Any]


class Refusal(Exception):  # noqa: N818 - an answer of the server, not a fault of ours
    """An HTTP error reply, in vLLM's words."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body


class CutConnection(Exception):  # noqa: N818
    """The connection ends without a reply."""


def refusal(status: int, message: str) -> Refusal:
    return Refusal(status, {"error": {"message": message, "code": status}})


@dataclass(frozen=True)
class Loaded:
    """An adapter in the fake engine: its request name, its path, its table."""

    name: str
    path: str
    answers: Mapping[str, str]


@dataclass
class Fault:
    """What happens to the next `times` requests of a route."""

    route: str
    times: int
    act: Callable[[], None]


@dataclass
class FakeVllm:
    """See the module's docstring.  Use it as a context manager."""

    base_answers: Mapping[str, str]
    base_model: str = "base"
    adapters_dir: Path | None = None  #: the plugin's root; None: as if the plugin were absent
    lora: bool = True  #: started with --enable-lora
    runtime_updating: bool = True  #: started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
    max_lora_rank: int = 64
    max_loras: int = 4
    blind: bool = False  #: does not see the adapters' directory
    metrics: str = ""  #: on top of the slots, as of another engine
    api_key: str | None = None
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None
    requests: list[tuple[str, Json]] = field(default_factory=list)  #: (route, body), as they came
    loaded: dict[str, Loaded] = field(default_factory=dict)  #: by the name clients ask for

    def __post_init__(self) -> None:
        self._words: dict[str, int] = {"<end>": END, "<user>": USER, "<assistant>": ASSISTANT}
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._server = _Http(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ------------------------------------------------------------ for tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, route: str) -> list[Json]:
        """The bodies of the requests to a route, as they came."""
        return [body for asked, body in self.requests if asked == route]

    def restart(self) -> None:
        """Forget all adapters, as a vLLM that was started again."""
        self.loaded.clear()

    def fail(self, route: str, status: int = 500, times: int = 1, message: str = "fault") -> None:
        def act() -> None:
            raise refusal(status, message)

        self._faults.append(Fault(route, times, act))

    def hang(self, route: str, times: int = 1) -> None:
        """Never answer; let go when the fake is closed."""

        def act() -> None:
            self._stopped.wait()
            raise CutConnection

        self._faults.append(Fault(route, times, act))

    def drop(self, route: str, times: int = 1) -> None:
        """Cut the connection before anything is done."""

        def act() -> None:
            raise CutConnection

        self._faults.append(Fault(route, times, act))

    # ------------------------------------------------------------ the server

    def handle(self, route: str, body: Json, bearer: str) -> Json | str:
        with self._lock:
            self.requests.append((route, body))
            fault = next((f for f in self._faults if f.route == route and f.times > 0), None)
            if fault:
                fault.times -= 1
        if fault:
            fault.act()
        if self.api_key and route.startswith("/v1") and bearer != f"Bearer {self.api_key}":
            raise Refusal(401, {"error": "Unauthorized"})
        self.before(route)
        with self._lock:
            reply = self._routes(route, body)
        self.after(route)
        return reply

    def _routes(self, route: str, body: Json) -> Json | str:
        routes: dict[str, Callable[[Json], Json | str]] = {
            "/health": lambda _: "",
            "/version": lambda _: {"version": "0.32.0"},
            "/v1/models": self._models,
            "/metrics": self._metrics,
            "/tokenize": self._tokenize,
            "/v1/completions": self._complete,
            "/v1/chat/completions": self._chat,
        }
        if self.runtime_updating:
            routes["/v1/load_lora_adapter"] = self._load
            routes["/v1/unload_lora_adapter"] = self._unload
        if route not in routes:
            raise Refusal(404, {"detail": "Not Found"})
        return routes[route](body)

    def _models(self, _: Json) -> Json:
        base = {"id": self.base_model, "root": "/models/base", "parent": None}
        adapters = [
            {"id": one.name, "root": one.path, "parent": self.base_model}
            for one in self.loaded.values()
        ]
        return {"object": "list", "data": [base, *adapters]}

    def _metrics(self, _: Json) -> str:
        return f'vllm:lora_requests_info{{max_lora="{self.max_loras}"}} 1.0\n{self.metrics}'

    def _tokenize(self, body: Json) -> Json:
        self._resolve(body.get("model", self.base_model))
        if "prompt" in body:
            return {"tokens": self._ids(body["prompt"])}
        return {"tokens": self._render(body["messages"], body)}

    def _complete(self, body: Json) -> Json:
        adapter = self._resolve(body["model"])
        answers = {**self.base_answers, **(adapter.answers if adapter else {})}
        prompt = body["prompt"]
        choice: Json = {"index": 0, "text": "", "prompt_logprobs": None}
        if isinstance(prompt, str):
            choice["text"] = _cut(f" {answers.get(prompt, DEFAULT_ANSWER)}", body)
        if body.get("prompt_logprobs"):
            choice["prompt_logprobs"] = self._forced(prompt, answers)
        return {"model": adapter.name if adapter else self.base_model, "choices": [choice]}

    def _chat(self, body: Json) -> Json:
        adapter = self._resolve(body["model"])
        answers = {**self.base_answers, **(adapter.answers if adapter else {})}
        answer = answers.get(body["messages"][-1]["content"], DEFAULT_ANSWER)
        message = {"role": "assistant", "content": _cut(answer, body)}
        name = adapter.name if adapter else self.base_model
        return {"model": name, "choices": [{"index": 0, "message": message}]}

    def _load(self, body: Json) -> str:
        name, path = body["lora_name"], body["lora_path"]
        if name in self.loaded:
            raise refusal(400, f"The lora adapter '{name}' has already been loaded.")
        self.loaded[name] = self._read_adapter(name, path)
        return f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, body: Json) -> str:
        name = body["lora_name"]
        if name not in self.loaded:
            raise refusal(404, f"The lora adapter '{name}' cannot be found.")
        followed = self._follow(name)
        if followed:
            self.loaded[name] = followed
        else:
            del self.loaded[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    # ------------------------------------------------------------ the engine

    def _resolve(self, model: str) -> Loaded | None:
        """The adapter under this name, or None for the base; unknown names go to the plugin."""
        if model == self.base_model:
            return None
        if model not in self.loaded:
            found = self._follow(model)
            if found is None:
                raise refusal(404, f"The model `{model}` does not exist.")
            self.loaded[model] = found
        return self.loaded[model]

    def _follow(self, alias: str) -> Loaded | None:
        if self.adapters_dir is None or not self.runtime_updating:
            return None
        try:
            pointer = read_pointer(self.adapters_dir, alias)
        except PointerError:
            return None
        if pointer is None:
            return None
        try:
            return self._read_adapter(f"{pointer.adapter}.{alias}", pointer.path)
        except Refusal as error:
            found = f"LoRA adapter '{alias}' was found but could not be loaded."
            raise refusal(400, found) from error

    def _read_adapter(self, name: str, path: str) -> Loaded:
        failed = "Call to add_lora method failed: Worker failed with error"
        if not self.lora:
            raise refusal(500, "LoRA is not enabled. Use --enable-lora to enable LoRA.")
        try:
            seen = Path("/nowhere" if self.blind else path)
            rank = json.loads((seen / "adapter_config.json").read_text())["r"]
        except FileNotFoundError as error:
            raise refusal(
                404, f"Loading lora {name} failed: No adapter found for {path}"
            ) from error
        if rank > self.max_lora_rank:
            limit = f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}."
            raise refusal(500, f"{failed} '{limit}'")
        if not (Path(path) / "adapter_model.safetensors").exists():
            raise refusal(500, f"{failed} '{path} doesn't contain tensors'")
        table = Path(path) / "fake_answers.json"
        return Loaded(name, path, json.loads(table.read_text()) if table.exists() else {})

    # ------------------------------------------------------------ words and ids

    def _ids(self, text: str) -> list[int]:
        return [self._words.setdefault(word, len(self._words)) for word in text.split()]

    def _render(self, messages: list[dict[str, str]], how: Json) -> list[int]:
        """The chat template: <user> words <end> <assistant> words <end>."""
        ids: list[int] = []
        for message in messages:
            role = USER if message["role"] == "user" else ASSISTANT
            ids += [role, *self._ids(message["content"]), END]
        if how.get("continue_final_message"):
            return ids[:-1]
        return [*ids, ASSISTANT] if how.get("add_generation_prompt", True) else ids

    def _forced(self, ids: list[int], answers: Mapping[str, str]) -> list[Json | None]:
        """One entry per id, the first is null, as vLLM's prompt_logprobs=1."""
        said = self._said_after(ids, answers)
        expected = ids[: len(ids) - len(said)] + said
        entries: list[Json | None] = [None]
        for chosen, argmax in zip(ids[1:], expected[1:], strict=True):
            entry = {str(argmax): {"logprob": SURE, "rank": 1}}
            if chosen != argmax:
                entry[str(chosen)] = {"logprob": UNLIKELY, "rank": 2}
            entries.append(entry)
        return entries

    def _said_after(self, ids: list[int], answers: Mapping[str, str]) -> list[int]:
        """The model's own words at the positions after the longest prompt it knows."""
        best: list[int] = []
        known = 0
        for prompt, answer in answers.items():
            chat = self._render([{"role": "user", "content": prompt}], {})
            for start in (self._ids(prompt), chat):
                if known < len(start) < len(ids) and ids[: len(start)] == start:
                    known = len(start)
                    room = len(ids) - known
                    best = (self._ids(answer) + [END] * room)[:room]
        return best


class _Http(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    fake: FakeVllm

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: a client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _reply(self, body: Json) -> None:
        assert isinstance(self.server, _Http)
        try:
            bearer = self.headers.get("Authorization", "")
            status, reply = 200, self.server.fake.handle(self.path, body, bearer)
        except Refusal as error:
            status, reply = error.status, error.body
        except Exception:  # noqa: BLE001 - whatever a hook raises cuts the connection
            return
        content = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay quiet."""


def _cut(answer: str, body: Json) -> str:
    """As many words as asked for, up to the first text that stops it, which is kept."""
    words = re.findall(r"\s*\S+", answer)[: body["max_tokens"]]
    text = "".join(words)
    if stops := body.get("stop"):
        assert body["include_stop_str_in_output"]
        end = re.search("|".join(map(re.escape, stops)), text)
        return text[: end.end()] if end else text
    return text


def fake_adapter(
    adapters_dir: Path, number: int, answers: Mapping[str, str], rank: int = 8
) -> Adapter:
    """Write a version directory that the fake serves: it answers as the table says."""
    path = adapters_dir / f"kdpo-{number:06d}"
    path.mkdir(parents=True)
    (path / "fake_answers.json").write_text(json.dumps(dict(answers)))
    (path / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": rank}))
    (path / "adapter_model.safetensors").write_bytes(b"")
    files = {one.name: sha256(one.read_bytes()).hexdigest() for one in path.iterdir()}
    manifest = json.dumps({"number": number, "files": files}).encode()
    (path / "manifest.json").write_bytes(manifest)
    return Adapter(number, path.name, str(path), sha256(manifest).hexdigest(), number, None)
