"""What a server's metrics tell of its engine, and what `kdpo doctor` says of it."""

from pathlib import Path

import pytest

from kdpo_daemon.serving import Access, AliasMode, Replica, ServingPolicy, check
from kdpo_daemon.serving.engine import Engine, read_engine
from tests.fakes import FakeVllm

#: Lines of vLLM 0.32.0, shortened, as a server on CPU and one on a GPU give them.
CPU = (
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    "# TYPE vllm:cache_config_info gauge\n"
    'vllm:cache_config_info{block_size="128",engine="0",kv_cache_memory_bytes="1073741824"} 1.0\n'
)
GPU = 'vllm:cache_config_info{block_size="16",engine="0",kv_cache_memory_bytes="None"} 1.0\n'
SLOTS = 'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a"} 1.7e9\n'
PLUGIN = 'kdpo_plugin_info{operators="ours",platform="cpu"} 1.0\n'
PLUGIN_LEFT_OUT = 'kdpo_plugin_info{operators="stock",platform="cpu"} 1.0\n'


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        (SLOTS + CPU, Engine(4, cpu=True, own_operators=False)),
        (SLOTS + CPU + PLUGIN, Engine(4, cpu=True, own_operators=True)),
        (SLOTS + CPU + PLUGIN_LEFT_OUT, Engine(4, cpu=True, own_operators=False)),
        (SLOTS + GPU, Engine(4, cpu=False, own_operators=False)),
        (CPU, Engine(None, cpu=True, own_operators=False)),
        ("", Engine(None, cpu=False, own_operators=False)),
        ("<html>not found</html>", Engine(None, cpu=False, own_operators=False)),
    ],
)
def test_an_engine_is_known_by_its_metrics(text: str, engine: Engine) -> None:
    assert read_engine(text) == engine


def problems(vllm: FakeVllm, adapters: Path, mode: AliasMode) -> list[str]:
    with vllm, Replica("fake", vllm.url, "base", Access(), ServingPolicy(attempts=1)) as replica:
        return [problem.message for problem in check(replica, 8, adapters, mode)]


@pytest.mark.parametrize("mode", AliasMode)
def test_a_cpu_engine_with_its_own_operators_is_reported(mode: AliasMode, tmp_path: Path) -> None:
    vllm = FakeVllm({}, adapters_dir=tmp_path, metrics=CPU)

    [problem] = problems(vllm, tmp_path, mode)

    assert "after as many loads as it has slots (4)" in problem


@pytest.mark.parametrize("metrics", [CPU + PLUGIN, GPU, ""])
def test_other_engines_are_not(metrics: str, tmp_path: Path) -> None:
    vllm = FakeVllm({}, adapters_dir=tmp_path, metrics=metrics)

    assert problems(vllm, tmp_path, AliasMode.PLUGIN) == []


@pytest.mark.parametrize(
    ("slots", "mode", "enough"),
    [
        (1, AliasMode.PLUGIN, False),
        (2, AliasMode.PLUGIN, True),
        (1, AliasMode.VERSIONED, False),
        (2, AliasMode.RELOAD, False),
        (3, AliasMode.RELOAD, True),
    ],
)
def test_too_few_slots_are_reported(
    slots: int, mode: AliasMode, enough: bool, tmp_path: Path
) -> None:
    found = problems(FakeVllm({}, adapters_dir=tmp_path, max_loras=slots), tmp_path, mode)

    assert ("it has room for" in " ".join(found)) == (not enough)


def test_a_server_that_hides_its_metrics_is_not_the_worse_for_it(tmp_path: Path) -> None:
    vllm = FakeVllm({}, adapters_dir=tmp_path)
    vllm.fail("/metrics", 403)

    assert problems(vllm, tmp_path, AliasMode.PLUGIN) == []
