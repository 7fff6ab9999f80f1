"""What an adapter costs: decoding and first tokens with it and without, in the same run."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from kdpo_daemon.bench.streams import Ask, clients, stream, tokens_between
from kdpo_daemon.bench.swaps import median
from kdpo_daemon.bench.versions import make_version
from kdpo_daemon.local_vllm import LocalVllm, free_port, start
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving import Access, Replica, ServingPolicy
from kdpo_daemon.serving.remedies import enough_rank

#: Prompts of about 100 tokens, no two with a common beginning that a cache could serve.
_PROMPT = (
    "{turn} {name}: " + "The river rises in the hills and runs past nine towns to the sea. " * 6
)
_LONG = 400  #: tokens; no answer ends within a round
_WARM_S = 2.0  #: of a round, before tokens are counted


@dataclass(frozen=True)
class Cost:
    """One rank on one server; rates in tokens per second of all clients, times in seconds."""

    operators: str  #: "ours" with the plugin, "stock" without
    rank: int  #: of the adapter, and the server's --max-lora-rank
    base_tokens_per_s: float  #: median of the rounds
    adapter_tokens_per_s: float
    base_first_s: float  #: to the first token, one client, median
    adapter_first_s: float
    throughput_ratio: float  #: adapter over base: median over neighbouring rounds
    first_token_ratio: float


@dataclass(frozen=True)
class OperatorsPlan:
    """What is run.  Each rank has a server for each kind of operators."""

    ranks: tuple[int, ...]
    round_s: float
    modules: tuple[str, ...] = ("down_proj",)  #: that the adapters act on
    dtype: str = "auto"  #: vLLM's --dtype
    stock: bool = True  #: with vLLM's own operators too


def measure(
    plan: OperatorsPlan,
    model_dir: Path,
    python: Path,
    work: Path,
    progress: Callable[[str], None],
) -> list[Cost]:
    """Start a server for each rank and kind of operators, and compare on it."""
    found = []
    for rank in plan.ranks:
        version = make_version(work / "adapters", model_dir, rank, rank, plan.modules)
        for ours in (True, False) if plan.stock else (True,):
            progress(f"rank {rank}, {'our' if ours else 'stock'} operators")
            settings = LocalVllm(
                python=python,
                model_dir=model_dir,
                served_name="base",
                port=free_port(),
                adapters_dir=work / "adapters",
                log_path=work / "vllm.log",
                max_lora_rank=enough_rank(rank),
                lora_modules=plan.modules,
                dtype=plan.dtype,
                plugin=ours,
            )
            with start(settings):
                found.append(_compare(settings, version, rank, plan.round_s))
    return found


def _compare(settings: LocalVllm, version: Adapter, rank: int, round_s: float) -> Cost:
    with Replica("bench", settings.url, "base", Access(), ServingPolicy()) as replica:
        replica.load(version.name, version.path)
    models = ("base", version.name)
    rates: dict[str, list[float]] = {model: [] for model in models}
    firsts: dict[str, list[float]] = {model: [] for model in models}
    for turn in range(4):  # the first warms up
        for model in models:
            rate = _rate(settings.url, model, round_s)
            first = _first(settings.url, model, turn, round_s)
            if turn:
                rates[model].append(rate)
                firsts[model] += first
    base, adapter = (median(rates[model]) for model in models)
    base_first, adapter_first = (median(firsts[model]) for model in models)
    pairs = zip(rates["base"], rates[version.name], strict=True)
    return Cost(
        operators="ours" if settings.plugin else "stock",
        rank=rank,
        base_tokens_per_s=base,
        adapter_tokens_per_s=adapter,
        base_first_s=base_first,
        adapter_first_s=adapter_first,
        throughput_ratio=median([with_it / without for without, with_it in pairs]),
        first_token_ratio=adapter_first / base_first,
    )


def _rate(url: str, model: str, round_s: float) -> float:
    """Count the tokens of 8 clients that decode together."""
    prompts = tuple(f"{number} is the number of" for number in range(8))
    with clients(Ask(url, model, prompts, _LONG), 8, cut=True) as seen:
        time.sleep(_WARM_S)
        began = time.monotonic()
        time.sleep(round_s)
        ended = time.monotonic()
    return tokens_between(seen, began, ended) / (ended - began)


def _first(url: str, model: str, turn: int, longest_s: float) -> list[float]:
    """Time the first tokens of up to 5 prompts asked one after another."""
    firsts: list[float] = []
    began = time.monotonic()
    with httpx.Client(timeout=600.0, trust_env=False) as client:
        for name in "ABCDE":
            prompt = _PROMPT.format(turn=turn, name=name)
            one = stream(client, Ask(url, model, (prompt,), 1), prompt, threading.Event())
            firsts.append(one.at[0] - one.began)
            if time.monotonic() - began > longest_s:
                break
    return firsts
