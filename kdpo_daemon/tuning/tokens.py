"""Pairs and prompts to padded ids and target positions.

Positions say what is a target and what is padding, never ids: the end token is taught like any
other, and padding to the right is invisible to a causal model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.records import Pair


@dataclass(frozen=True)
class Rows:
    """Sequences of one micro-batch, padded to the right with id 0."""

    ids: Tensor  #: (N, L) int64
    lengths: Tensor  #: (N,) int64

    @property
    def real(self) -> Tensor:
        """Where a token is no padding: (N, L) bool."""
        return torch.arange(self.ids.shape[1])[None, :] < self.lengths[:, None]


@dataclass(frozen=True)
class Targets:
    """Target positions of a micro-batch, flat: P = all target tokens of its N pairs.

    The logits at `[row, place]` predict `chosen`.
    """

    row: Tensor  #: (P,) row of the micro-batch
    place: Tensor  #: (P,) place in that row
    chosen: Tensor  #: (P,) the token to learn
    rejected: Tensor  #: (P,) the model's own token before training
    old: Tensor  #: (P,) the replaced object's token where the two part, else `chosen`


def rows(sequences: Sequence[Sequence[int]]) -> Rows:
    """Pad token sequences: N sequences -> ids (N, L), lengths (N,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return Rows(ids, lengths)


def sequence_of(pair: Pair) -> tuple[int, ...]:
    """Prompt and target as the model reads them; the last token predicts nothing, so it is out."""
    return pair.prompt_ids + pair.chosen_ids[:-1]


def targets(pairs: Sequence[Pair]) -> Targets:
    """Lay out the target positions of the pairs whose rows are `rows(map(sequence_of, pairs))`."""
    columns: list[tuple[int, int, int, int, int]] = []
    for row, pair in enumerate(pairs):
        first = len(pair.prompt_ids) - 1
        arms = zip(pair.chosen_ids, pair.rejected_ids, _old_tokens(pair), strict=True)
        columns += [(row, first + t, *tokens) for t, tokens in enumerate(arms)]
    return Targets(*torch.tensor(columns).unbind(1))


def _old_tokens(pair: Pair) -> list[int]:
    """Give the chosen ids, with the old object's token at the first place where the two part.

    Only there do both tokens follow the same context, which the two-logit margin needs.
    """
    tokens = list(pair.chosen_ids)
    for place, (new, old) in enumerate(zip(pair.chosen_ids, pair.old_ids, strict=False)):
        if new != old:
            tokens[place] = old
            break
    return tokens


def subject_end(
    ids: Sequence[int], subject: str, decode: Callable[[list[int]], str]
) -> int | None:
    """Find the place of the subject's last token: its last occurrence in the decoded prompt.

    A prefix is decoded for each place, so that a token that is part of a character or of a word
    is counted where the text is complete.  None if the prompt does not contain the subject.
    """
    end = decode(list(ids)).rfind(subject)
    if end < 0 or not subject:
        return None
    end += len(subject)
    for place in range(len(ids)):
        if len(decode(list(ids[: place + 1]))) >= end:
            return place
    return None


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group indices into micro-batches of alike lengths, at most `budget` tokens with padding."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if not groups or (len(groups[-1]) + 1) * lengths[index] > budget:
            groups.append([])
        groups[-1].append(index)
    return groups
