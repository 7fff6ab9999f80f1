"""Scores and thresholds -> a verdict with reasons.  Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from kdpo_daemon.records.adapters import Score, Verdict, VerdictRuling


@dataclass(frozen=True)
class GatePolicy:
    """What a candidate must show before clients may get it.

    Each field bounds the score of its name; a score that rests on no answers is not judged,
    except efficacy, without which there is no evidence at all.
    """

    efficacy_completion: float = 0.9  #: taught phrasings answered with the object alone, at least
    efficacy_chat: float = 0.9  #: the same through the chat template, at least
    paraphrase_completion: float = 0.6  #: phrasings never taught, at least
    paraphrase_chat: float = 0.6  #: the same through the chat template, at least
    same_subject_unchanged: float = 0.5  #: other questions about edited subjects, at least
    same_relation_unchanged: float = 0.5  #: the same question about other subjects, at least
    general_unchanged: float = 0.7  #: general prompts answered word for word as before, at least
    general_kept: float = 0.95  #: general questions the base model gets right, still right
    perplexity_ratio: float = 1.05  #: perplexity of a fixed text, after over before, at most
    old_answer: float = 0.05  #: edited facts still answered with the replaced object, at most
    revoked_answer: float = 0.05  #: questions about revoked facts, likewise with theirs, at most


_AT_MOST = frozenset({"perplexity_ratio", "old_answer", "revoked_answer"})
_NEEDED = ("efficacy_completion", "efficacy_chat")


def judge(scores: Sequence[Score], policy: GatePolicy) -> Verdict:
    """Compare every score with its bound: all hold = promote, any broken = reject."""
    held, broke = _compared(scores, policy)
    measured = held.keys() | broke.keys()
    missing = [f"{name} was not measured: no probes" for name in _NEEDED if name not in measured]
    if missing or broke:
        return Verdict(VerdictRuling.REJECT, (*missing, *broke.values()))
    return Verdict(VerdictRuling.PROMOTE, tuple(held.values()))


def broken(scores: Sequence[Score], policy: GatePolicy) -> dict[str, str]:
    """Give the bounds that measured scores break, by name, each with its figures."""
    return _compared(scores, policy)[1]


def _compared(
    scores: Sequence[Score], policy: GatePolicy
) -> tuple[dict[str, str], dict[str, str]]:
    """Give the figures of all scores that rest on answers: those that hold, those that do not."""
    by_name = {score.name: score for score in scores if score.n}
    held: dict[str, str] = {}
    broke: dict[str, str] = {}
    for name in (field.name for field in fields(policy)):
        if name not in by_name:
            continue
        score, bound = by_name[name], float(getattr(policy, name))
        at_most = name in _AT_MOST
        holds = score.value <= bound if at_most else score.value >= bound
        words = f"{'at most' if at_most else 'at least'} {bound:g}"
        line = f"{name} {score.value:.3f} of {score.n}, wanted {words}"
        (held if holds else broke)[name] = line
    return held, broke
