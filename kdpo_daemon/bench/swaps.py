"""What is measured of swaps under load, and what follows from times alone.  Starts nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kdpo_daemon.bench.streams import Stream, longest_gap


class SwapMode(StrEnum):
    """How the alias is moved; `inplace` is vLLM's own way, which the daemon never takes."""

    PLUGIN = "plugin"
    RELOAD = "reload"
    INPLACE = "inplace"


@dataclass(frozen=True)
class Plan:
    """What is run.  `ranks`: one phase each, with so many seconds and swaps."""

    mode: SwapMode
    clients: int
    seconds: float
    swaps: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Swap:
    """One swap; times in seconds, `began` and `ended` by `time.monotonic()`."""

    began: float
    ended: float
    load_s: float  #: the candidate under its own name, before
    swap_s: float  #: from the pointer's move to the first answer of the new version
    stall_s: float | None = None  #: the longest wait for a next token while loading and swapping


@dataclass(frozen=True)
class Phase:
    """What was seen with adapters of one rank."""

    rank: int
    megabytes: float  #: of one version's weights
    seconds: float
    requests: int
    failed: dict[str, int]  #: by status or kind of broken connection
    neither: int  #: whole answers of no version that could have given them
    stale: int  #: old answers to requests that began after the swap had returned
    tokens_per_s: float
    farthest_own: float
    nearest_other: float
    calm_s: float  #: the longest wait for a next token in a time without a swap, median
    swaps: tuple[Swap, ...]


def may(one: Stream, swaps: Sequence[Swap]) -> frozenset[int]:
    """Give the versions that may answer a request: by their place, the first is 0.

    The version that the alias stood for when it began, and any to which the alias was being moved
    before its first token.
    """
    standing = sum(swap.ended <= one.began for swap in swaps)
    first = one.at[0] if one.at else one.ended
    moving = sum(swap.began < first for swap in swaps)
    return frozenset(range(standing, max(standing, moving) + 1))


def calm(seen: Sequence[Stream], swaps: Sequence[Swap], times: tuple[float, float]) -> float:
    """Give the median over the times between swaps, each as long as a swap takes."""
    edges = [times[0], *(edge for one in swaps for edge in (one.began, one.ended)), times[1]]
    length = median([one.ended - one.began for one in swaps])
    middles = [(left + right) / 2 for left, right in zip(edges[::2], edges[1::2], strict=True)]
    gaps = [longest_gap(seen, at - length / 2, at + length / 2) for at in middles]
    return median([gap for gap in gaps if gap is not None])


def median(values: Sequence[float]) -> float:
    """Give the 50th percentile."""
    return percentile(values, 0.5)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    at = max(0, math.ceil(share * len(ordered)) - 1)
    return ordered[at] if ordered else 0.0
