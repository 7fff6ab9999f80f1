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
_NEEDED = frozenset({"efficacy_completion", "efficacy_chat"})


def judge(scores: Sequence[Score], policy: GatePolicy) -> Verdict:
    """Compare every score with its bound: all hold = promote, any broken = reject."""
    by_name = {score.name: score for score in scores}
    passed: list[str] = []
    broken: list[str] = []
    for field in fields(policy):
        score = by_name.get(field.name)
        bound = float(getattr(policy, field.name))
        if score is None or score.n == 0:
            if field.name in _NEEDED:
                broken.append(f"{field.name} was not measured: no probes")
            continue
        at_most = field.name in _AT_MOST
        holds = score.value <= bound if at_most else score.value >= bound
        words = f"{'at most' if at_most else 'at least'} {bound:g}"
        line = f"{field.name} {score.value:.3f} of {score.n}, wanted {words}"
        (passed if holds else broken).append(line)
    if broken:
        return Verdict(VerdictRuling.REJECT, tuple(broken))
    return Verdict(VerdictRuling.PROMOTE, tuple(passed))
