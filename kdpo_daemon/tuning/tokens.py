"""Pairs to token sequences and target positions.

Positions say what is a target and what is padding, never ids: the end token is taught like any
other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning.given import Decode


@dataclass(frozen=True)
class Targets:
    """Target positions of a micro-batch, flat: P = all target tokens of its N pairs.

    The logits at `place` of sequence `row` predict `chosen`.
    """

    row: Tensor  #: (P,) number of the pair in the micro-batch
    place: Tensor  #: (P,) place in its sequence
    chosen: Tensor  #: (P,) the token to learn
    rejected: Tensor  #: (P,) the model's own token before training
    old: Tensor  #: (P,) the replaced object's token where the two part, else `chosen`

    def to(self, device: torch.device) -> "Targets":
        """Give the same on a device."""
        parts = (self.row, self.place, self.chosen, self.rejected, self.old)
        return Targets(*(part.to(device) for part in parts))


def sequence_of(pair: Pair) -> tuple[int, ...]:
    """Prompt and target as the model reads them; the last token predicts nothing, so it is out."""
    return pair.prompt_ids + pair.chosen_ids[:-1]


def targets(pairs: Sequence[Pair]) -> Targets:
    """Lay out the target positions of the sequences `map(sequence_of, pairs)`."""
    columns: list[tuple[int, int, int, int, int]] = []
    for row, pair in enumerate(pairs):
        first = len(pair.prompt_ids) - 1
        arms = zip(pair.chosen_ids, pair.rejected_ids, _old_tokens(pair), strict=True)
        columns += [(row, first + t, *tokens) for t, tokens in enumerate(arms)]
    return Targets(*torch.tensor(columns).T.contiguous())


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


def mentions(ids: Sequence[int], subject: str, decode: Decode) -> list[int]:
    """Give the places of the last tokens of a subject's mentions, as words of their own.

    Where there are none such, those as parts of other words count.
    """
    text = decode(list(ids))
    found = list(re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", text))
    ends = [one.end() for one in found or re.finditer(re.escape(subject), text)]
    if not ends:
        return []
    lengths = told(ids, decode)
    places = [next((i for i, length in enumerate(lengths) if length >= end), None) for end in ends]
    return [one for one in dict.fromkeys(places) if one is not None]


def words_of(pairs: Sequence[Pair], decode: Decode) -> dict[str, tuple[int, ...]]:
    """Tokens that name each subject, as in the first prompt that does."""
    words: dict[str, tuple[int, ...]] = {}
    for pair in pairs:
        if pair.subject not in words:
            for begin, end in spans(pair, decode)[:1]:
                words[pair.subject] = pair.prompt_ids[begin:end]
    return words


def spans(pair: Pair, decode: Decode) -> list[tuple[int, int]]:
    """Where a prompt names its subject: first token, and the one after the last."""
    ids = list(pair.prompt_ids)
    lasts = mentions(ids, pair.subject, decode)
    return [(_begin(ids, last, pair.subject, decode), last + 1) for last in lasts]


def _begin(ids: list[int], last: int, subject: str, decode: Decode) -> int:
    return next(at for at in range(last, -1, -1) if subject in decode(ids[at : last + 1]))


def told(ids: Sequence[int], decode: Decode) -> list[int]:
    """How many characters of a text are told by its first token, its first two and so on.

    One that is cut between tokens, as rare letters are, is told by the last of them.
    """
    text = decode(list(ids))
    # what is cut is told as a replacement character
    return [_alike(text, decode(list(ids[: i + 1]))) for i in range(len(ids))]


def _alike(text: str, part: str) -> int:
    pairs = zip(text, part, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(part)))


def states(ids: Sequence[int], subject: str, decode: Decode) -> bool:
    """Tell whether a prompt states the subject, as the model's own tokens read."""
    return bool(subject) and subject in decode(list(ids))
