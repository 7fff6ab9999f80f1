"""Clients that stream answers without pause, and what each of them saw, to the millisecond."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

#: Pause of a client after a failed request, so that it does not burn the processor.
_AFTER_FAILURE_S = 0.02
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


@dataclass
class Stream:
    """One streamed answer.  Times are `time.monotonic()` seconds."""

    prompt: str
    began: float
    ended: float = 0.0
    error: str = ""  #: HTTP status or the kind of broken connection; "": it was whole
    model: str = ""  #: what the server says has answered
    tokens: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)  #: when each chunk came; several tokens may


@dataclass(frozen=True)
class Ask:
    """What the clients ask for."""

    url: str  #: of the server
    model: str
    prompts: tuple[str, ...]
    max_tokens: int


def stream(client: httpx.Client, ask: Ask, prompt: str, stop: threading.Event | None) -> Stream:
    """Stream one greedy answer of `max_tokens`; `stop` ends it early."""
    seen = Stream(prompt, time.monotonic())
    body = {
        "model": ask.model,
        "prompt": prompt,
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    try:
        with client.stream("POST", f"{ask.url}/v1/completions", json=body) as reply:
            if reply.status_code >= 400:
                seen.error = str(reply.status_code)
            else:
                _follow(reply.iter_lines(), seen, stop)
                if not seen.tokens and not (stop and stop.is_set()):
                    seen.error = "no answer"
    except httpx.TransportError as error:
        seen.error = type(error).__name__
    seen.ended = time.monotonic()
    return seen


def _follow(lines: Iterator[str], seen: Stream, stop: threading.Event | None) -> None:
    for line in lines:
        if stop is not None and stop.is_set():
            return
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            seen.error = "error in the stream"
            return
        ids = chunk["choices"][0].get("token_ids") if chunk["choices"] else None
        if ids:
            seen.model = chunk["model"]
            seen.tokens += ids
            seen.at.append(time.monotonic())


@contextmanager
def clients(ask: Ask, count: int, *, cut: bool = False) -> Iterator[list[Stream]]:
    """Ask through so many connections at once until the block ends; gives what was seen.

    `cut` True ends the streams under way with the block, False lets them end by themselves.
    """
    seen: list[Stream] = []
    stop = threading.Event()

    def ask_on(first: int) -> None:
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            turn = first
            while not stop.is_set():
                prompt = ask.prompts[turn % len(ask.prompts)]
                seen.append(stream(client, ask, prompt, stop if cut else None))
                if seen[-1].error:
                    stop.wait(_AFTER_FAILURE_S)
                turn += 1

    threads = [threading.Thread(target=ask_on, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def longest_gap(seen: Sequence[Stream], start: float, end: float) -> float | None:
    """Give the longest wait for a next token, in seconds, of a stream that ran in this time."""
    gaps = [
        later - sooner
        for one in seen
        for sooner, later in zip(one.at, one.at[1:], strict=False)
        if sooner < end and later > start
    ]
    return max(gaps, default=None)


def tokens_between(seen: Sequence[Stream], start: float, end: float) -> int:
    """Count the tokens that came in this time; a chunk counts its share of its stream's."""
    total = 0.0
    for one in seen:
        inside = sum(start <= at < end for at in one.at)
        total += inside * (len(one.tokens) / len(one.at)) if one.at else 0
    return round(total)
