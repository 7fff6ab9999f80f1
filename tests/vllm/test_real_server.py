"""What only a real vLLM can show: its tokens, its batches, its restarts."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.local_vllm import free_port, start
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import AliasMode, Replica, aliases, check
from tests.servers import MAX_LORAS, RealVllm, random_adapter

pytestmark = pytest.mark.vllm

COUNTRIES = ("France", "Italy", "Spain", "Norway", "Japan", "Egypt")
COMPLETIONS = [Prompt(Form.COMPLETION, f"The capital of {name} is") for name in COUNTRIES]
CHATS = [Prompt(Form.CHAT, f"What is the capital of {name}?") for name in COUNTRIES]
ALIAS = "prod"


@pytest.fixture
def adapters(vllm_server: RealVllm, tmp_path: Path) -> Path:
    """A new directory under the root that the server's plugin reads."""
    return vllm_server.settings.adapters_dir / tmp_path.name


@pytest.fixture
def replica(vllm_server: RealVllm) -> Iterator[Replica]:
    with vllm_server.replica() as one:
        yield one
        aliases.forget(vllm_server.settings.adapters_dir, ALIAS)
        for name in [ALIAS, *(card.id for card in one.models() if card.parent)]:
            one.unload(name)


def post(url: str, body: dict[str, object]) -> dict[str, object]:
    reply = httpx.post(url, json={"model": "base", "temperature": 0, "max_tokens": 1, **body})
    found: dict[str, object] = reply.raise_for_status().json()
    return found


def test_tokens_are_the_ones_that_a_served_request_is_computed_on(
    vllm_server: RealVllm, replica: Replica
) -> None:
    url = f"{vllm_server.settings.url}/v1"
    asked = {"prompt": COMPLETIONS[0].text, "return_token_ids": True}
    choice = post(f"{url}/completions", asked)["choices"][0]  # type: ignore[index]
    turn = [{"role": "user", "content": CHATS[0].text}]
    chat = post(f"{url}/chat/completions", {"messages": turn, "return_token_ids": True})

    assert list(replica.tokenize(COMPLETIONS[0])) == choice["prompt_token_ids"]
    assert list(replica.tokenize(CHATS[0])) == chat["prompt_token_ids"]


def test_a_chat_answer_is_made_of_the_tokens_of_its_own_text(
    vllm_server: RealVllm, replica: Replica
) -> None:
    turn = [{"role": "user", "content": CHATS[0].text}]
    asked = {"messages": turn, "return_token_ids": True, "max_tokens": 60}
    choice = post(f"{vllm_server.settings.url}/v1/chat/completions", asked)["choices"][0]  # type: ignore[index]

    target = replica.tokenize_target(CHATS[0], choice["message"]["content"], 99)

    # An answer that was cut off lacks the end of the turn, which every target has.
    end = {"stop": [], "length": [2]}[choice["finish_reason"]]
    assert list(target) == [*choice["token_ids"], *end]


def test_forced_margins_are_differences_of_the_servers_own_next_token_scores(
    vllm_server: RealVllm, replica: Replica
) -> None:
    prompt_ids = replica.tokenize(COMPLETIONS[0])
    target_ids = replica.tokenize_target(COMPLETIONS[0], "Lyon in the south", 2)

    for at, token in enumerate(replica.forced("base", prompt_ids, target_ids)):
        seen = [*prompt_ids, *target_ids[:at]]
        asked = {"prompt": seen, "logprobs": 1, "logprob_token_ids": [target_ids[at]]}
        asked |= {"return_tokens_as_token_ids": True, "return_token_ids": True}
        choice = post(f"{vllm_server.settings.url}/v1/completions", asked)["choices"][0]  # type: ignore[index]
        (scores,) = choice["logprobs"]["top_logprobs"]
        assert choice["token_ids"] == [token.argmax_id]
        margin = scores[f"token_id:{target_ids[at]}"] - scores[f"token_id:{token.argmax_id}"]
        assert token.chosen_logprob - token.argmax_logprob == pytest.approx(margin, abs=0.15)


def test_a_batch_that_fills_every_slot_leaves_the_base_model_alone(
    replica: Replica, adapters: Path
) -> None:
    versions = [random_adapter(adapters, number) for number in range(1, MAX_LORAS + 1)]
    for version in versions:
        replica.load(version.name, version.path)
    names = ["base", *(version.name for version in versions)]
    alone = {name: replica.answer(name, COMPLETIONS, 6) for name in names}

    together = ask_together(replica, names)

    # Exactly so for the base; random weights make near ties that bf16 sums tip either way.
    assert together["base"] == alone["base"]
    for name, others in ((one, names[:at] + names[at + 1 :]) for at, one in enumerate(names)):
        assert same(together[name], alone[name]) >= len(COMPLETIONS) / 2
        assert all(same(together[name], alone[other]) == 0 for other in others)


def same(some: list[str], others: list[str]) -> int:
    return sum(one == other for one, other in zip(some, others, strict=True))


def ask_together(replica: Replica, names: list[str]) -> dict[str, list[str]]:
    """Ask all models all questions at the same time."""
    with ThreadPoolExecutor(len(names) * len(COMPLETIONS)) as pool:
        asked = {
            name: [pool.submit(replica.answer, name, [prompt], 6) for prompt in COMPLETIONS]
            for name in names
        }
        return {name: [one.result()[0] for one in futures] for name, futures in asked.items()}


def test_swaps_under_load_fail_no_request_and_leave_no_old_answer(
    vllm_server: RealVllm, replica: Replica, adapters: Path
) -> None:
    versions = [random_adapter(adapters, number) for number in (1, 2)]
    root = vllm_server.settings.adapters_dir
    expected = {}
    for version in versions:
        replica.promote(ALIAS, version, AliasMode.PLUGIN, root)
        (expected[version.name],) = replica.answer(ALIAS, COMPLETIONS[:1], 4)
    answers: list[str] = []
    stale: list[str] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answers.extend(replica.answer(ALIAS, COMPLETIONS[:1], 4))

    def swap() -> None:
        for version, _ in zip(cycle(versions), range(4), strict=False):
            replica.promote(ALIAS, version, AliasMode.PLUGIN, root)
            said = replica.answer(ALIAS, COMPLETIONS[:1] * 4, 4)
            stale.extend(one for one in said if one != expected[version.name])
        stop.set()

    with ThreadPoolExecutor(7) as pool:
        running = [pool.submit(client) for _ in range(6)]
        try:
            pool.submit(swap).result()
        finally:
            stop.set()
        for one in running:
            one.result()  # raises what a client met

    assert stale == []
    assert set(answers) == set(expected.values())


def test_a_restarted_server_knows_the_alias_at_the_first_request(
    vllm_server: RealVllm, replica: Replica, adapters: Path
) -> None:
    version = random_adapter(adapters, 1)
    replica.promote(ALIAS, version, AliasMode.PLUGIN, vllm_server.settings.adapters_dir)
    before = replica.answer(ALIAS, CHATS, 8)

    vllm_server.restart()

    assert replica.answer(ALIAS, CHATS, 8) == before
    assert replica.served_by(ALIAS) == version.name


class TestStockVllm:
    """vLLM as it comes, without our plugin: what we work around, and what works all the same."""

    @pytest.fixture(scope="class")
    @staticmethod
    def stock(
        vllm_server: RealVllm, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[RealVllm]:
        log_path = tmp_path_factory.mktemp("stock") / "vllm.log"
        settings = replace(
            vllm_server.settings, port=free_port(), log_path=log_path, plugin=False, max_loras=1
        )
        with start(settings) as server:
            yield RealVllm(settings, server)

    def test_base_requests_get_the_adapters_answers_in_a_mixed_batch(
        self, stock: RealVllm, adapters: Path
    ) -> None:
        """The defect that our operators mend; should this fail, vLLM may have mended it."""
        with stock.replica() as replica:
            version = random_adapter(adapters, 1)
            replica.load(version.name, version.path)
            adapters_own = replica.answer(version.name, COMPLETIONS, 6)
            bases_own = replica.answer("base", COMPLETIONS, 6)

            mixed = ask_together(replica, ["base", version.name])["base"]

            replica.unload(version.name)
            assert same(bases_own, adapters_own) == 0
            assert same(mixed, adapters_own) > 0

    def test_the_alias_moves_by_reload(self, stock: RealVllm, adapters: Path) -> None:
        root = stock.settings.adapters_dir
        with stock.replica() as replica:
            for number in (1, 2):
                version = random_adapter(adapters, number)
                replica.promote(ALIAS, version, AliasMode.RELOAD, root)
                assert replica.served_by(ALIAS) == version.name

    def test_the_check_misses_the_plugin(self, stock: RealVllm) -> None:
        root = stock.settings.adapters_dir
        with stock.replica() as replica:
            problem = check(replica, 8, root, AliasMode.PLUGIN)[-1]

            assert "the alias plugin does not answer" in problem.message
            assert "KDPO_ADAPTERS" in problem.hint

    def test_the_check_knows_an_engine_with_stock_operators_and_one_slot(
        self, stock: RealVllm
    ) -> None:
        with stock.replica() as replica:
            problems = check(replica, 8, stock.settings.adapters_dir, AliasMode.RELOAD)

            assert [problem.message for problem in problems] == [
                "it has room for 1 adapter at a time",
                "vLLM's own LoRA operators run on its CPU: after as many loads as it has slots "
                "(1), requests for the base model get an adapter's answers",
            ]

    def test_a_promotion_by_pointer_is_noticed_to_have_failed(
        self, stock: RealVllm, adapters: Path
    ) -> None:
        version = random_adapter(adapters, 1)
        root = stock.settings.adapters_dir
        with stock.replica() as replica:
            replica.unload(ALIAS)

            with pytest.raises(ReplicaError, match="answers as nothing"):
                replica.promote(ALIAS, version, AliasMode.PLUGIN, root)
        aliases.forget(root, ALIAS)
