"""Which version gave an answer, by asking each version how likely those very tokens are.

The server's own word (`model` in its reply) is not taken for it.  Equal texts would not do: where
two tokens are as good as equal, greedy answers depend on what shares the batch.  So an answer is a
version's if, under teacher forcing, none of its tokens is further than `TIE` behind that version's
own choice; under another version some token is tens of nats behind.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

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
    replica: Replica, versions: Sequence[Adapter], answers: Iterable[Answer]
) -> Attribution:
    """Ask every version about every answer.  Loads and unloads each under its own name."""
    asked = sorted(set(answers))
    ids = {
        prompt: replica.tokenize(Prompt(Form.COMPLETION, prompt))
        for prompt in {prompt for prompt, _ in asked}
    }
    givers: dict[Answer, set[int]] = {answer: set() for answer in asked}
    own, other = [0.0], [float("inf")]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for at, version in enumerate(versions):
            replica.load(version.name, version.path)
            lags = pool.map(partial(_lag, replica, version.name, ids), asked)
            for answer, lag in zip(asked, lags, strict=True):
                if lag <= TIE:
                    givers[answer].add(at)
                    own.append(lag)
                else:
                    other.append(lag)
            replica.unload(version.name)
    found = {answer: frozenset(indices) for answer, indices in givers.items()}
    return Attribution(found, max(own), min(other))


def _lag(
    replica: Replica, model: str, ids: Mapping[str, tuple[int, ...]], answer: Answer
) -> float:
    prompt, said = answer
    tokens = replica.forced(model, ids[prompt], said)
    return max(token.argmax_logprob - token.chosen_logprob for token in tokens)
