"""What a run found, in one number and in a table.  Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdpo_daemon.bench.edits.plan import BatchResult
from kdpo_daemon.bench.intervals import wilson
from kdpo_daemon.records.adapters import Score

#: Scores that are means of shares or no shares at all: they get no interval.
_NO_SHARES = frozenset(
    {"perplexity", "harmonic", "retention", "forced_edit", "forced_rephrase", "forced_locality"}
    | {"forced_portability", "fluency"}
)
#: heading -> score
COLUMNS: Mapping[str, str] = {
    "efficacy, completion": "efficacy_completion",
    "chat": "efficacy_chat",
    "paraphrase, completion": "paraphrase_completion",
    "chat ": "paraphrase_chat",
    "same subject": "same_subject_unchanged",
    "same words": "same_words_unchanged",
    "same relation": "same_relation_unchanged",
    "unrelated": "general_unchanged",
    "harmonic mean": "harmonic",
    "retention": "retention",
    "old answer": "old_answer",
    "perplexity": "perplexity",
    "BLiMP": "blimp",
    "LAMA": "lama",
}
#: What the harmonic mean is of; a part is the mean of its scores.
_PARTS = (
    ("efficacy_completion", "efficacy_chat"),
    ("paraphrase_completion", "paraphrase_chat"),
    ("same_subject_unchanged",),
    ("same_relation_unchanged",),
    ("general_unchanged",),
)
_PAPERS: Mapping[str, str] = {
    "edit success": "forced_edit",
    "rephrase": "forced_rephrase",
    "locality": "forced_locality",
    "portability": "forced_portability",
    "fluency, bits": "fluency",
}


def headline(scores: Sequence[Score], batches: Sequence[BatchResult]) -> list[Score]:
    """Give retention at the end, and the harmonic mean of what an edit is for.

    Of efficacy and paraphrase (each the mean of both forms) and the three localities; those that
    the data cannot measure are left out.
    """
    by_name = {one.name: one.value for one in scores if one.n}
    known = _parts(by_name)
    return [_retention(batches), Score("harmonic", harmonic(known), len(known))]


def spread(scores: Sequence[Score]) -> tuple[float, float]:
    """Give the 95 % interval of the harmonic mean.

    From the Wilson intervals of the shares that it is made of: what each share's bound alone moves
    it by, the squares added and the root taken (Zou and Donner 2008).
    """
    by_name = {one.name: one.value for one in scores if one.n}
    mean = harmonic(_parts(by_name))
    judging = [one for one in scores if one.n and any(one.name in names for names in _PARTS)]

    def moved(bound: int) -> float:
        ends = [(one.name, wilson(round(one.value * one.n), one.n)[bound]) for one in judging]
        means = [harmonic(_parts(by_name | {name: end})) for name, end in ends]
        return math.hypot(*(each - mean for each in means))

    return max(0.0, mean - moved(0)), min(1.0, mean + moved(1))


def harmonic(values: Sequence[float]) -> float:
    """Give the harmonic mean; 0 where one value is 0, or there is none."""
    if not values or min(values) <= 0:
        return 0.0
    return len(values) / sum(1 / one for one in values)


def interval(score: Score) -> tuple[float | None, float | None]:
    """Give the 95 % interval of a share; None where the score is none, or rests on nothing."""
    if score.name in _NO_SHARES or not score.n:
        return None, None
    return wilson(round(score.value * score.n), score.n)


def table(result: Mapping[str, Any]) -> str:
    """Give the result as Markdown: what was run, free generation, teacher forcing and cost."""
    rivals: Mapping[str, Any] = result["rivals"]
    head = (
        f"{result['edits']} edits of {result['data']} ({result['form']}) in batches of"
        f" {result['batch']}, {result['model']}, seed {result['seed']}; the final model;"
        f" {result['machine']['processor']}, {result['machine']['device']}"
    )
    costs = ["s/edit", "peak MB", "refused"]
    free = [
        [name, *(cell(one, score) for score in COLUMNS.values()), *_costs(one)]
        for name, one in rivals.items()
    ]
    forced = [
        [name, *(cell(one, score) for score in _PAPERS.values())] for name, one in rivals.items()
    ]
    return "\n\n".join(
        (
            head,
            "Free greedy generation with natural stop:",
            markdown(["rival", *COLUMNS, *costs], free),
            "As in the papers: under teacher forcing, and fluency of free samples:",
            markdown(["rival", *_PAPERS], forced),
        )
    )


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(one.strip() for one in line)} |" for line in lines)


def cell(rival: Mapping[str, Any], name: str) -> str:
    """Give a score of a rival's result as a table has it."""
    score = rival["scores"].get(name)
    if score is None or not score["n"]:
        return "-"
    return f"{score['value']:.2f}" if name == "perplexity" else f"{score['value']:.3f}"


def _costs(rival: Mapping[str, Any]) -> list[str]:
    seconds, peak = rival["seconds_per_edit"], rival["peak_mb"]
    gpu = f" + {rival['peak_gpu_mb']:.0f} GPU" if rival["peak_gpu_mb"] else ""
    return [f"{seconds:.2f}", f"{peak:.0f}{gpu}", str(len(rival["refused"]))]


def _retention(batches: Sequence[BatchResult]) -> Score:
    """Mean over all facts of whether they are answered right after the last batch."""
    if not batches:
        return Score("retention", 0.0, 0)
    edits = [one.edits for one in batches]
    kept = batches[-1].retention
    total = sum(share * count for share, count in zip(kept, edits, strict=True))
    return Score("retention", total / sum(edits), sum(edits))


def _parts(shares: Mapping[str, float]) -> list[float]:
    """Give what the harmonic mean is of, as far as it was measured."""
    known = ([shares[name] for name in names if name in shares] for names in _PARTS)
    return [sum(one) / len(one) for one in known if one]
