"""One server's HTTP line: deadlines, bounded retries, a circuit, errors that name the remedy.

Knows nothing of what is asked; `replica.py` does.
"""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import stamina
from pydantic import BaseModel, ValidationError

from kdpo_daemon.errors import ReplicaError, UnfitError
from kdpo_daemon.serving import remedies
from kdpo_daemon.serving.circuit import Circuit

_Reply = TypeVar("_Reply", bound=BaseModel)


@dataclass(frozen=True)
class ServingPolicy:
    """How patiently and how hard a server is asked."""

    connect_s: float = 5.0  #: until the connection stands
    look_s: float = 15.0  #: until the list of models is there
    answer_s: float = 120.0  #: until one answer is complete
    load_s: float = 300.0  #: until an adapter is loaded
    attempts: int = 3  #: of a call that may be repeated, in all
    total_s: float = 180.0  #: no further attempt starts after this
    wait_s: float = 0.2  #: before the second attempt; grows, with jitter
    concurrency: int = 16  #: questions in flight at once
    circuit_failures: int = 5  #: calls in a row without an answer after which none is tried
    circuit_s: float = 15.0  #: for so long; then one is tried


@dataclass(frozen=True)
class Call:
    """One request.  `repeatable_500` says that a server error may pass when asked again."""

    method: str
    path: str
    body: Mapping[str, object] | None = None
    deadline_s: float | None = None  #: None: the policy's `answer_s`
    repeatable_500: bool = True


@dataclass(frozen=True)
class Access:
    """What it takes to be let in.  The key stays out of `repr`, logs and the database."""

    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None  #: who signed the server's certificate; None: the usual ones
    certified_as: str = (
        ""  #: name in the certificate, where the URL holds an address; "": the URL's
    )


class _NotAskedError(ReplicaError):
    """The circuit is open."""


class Line:
    """The connection to one server.  Thread-safe; close it when done."""

    def __init__(self, name: str, url: str, access: Access, policy: ServingPolicy) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._policy = policy
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {access.api_key}"} if access.api_key else {},
            verify=_trusted(name, access.ca_file),
            timeout=httpx.Timeout(policy.answer_s, connect=policy.connect_s),
            limits=httpx.Limits(
                max_connections=policy.concurrency + 4,
                # vLLM closes a connection that was idle for five seconds: let ours go before
                keepalive_expiry=2.0,
            ),
            trust_env=False,
        )
        self._extensions = {"sni_hostname": access.certified_as} if access.certified_as else {}
        self._circuit = Circuit(policy.circuit_failures, policy.circuit_s)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def ask(self, reply: type[_Reply], call: Call) -> _Reply:
        """Give the server's JSON reply, checked; anything else is a ReplicaError."""
        response = self.send(call)
        try:
            return reply.model_validate_json(response.content)
        except ValidationError as error:
            raise ReplicaError(
                f"{call.method} {call.path} gave a reply that vLLM would not give",
                subject=self.name,
                hint=f"Check that {self.url} is a vLLM server of a tested version (kdpo doctor)",
                status=response.status_code,
            ) from error

    def send(self, call: Call) -> httpx.Response:
        """Give the server's response of success, retrying what may pass."""

        def may_pass(error: Exception) -> bool:
            if not isinstance(error, ReplicaError) or isinstance(error, _NotAskedError):
                return False
            return _may_pass(error.status, call)

        attempts = stamina.retry_context(
            on=may_pass,
            attempts=self._policy.attempts,
            timeout=self._policy.total_s,
            wait_initial=self._policy.wait_s,
            wait_jitter=self._policy.wait_s,
        )
        for attempt in attempts:
            with attempt:
                return self.send_once(call)
        raise AssertionError("unreachable: the last attempt raises")  # pragma: no cover

    def send_once(self, call: Call) -> httpx.Response:
        """Give the server's response of success, asking just once."""
        wait_s = self._circuit.wait_s()
        if wait_s:
            raise _NotAskedError(
                f"{call.method} {call.path}: not asked, it has failed again and again",
                subject=self.name,
                hint=f"See its log; it is asked again in {wait_s:.0f} s",
            )
        try:
            response = self._receive(call)
        except httpx.RequestError as error:
            self._circuit.went(well=False)
            raise self._broken(call, error) from error
        self._circuit.went(well=not _may_pass(response.status_code, call))
        if not response.is_success:  # no redirection is followed either
            raise self._refused(call, response)
        return response

    def _receive(self, call: Call) -> httpx.Response:
        """Ask, and read the reply; httpx alone would wait for ever where a byte trickles in."""
        deadline = call.deadline_s or self._policy.answer_s
        timeout = httpx.Timeout(deadline, connect=min(deadline, self._policy.connect_s))
        end = time.monotonic() + deadline
        body = bytearray()
        with self._client.stream(
            call.method,
            call.path,
            json=call.body,
            timeout=timeout,
            extensions=dict(self._extensions),
        ) as response:
            for part in response.iter_bytes():
                body += part
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the reply only trickles in", request=response.request)
        headers = {"content-type": response.headers.get("content-type", "")}
        return httpx.Response(response.status_code, headers=headers, content=bytes(body))

    def _broken(self, call: Call, error: httpx.RequestError) -> ReplicaError:
        what = f"{call.method} {call.path}"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ReplicaError(
                f"{what}: no connection to {self.url} ({error})",
                subject=self.name,
                hint="Start vLLM there, or correct the server's url in the settings",
            )
        if isinstance(error, httpx.TimeoutException):
            return ReplicaError(
                f"{what}: no answer in time",
                subject=self.name,
                hint="The server is overloaded or hangs; see its log, or raise the deadline",
            )
        return ReplicaError(
            f"{what}: the connection broke ({error})",
            subject=self.name,
            hint="See the server's log: it may have stopped in the middle of the request",
        )

    def _refused(self, call: Call, response: httpx.Response) -> ReplicaError:
        status, said = response.status_code, _message(response)
        unfit = remedies.is_unfit(status, call.path, said)
        return (UnfitError if unfit else ReplicaError)(
            f"{call.method} {call.path}: {status} {said}",
            subject=self.name,
            hint=remedies.remedy(status, call.path, said),
            status=status,
        )


def _trusted(name: str, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Give what httpx checks certificates with; always something."""
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else True
    except OSError as error:
        raise ReplicaError(
            f"{ca_file} cannot be used ({error})",
            subject=name,
            hint="Name a PEM file in ca_file of this server, readable for the daemon",
        ) from error


def _may_pass(status: int | None, call: Call) -> bool:
    """No answer at all, or a server error that says nothing about the request."""
    return status is None or status in {502, 503, 504} or (status == 500 and call.repeatable_500)


def _message(response: httpx.Response) -> str:
    """What the server said, from vLLM's `error.message` or FastAPI's `detail`, shortened."""
    try:
        reply = json.loads(response.content)
        said = reply.get("error", reply)
        said = said.get("message", said.get("detail", said)) if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        said = response.text
    return " ".join(str(said).split())[:500]
