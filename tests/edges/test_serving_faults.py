"""How the client of a server behaves when the server does not."""

import json
import logging
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kdpo_daemon.errors import AdapterError, ReplicaError
from kdpo_daemon.local_vllm import free_port
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import Access, AliasMode, Replica, ServingPolicy, aliases, check
from kdpo_daemon.serving.line import Call
from kdpo_daemon.vllm_plugin.aliases import Pointer, read_pointer
from tests.fakes import FakeVllm, Json, fake_adapter

PROMPTS = [Prompt(Form.COMPLETION, f"question {number}") for number in range(40)]
ANSWERS = {prompt.text: f"answer {number}" for number, prompt in enumerate(PROMPTS)}
QUICK = ServingPolicy(answer_s=3.0, load_s=3.0, attempts=3, wait_s=0.001)


@contextmanager
def asked(vllm: FakeVllm, key: str | None = None) -> Iterator[Replica]:
    with Replica("canary", vllm.url, "base", Access(key), QUICK) as replica:
        yield replica


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[FakeVllm]:
    with FakeVllm(ANSWERS, adapters_dir=tmp_path) as server:
        yield server


@pytest.fixture
def replica(vllm: FakeVllm) -> Iterator[Replica]:
    with asked(vllm) as one:
        yield one


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    named = pytest.raises(ReplicaError, match=f"canary: .*{url}.*Start vLLM")
    with Replica("canary", url, "base", Access(), QUICK) as replica, named:
        replica.models()


def test_a_passing_server_error_is_not_noticed(vllm: FakeVllm, replica: Replica) -> None:
    vllm.fail("/v1/completions", status=503, times=2)

    assert replica.answer("base", PROMPTS[:1], 8) == [" answer 0"]


def test_a_lasting_server_error_is_reported_after_the_last_attempt(
    vllm: FakeVllm, replica: Replica
) -> None:
    vllm.fail("/v1/completions", status=500, times=99, message="engine dead")

    with pytest.raises(ReplicaError, match="500 engine dead") as caught:
        replica.answer("base", PROMPTS[:1], 8)

    assert caught.value.status == 500
    assert len(vllm.asked("/v1/completions")) == 3


def test_a_refusal_of_the_request_is_not_repeated(vllm: FakeVllm, replica: Replica) -> None:
    with pytest.raises(ReplicaError, match="does not exist"):
        replica.answer("nobody", PROMPTS[:1], 8)

    assert len(vllm.asked("/v1/completions")) == 1


def test_an_adapter_that_the_engine_refuses_is_offered_once(
    vllm: FakeVllm, replica: Replica, tmp_path: Path
) -> None:
    adapter = fake_adapter(tmp_path, 1, {}, rank=65)

    with pytest.raises(ReplicaError, match="greater than max_lora_rank 64") as caught:
        replica.load(adapter.name, adapter.path)

    assert caught.value.hint == "Start vLLM with --max-lora-rank 128"
    assert len(vllm.asked("/v1/load_lora_adapter")) == 1


def test_a_hanging_server_is_left_at_the_deadline(vllm: FakeVllm, replica: Replica) -> None:
    vllm.hang("/v1/completions", times=3)

    with pytest.raises(ReplicaError, match="no answer in time"):
        replica.answer("base", PROMPTS[:1], 8)


def test_a_broken_connection_is_tried_again(vllm: FakeVllm, replica: Replica) -> None:
    vllm.drop("/tokenize", times=2)

    assert len(replica.tokenize(PROMPTS[0])) == 2


def test_a_load_whose_reply_got_lost_counts_as_done(
    vllm: FakeVllm, replica: Replica, tmp_path: Path
) -> None:
    adapter = fake_adapter(tmp_path, 1, {})
    lost = iter([True])

    def lose_one_reply(route: str) -> None:
        if route == "/v1/load_lora_adapter" and next(lost, False):
            raise ConnectionResetError

    vllm.after = lose_one_reply

    replica.load(adapter.name, adapter.path)

    assert list(vllm.loaded) == [adapter.name]
    assert len(vllm.asked("/v1/load_lora_adapter")) == 2


def test_load_in_place_is_never_asked_for(
    vllm: FakeVllm, replica: Replica, tmp_path: Path
) -> None:
    adapter = fake_adapter(tmp_path, 1, {})

    replica.promote("prod", adapter, AliasMode.RELOAD, tmp_path)

    (body,) = vllm.asked("/v1/load_lora_adapter")
    assert body == {"lora_name": "prod", "lora_path": adapter.path}


def test_many_questions_are_answered_in_order(replica: Replica) -> None:
    assert replica.answer("base", PROMPTS, 8) == [f" answer {at}" for at in range(len(PROMPTS))]


def test_the_key_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), FakeVllm(ANSWERS, api_key="sesame") as vllm:
        with asked(vllm, "sesame") as replica:
            assert replica.answer("base", PROMPTS[:1], 8) == [" answer 0"]
        with asked(vllm, "sesame-not") as replica, pytest.raises(ReplicaError) as caught:
            replica.models()

    assert caught.value.hint == "Give the server's API key in the settings"
    assert "sesame" not in f"{caught.value!r} {caught.value} {caplog.text}"


def test_a_server_that_fails_again_and_again_is_no_more_asked(vllm: FakeVllm) -> None:
    policy = replace(QUICK, attempts=1, circuit_failures=2, circuit_s=3600)
    vllm.fail("/v1/models", status=503, times=2)
    with Replica("canary", vllm.url, "base", Access(), policy) as replica:
        for _ in range(2):
            with pytest.raises(ReplicaError, match="503"):
                replica.models()

        with pytest.raises(ReplicaError, match="failed again and again"):
            replica.models()

        assert len(vllm.requests) == 2


def test_an_open_circuit_is_not_waited_for_attempt_after_attempt(vllm: FakeVllm) -> None:
    policy = replace(QUICK, circuit_failures=1, circuit_s=8, attempts=4, wait_s=5.0)
    vllm.fail("/v1/models", status=503)
    with Replica("canary", vllm.url, "base", Access(), policy) as replica:
        with pytest.raises(ReplicaError, match="503"):
            replica._line.send_once(Call("GET", "/v1/models"))

        with pytest.raises(ReplicaError, match="again and again"):
            replica.models()


def test_refusals_leave_the_circuit_closed(vllm: FakeVllm) -> None:
    policy = replace(QUICK, circuit_failures=2, circuit_s=3600)
    with Replica("canary", vllm.url, "base", Access(), policy) as replica:
        for _ in range(4):
            with pytest.raises(ReplicaError, match="does not exist"):
                replica.answer("nobody", PROMPTS[:1], 8)

        assert replica.models()


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats its one connection as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_reply_that_only_trickles_in_is_left_at_the_deadline() -> None:
    left = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with suppress(OSError):
            for _ in range(200):
                if left.wait(0.05):
                    return
                connection.sendall(b" ")

    policy = replace(QUICK, attempts=1, look_s=0.3)
    with serving(trickle) as url, Replica("canary", f"http{url}", "base", Access(), policy) as one:
        with pytest.raises(ReplicaError, match="no answer in time"):
            one.models()
        left.set()


def says(*lines: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\r\n".join((*lines, b"")))

    return answer


def test_a_reply_that_cannot_be_decoded_is_a_broken_connection() -> None:
    zipped = (b"HTTP/1.1 200 OK", b"content-encoding: gzip", b"content-length: 4", b"", b"zip")
    policy = replace(QUICK, attempts=1)
    with serving(says(*zipped)) as url:  # noqa: SIM117
        with Replica("canary", f"http{url}", "base", Access(), policy) as one:
            with pytest.raises(ReplicaError, match="the connection broke"):
                one.models()


def test_a_redirection_is_no_load() -> None:
    moved = (b"HTTP/1.1 302 Found", b"location: /login", b"content-length: 0", b"")
    policy = replace(QUICK, attempts=1)
    with serving(says(*moved)) as url:  # noqa: SIM117
        with Replica("canary", f"http{url}", "base", Access(), policy) as one:
            with pytest.raises(ReplicaError, match="302"):
                one.load("kdpo-000001", "/adapters/kdpo-000001")


def test_a_completion_of_nothing_is_no_reply_of_vllm() -> None:
    body = b'{"model": "base", "choices": []}'
    head = (b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), b"")
    policy = replace(QUICK, attempts=1)
    with serving(says(*head, body)) as url:  # noqa: SIM117
        with Replica("canary", f"http{url}", "base", Access(), policy) as one:
            with pytest.raises(ReplicaError, match="a reply that vLLM would not give"):
                one.answer("base", PROMPTS[:1], 8)


def test_a_certificate_that_nobody_knows_is_refused_and_one_of_ours_is_not(tmp_path: Path) -> None:
    own = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, tmp_path / "key.pem")

    def models(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            body = b'{"data": [{"id": "base", "root": "/m"}]}'
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n"
            secure.sendall(head.encode() + body)

    policy = replace(QUICK, attempts=1)
    with serving(models) as url:  # noqa: SIM117
        with Replica("canary", f"https{url}", "base", Access("sesame"), policy) as one:
            with pytest.raises(ReplicaError, match="CERTIFICATE_VERIFY_FAILED"):
                one.models()
    with serving(models) as url:  # noqa: SIM117
        with Replica("canary", f"https{url}", "base", Access("x", own), policy) as one:
            assert [card.id for card in one.models()] == ["base"]


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text:
        file.write_text(text, "utf-8")

    with pytest.raises(ReplicaError, match=r"ca\.pem cannot be used"):
        Replica("canary", "https://vllm", "base", Access(None, file), QUICK)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that it signed itself, beside its key."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9"
    command += " -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


def test_something_else_on_the_port_is_told_from_vllm(vllm: FakeVllm) -> None:
    other = Replica("canary", f"{vllm.url}/elsewhere", "base", Access(), QUICK)
    with other as replica, pytest.raises(ReplicaError, match="404 Not Found"):
        replica.models()


def test_a_template_that_closes_answers_otherwise_is_refused(vllm: FakeVllm) -> None:
    class OtherTemplate(FakeVllm):
        def _render(self, messages: list[dict[str, str]], how: Json) -> list[int]:
            ids = super()._render(messages, how)
            return [99, *ids] if not how.get("add_generation_prompt") else ids

    question = Prompt(Form.CHAT, "question")
    with OtherTemplate(ANSWERS) as other, asked(other) as replica:  # noqa: SIM117
        with pytest.raises(ReplicaError, match="chat template"):
            replica.tokenize_target(question, "answer", 0)


def test_the_check_names_every_flag_that_is_missing(tmp_path: Path) -> None:
    cases = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1": FakeVllm({}, runtime_updating=False),
        "--enable-lora": FakeVllm({}, lora=False),
        "--served-model-name": FakeVllm({}, base_model="llama", adapters_dir=tmp_path),
        "KDPO_ADAPTERS": FakeVllm({}, adapters_dir=None),
    }
    for remedy, server in cases.items():
        with server as vllm, asked(vllm) as replica:
            problems = check(replica, 8, tmp_path, AliasMode.PLUGIN)
            assert remedy in " ".join(problem.hint for problem in problems)


def test_the_check_of_a_dead_server_is_one_problem(tmp_path: Path) -> None:
    with Replica("canary", f"http://127.0.0.1:{free_port()}", "base", Access(), QUICK) as replica:
        (problem,) = check(replica, 8, tmp_path, AliasMode.PLUGIN)

    assert (problem.subject, "Start vLLM" in problem.hint) == ("canary", True)


def test_the_check_names_an_adapters_directory_that_is_not_there(
    replica: Replica, tmp_path: Path
) -> None:
    (problem,) = check(replica, 8, tmp_path / "gone", AliasMode.PLUGIN)

    assert (problem.subject, "Create" in problem.hint) == (str(tmp_path / "gone"), True)


def test_the_plugin_reads_what_the_daemon_points_at(tmp_path: Path) -> None:
    adapter = fake_adapter(tmp_path, 7, {})

    aliases.point(tmp_path, "prod", adapter)

    assert read_pointer(tmp_path, "prod") == Pointer("kdpo-000007", adapter.path)
    written = aliases.pointer_path(tmp_path, "prod")
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert [path.name for path in written.parent.iterdir()] == ["prod.json"]


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    old, new = fake_adapter(tmp_path, 1, {}), fake_adapter(tmp_path, 2, {})
    aliases.point(tmp_path, "prod", old)
    (tmp_path / "aliases" / "prod.draft").mkdir()  # as good as a full disk

    with pytest.raises(AdapterError, match="alias prod"):
        aliases.point(tmp_path, "prod", new)

    pointer = json.loads(aliases.pointer_path(tmp_path, "prod").read_text())
    assert pointer["adapter"] == old.name
