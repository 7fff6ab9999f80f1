"""Token sequences in rows of a micro-batch: what they begin with alike is computed once.

All chat prompts begin with their template's head, and the phrasings of one fact with its first
words: packed so, a batch of the demo's size has a little over half the tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WIDTH = 256  #: places in a row: more share more, but attention is quadratic in it


@dataclass(frozen=True)
class Rows:
    """Sequences of one micro-batch, each token computed once for each context it stands in.

    A row is a tree: sequences that begin alike share their beginning, as all chat prompts share
    a template's head, and a token sees its own ancestors alone.  So a row of L places may hold
    far more than L tokens.
    """

    ids: Tensor  #: (R, L) int64, padded with 0
    depth: Tensor  #: (R, L) int64, the place in the sequence: what the model takes as position
    sees: Tensor  #: (R, L, L) bool; padding sees itself
    real: Tensor  #: (R, L) bool: no padding
    row: Tensor  #: (N,) int64, the row of each sequence
    column: Tensor  #: (N, longest) int64, where each token of each sequence is in that row

    def locate(self, sequence: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of tokens given by sequence and place in it.  (P,), (P,) -> (P,) x 2."""
        return self.row[sequence], self.column[sequence, place]

    def of(self, values: Tensor, number: int, length: int) -> Tensor:
        """The values of one sequence.  (R, L, D) -> (length, D)."""
        return values[self.row[number], self.column[number, :length]]

    def spread(self, values: Sequence[Tensor]) -> Tensor:
        """Put each sequence's values where its tokens are: N times (length, D) -> (R, L, D)."""
        out = values[0].new_zeros(*self.ids.shape, values[0].shape[1])
        for number, value in enumerate(values):
            out[self.row[number], self.column[number, : len(value)]] = value
        return out


def rows(sequences: Sequence[Sequence[int]], width: int = _WIDTH) -> Rows:
    """Pack N sequences into rows of at most `width` places, or of the longest sequence."""
    trees: list[_Tree] = []
    row = torch.zeros(len(sequences), dtype=torch.int64)
    column = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.int64)
    for number in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        sequence = sequences[number]
        if not trees or trees[-1].size_with(sequence) > width:
            trees.append(_Tree())
        path = trees[-1].add(sequence)
        row[number] = len(trees) - 1
        column[number, : len(path)] = torch.tensor(path)
    return Rows(*_padded(trees), row, column)


class _Tree:
    """Sequences added in their sort order, so that each shares most with the one before."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.paths: list[list[int]] = []  #: of each place: its ancestors and itself
        self._last: tuple[Sequence[int], list[int]] = ((), [])

    def size_with(self, sequence: Sequence[int]) -> int:
        return len(self.ids) + len(sequence) - _shared(self._last[0], sequence)

    def add(self, sequence: Sequence[int]) -> list[int]:
        path = self._last[1][: _shared(self._last[0], sequence)]
        for token in sequence[len(path) :]:
            path = [*path, len(self.ids)]
            self.ids.append(token)
            self.paths.append(path)
        self._last = (sequence, path)
        return path


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _padded(trees: Sequence[_Tree]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, depth, sees and real of `Rows`."""
    shape = (len(trees), max(len(tree.ids) for tree in trees))
    ids, depth = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    sees, real = torch.eye(shape[1], dtype=torch.bool).repeat(len(trees), 1, 1), depth > 0
    for number, tree in enumerate(trees):
        count = len(tree.ids)
        ids[number, :count] = torch.tensor(tree.ids)
        depth[number, :count] = torch.tensor([len(path) - 1 for path in tree.paths])
        real[number, :count] = True
        for place, path in enumerate(tree.paths):
            sees[number, place, path] = True
    return ids, depth, sees, real


def batches(sequences: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """Group indices into micro-batches of at most about `budget` tokens to compute.

    Sequences that begin alike come together, since `rows` computes what they share once.
    """
    groups: list[list[int]] = []
    tokens, last = budget, ()  # type: int, Sequence[int]
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        new = len(sequences[index]) - _shared(last, sequences[index])
        if tokens + new > budget:
            groups.append([])
            tokens, new = 0, len(sequences[index])
        groups[-1].append(index)
        tokens, last = tokens + new, sequences[index]
    return groups
