"""Which version gave an answer, by asking each version how likely those very tokens are.

The server's own word (`model` in its reply) is not taken for it.  Equal texts would not do: where
two tokens are as good as equal, greedy answers depend on what shares the batch.  So an answer is a
version's if, under teacher forcing, none of its tokens is further than `TIE` behind that version's
own choice; under another version some token is tens of nats behind.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import Replica

#: Nats by which a chosen token may be behind, by the noise of bf16 sums in other batches.
TIE = 1.0

_AT_ONCE = 8  #: questions to the server

#: A prompt, and the tokens of the answer to it.
Answer = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Attribution:
    """Whose the answers are, and how clearly."""

    givers: Mapping[Answer, frozenset[int]]  #: indices into the versions; empty: nobody's
    farthest_own: float  #: nats; the greatest lag of an answer under its own version
    nearest_other: float  #: nats; the smallest lag of an answer under another version


def attribute(
    replica: Replica, versions: Sequence[Adapter], answers: Mapping[Answer, frozenset[int]]
) -> Attribution:
    """Find the versions that gave these answers.  Loads and unloads each under its own name.

    Args:
        replica: the server, with nobody else asking.
        versions: all that the answers may be of.
        answers: each with the versions that it should be of, by their place; these and the ones
            beside them are asked first, the rest about what is then nobody's.

    """
    ids = {
        prompt: replica.tokenize(Prompt(Form.COMPLETION, prompt))
        for prompt in {prompt for prompt, _ in answers}
    }
    lags: dict[Answer, dict[int, float]] = {answer: {} for answer in answers}
    likely = {
        answer: {at + step for at in of for step in (-1, 0, 1)} for answer, of in answers.items()
    }
    for rest in (False, True):
        for at, version in enumerate(versions):
            asked = [
                answer
                for answer, known in lags.items()
                if (min(known.values(), default=math.inf) > TIE if rest else at in likely[answer])
                and at not in known
            ]
            for answer, lag in zip(asked, _lags(replica, version, ids, asked), strict=True):
                lags[answer][at] = lag
    every = [(lag, lag <= TIE) for known in lags.values() for lag in known.values()]
    return Attribution(
        {
            answer: frozenset(at for at, lag in known.items() if lag <= TIE)
            for answer, known in lags.items()
        },
        max((lag for lag, own in every if own), default=0.0),
        min((lag for lag, own in every if not own), default=math.inf),
    )


def _lags(
    replica: Replica,
    version: Adapter,
    ids: Mapping[str, tuple[int, ...]],
    asked: Sequence[Answer],
) -> list[float]:
    """Give how far the worst token of each answer is behind this version's own choice, in nats."""

    def lag(answer: Answer) -> float:
        prompt, said = answer
        tokens = replica.forced(version.name, ids[prompt], said)
        return max(token.argmax_logprob - token.chosen_logprob for token in tokens)

    if not asked:
        return []
    replica.load(version.name, version.path)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lag, asked))
    replica.unload(version.name)
    return found
