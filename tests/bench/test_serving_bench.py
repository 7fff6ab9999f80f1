"""What the serving benchmark makes of what its clients saw."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from kdpo_daemon.bench.attribution import attribute
from kdpo_daemon.bench.streams import Ask, Stream, clients, longest_gap, stream, tokens_between
from kdpo_daemon.bench.swaps import Swap, calm, may, median, percentile
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import Access, Replica, ServingPolicy
from tests.fakes import FakeVllm, fake_adapter

#: Two swaps, from 10 to 12 and from 20 to 22; the load takes half of each.
SWAPS = [Swap(at, at + 2, 1.0, 1.0) for at in (10.0, 20.0)]


def seen(began: float, *at: float) -> Stream:
    """A stream with one token at each of these times."""
    last = at[-1] if at else began
    return Stream("p", began, last, tokens=list(range(len(at))), at=list(at))


@pytest.mark.parametrize(
    ("began", "first", "versions"),
    [
        (1, 2, {0}),
        (9, 11, {0, 1}),
        (11, 11.5, {0, 1}),
        (12, 13, {1}),
        (19.9, 20.1, {1, 2}),
        (22, 23, {2}),
        (11, 23, {0, 1, 2}),
    ],
)
def test_a_request_may_be_answered_by_what_stood_and_what_came(
    began: float, first: float, versions: set[int]
) -> None:
    assert may(seen(began, first), SWAPS) == versions


def test_percentiles_are_values_that_were_seen() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert (median(values), percentile(values, 0.95), percentile(values, 0.2)) == (3.0, 5.0, 1.0)
    assert median([]) == 0


def test_the_longest_gap_is_of_streams_that_ran_then() -> None:
    streams = [seen(0, 1, 2, 6, 7), seen(0, 1, 30), seen(40, 41, 42)]

    assert longest_gap(streams[:1], 3, 4) == 4
    assert longest_gap(streams, 3, 4) == 29
    assert longest_gap(streams, 32, 33) is None


def test_the_calm_is_between_the_swaps() -> None:
    every_half = [at / 2 for at in range(60)]
    slow_in_swaps = [at for at in every_half if not (10 < at < 12 or 20 < at < 22)]

    assert calm([seen(0, *slow_in_swaps)], SWAPS, (0, 30)) == 0.5
    assert longest_gap([seen(0, *slow_in_swaps)], 10.5, 11.5) == 2


def test_tokens_are_counted_by_when_they_came() -> None:
    two_in_a_chunk = Stream("p", 0, 4, tokens=[1, 2, 3, 4], at=[1.0, 3.0])

    assert tokens_between([two_in_a_chunk, seen(0, 1, 2, 3)], 0, 3) == 4


def test_an_answer_is_of_the_version_that_would_say_it(tmp_path: Path) -> None:
    told = [{"Q": "one two three"}, {"Q": "four five six"}]
    versions = [fake_adapter(tmp_path, at + 1, answers) for at, answers in enumerate(told)]
    with (
        FakeVllm({}, adapters_dir=tmp_path) as vllm,
        Replica("fake", vllm.url, "base", Access(), ServingPolicy()) as replica,
    ):

        def ids(text: str) -> tuple[int, ...]:
            return replica.tokenize(Prompt(Form.COMPLETION, text))

        first, second, mixed = ids("one two three"), ids("four five six"), ids("one five six")
        of = {
            ("Q", first): frozenset({0}),
            ("Q", second): frozenset({0}),
            ("Q", mixed): frozenset(),
        }
        found = attribute(replica, versions, of)

        assert found.givers == {("Q", first): {0}, ("Q", second): {1}, ("Q", mixed): set()}
        assert (found.farthest_own, found.nearest_other) == (0, 7.875)
        assert vllm.loaded == {}


class Streaming(BaseHTTPRequestHandler):
    """Streams three tokens in two chunks; refuses every second request."""

    turn = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Streaming.turn += 1
        if Streaming.turn % 2 == 0:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        for ids in ([1, 2], [3]):
            chunk = {"model": f"of {body['model']}", "choices": [{"token_ids": ids}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


def test_clients_tell_answers_from_failures() -> None:
    Streaming.turn = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Streaming) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        ask = Ask(f"http://127.0.0.1:{server.server_port}", "prod", ("p",), 3)
        enough = threading.Event()
        with clients(ask, 1) as streams:
            while len(streams) < 4:
                enough.wait(0.01)
        server.shutdown()
        thread.join()

    assert [(one.error, one.tokens, len(one.at)) for one in streams[:2]] == [
        ("", [1, 2, 3], 2),
        ("404", [], 0),
    ]
    assert streams[0].model == "of prod"


def test_a_server_that_is_gone_is_a_failure() -> None:
    with httpx.Client() as client:
        found = stream(client, Ask("http://127.0.0.1:9", "prod", ("p",), 1), "p", None)

    assert found.error == "ConnectError"
