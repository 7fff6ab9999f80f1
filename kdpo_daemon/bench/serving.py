"""Swaps under load on a real vLLM: what fails, who answers, how long it takes, what stalls."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from kdpo_daemon.bench.attribution import Answer, Attribution, attribute
from kdpo_daemon.bench.streams import Ask, Stream, clients, longest_gap, tokens_between
from kdpo_daemon.bench.swaps import Phase, Plan, Swap, SwapMode, calm, may
from kdpo_daemon.bench.versions import make_version
from kdpo_daemon.checkpoints import WEIGHTS
from kdpo_daemon.local_vllm import LocalVllm, free_port, start
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving import Access, AliasMode, Replica, ServingPolicy, aliases
from kdpo_daemon.serving.remedies import enough_rank

ALIAS = "prod"
PROMPTS = tuple(
    f"The capital of {name} is" for name in ("France", "Italy", "Spain", "Norway", "Japan")
)
_TOKENS = 32  #: of each answer
_LEAD_S = 3.0  #: of load before the first swap
_LOAD_S = 300.0


def measure(
    plan: Plan, model_dir: Path, python: Path, work: Path, progress: Callable[[str], None]
) -> list[Phase]:
    """Start a server, run one phase for each rank, and stop it."""
    settings = LocalVllm(
        python=python,
        model_dir=model_dir,
        served_name="base",
        port=free_port(),
        adapters_dir=work / "adapters",
        log_path=work / "vllm.log",
        max_lora_rank=enough_rank(max(plan.ranks)),
        plugin=plan.mode is SwapMode.PLUGIN,
    )
    progress("starting vLLM")
    with (
        start(settings),
        Replica("bench", settings.url, "base", Access(), ServingPolicy()) as replica,
    ):
        phases = []
        for at, rank in enumerate(plan.ranks):
            progress(f"rank {rank}: making {plan.swaps + 1} versions")
            versions = [
                make_version(settings.adapters_dir, model_dir, 100 * (at + 1) + number, rank)
                for number in range(plan.swaps + 1)
            ]
            phases.append(_Run(plan, replica, settings.adapters_dir, versions, progress).phase())
        return phases


@dataclass(frozen=True)
class _Run:
    plan: Plan
    replica: Replica
    adapters_dir: Path
    versions: Sequence[Adapter]
    progress: Callable[[str], None]

    def phase(self) -> Phase:
        self._swap(self.versions[0])
        ask = Ask(self.replica.url, ALIAS, PROMPTS, _TOKENS)
        pause = max(0.0, (self.plan.seconds - _LEAD_S) / len(self.versions))
        swaps: list[Swap] = []
        with clients(ask, self.plan.clients) as seen:
            began = time.monotonic()
            time.sleep(_LEAD_S)
            for before, after in zip(self.versions, self.versions[1:], strict=False):
                self.progress(f"swap {len(swaps) + 1} of {self.plan.swaps}")
                at = time.monotonic()
                swaps.append(self._swap(after))
                self.replica.unload(before.name)
                time.sleep(max(0.0, pause - (time.monotonic() - at)))
            time.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))
            ended = time.monotonic()
        self._clear()
        whole = [one for one in seen if not one.error]
        self.progress(f"asking whose the {len(whole)} answers are")
        answers: dict[Answer, frozenset[int]] = {}
        for one in whole:
            answer = one.prompt, tuple(one.tokens)
            answers[answer] = answers.get(answer, frozenset()) | may(one, swaps)
        found = attribute(self.replica, self.versions, answers)
        return self._told(seen, swaps, found, (began, ended))

    def _swap(self, version: Adapter) -> Swap:
        """Load the version under its own name, as the canary is, and move the alias."""
        began = time.monotonic()
        self.replica.load(version.name, version.path)
        loaded = time.monotonic()
        if self.plan.mode is SwapMode.INPLACE:
            _load_in_place(self.replica.url, version)
        else:
            mode = AliasMode(self.plan.mode)
            self.replica.promote(ALIAS, version, mode, self.adapters_dir)
        ended = time.monotonic()
        return Swap(began, ended, loaded - began, ended - loaded)

    def _clear(self) -> None:
        aliases.forget(self.adapters_dir, ALIAS)
        for card in self.replica.models():
            if card.parent is not None:
                self.replica.unload(card.id)
        self.replica.unload(ALIAS)

    def _told(
        self,
        seen: Sequence[Stream],
        swaps: Sequence[Swap],
        found: Attribution,
        times: tuple[float, float],
    ) -> Phase:
        whole = [one for one in seen if not one.error]
        wrong = [(one, gave) for one in whole if not (gave := _gave(one, found)) & may(one, swaps)]
        weights = Path(self.versions[0].path) / WEIGHTS
        stalls = [longest_gap(seen, one.began, one.ended) for one in swaps]
        return Phase(
            rank=self._rank(),
            megabytes=weights.stat().st_size / 1e6,
            seconds=times[1] - times[0],
            requests=len(seen),
            failed=dict(Counter(one.error for one in seen if one.error)),
            neither=sum(not gave for _, gave in wrong),
            stale=sum(bool(gave) for _, gave in wrong),
            tokens_per_s=tokens_between(seen, *times) / (times[1] - times[0]),
            farthest_own=found.farthest_own,
            nearest_other=found.nearest_other,
            calm_s=calm(seen, swaps, times),
            swaps=tuple(
                replace(one, stall_s=stall) for one, stall in zip(swaps, stalls, strict=True)
            ),
        )

    def _rank(self) -> int:
        number = int(self.versions[0].name.removeprefix("kdpo-"))
        return self.plan.ranks[number // 100 - 1]


def _gave(one: Stream, found: Attribution) -> frozenset[int]:
    return found.givers[one.prompt, tuple(one.tokens)]


def _load_in_place(url: str, version: Adapter) -> None:
    """Do what vLLM offers for the purpose; docs/serving.md tells what comes of it."""
    body = {"lora_name": ALIAS, "lora_path": version.path, "load_inplace": True}
    with httpx.Client(base_url=url, timeout=_LOAD_S, trust_env=False) as client:
        client.post("/v1/load_lora_adapter", json=body).raise_for_status()
        first = {"model": ALIAS, "prompt": "A", "max_tokens": 1}
        client.post("/v1/completions", json=first).raise_for_status()
