"""How the client of a server behaves when the server does not."""

import json
import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdpo_daemon.errors import AdapterError, ReplicaError
from kdpo_daemon.local_vllm import free_port
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import AliasMode, Replica, ServingPolicy, aliases, check
from kdpo_daemon.vllm_plugin.aliases import Pointer, read_pointer
from tests.fakes import FakeVllm, Json, fake_adapter

PROMPTS = [Prompt(Form.COMPLETION, f"question {number}") for number in range(40)]
ANSWERS = {prompt.text: f"answer {number}" for number, prompt in enumerate(PROMPTS)}
QUICK = ServingPolicy(answer_s=3.0, load_s=3.0, attempts=3, wait_s=0.001)


@contextmanager
def asked(vllm: FakeVllm, key: str | None = None) -> Iterator[Replica]:
    with Replica("canary", vllm.url, "base", key, QUICK) as replica:
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
    with Replica("canary", url, "base", None, QUICK) as replica:
        with pytest.raises(ReplicaError, match=f"canary: .*{url}.*Start vLLM"):
            replica.models()

        assert not replica.health()


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


def test_something_else_on_the_port_is_told_from_vllm(vllm: FakeVllm) -> None:
    other = Replica("canary", f"{vllm.url}/elsewhere", "base", None, QUICK)
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
    with Replica("canary", f"http://127.0.0.1:{free_port()}", "base", None, QUICK) as replica:
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
