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
class Tokens:
    """What a model is given to compute: L tokens in each of R rows, and what each of them sees.

    It is laid out on the CPU, wherever the model is.
    """

    ids: Tensor  #: (R, L) int64, padded with 0
    depth: Tensor  #: (R, L) int64, the place in the sequence: what the model takes as position
    sees: Tensor  #: (R, L, K + L) bool: of K tokens computed before, then of these


@dataclass(frozen=True)
class Rows(Tokens):
    """Sequences of one micro-batch, each token computed once for each context it stands in.

    A row is a tree: sequences that begin alike share their beginning, as all chat prompts share
    a template's head, and a token sees its own ancestors alone.  So a row of L places may hold
    far more than L tokens.  Padding sees itself.
    """

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
        counts = [len(value) for value in values]
        row = self.row.repeat_interleave(torch.tensor(counts))
        column = torch.cat([self.column[n, :count] for n, count in enumerate(counts)])
        out = values[0].new_zeros(*self.ids.shape, values[0].shape[1])
        out[row.to(out.device), column.to(out.device)] = torch.cat(list(values))
        return out


@dataclass(frozen=True)
class Tails(Tokens):
    """The ends of a micro-batch's sequences, each from some place on, without what leads there."""

    picked: Tensor  #: (R, M) int64: where these tokens are in the whole rows
    row: Tensor  #: (N,) int64, the row of each sequence
    column: Tensor  #: (N, longest) int64, where each token of a tail is in that row

    def locate(self, sequence: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of tails' tokens by sequence and place in it.  (P,), (P,) -> (P,) x 2."""
        return self.row[sequence], self.column[sequence, place]

    def pick(self, values: Tensor) -> Tensor:
        """Of values for the whole rows those of the tails.  (R, L, D) -> (R, M, D)."""
        picked = self.picked.to(values.device)[..., None]
        return values.gather(1, picked.expand(-1, -1, values.shape[2]))


def tails(whole: Rows, spans: Sequence[tuple[int, int]]) -> Tails:
    """Cut tails out of rows; `spans[n]` are sequence n's first place that counts and its length.

    A tail's token sees those of the K = L whole places that lead to it, then the tails' tokens.
    """
    chosen = torch.zeros_like(whole.real)
    for number, span in enumerate(spans):
        chosen[whole.row[number], whole.column[number, slice(*span)]] = True
    order, count = chosen.cumsum(1) - 1, chosen.sum(1, keepdim=True)
    real = torch.arange(int(count.max())) < count
    picked = torch.zeros(real.shape, dtype=torch.int64)
    picked[real] = chosen.nonzero()[:, 1]
    sees = whole.sees.gather(1, picked[..., None].expand(-1, -1, whole.sees.shape[2]))
    among = sees.gather(2, picked[:, None].expand(-1, picked.shape[1], -1)) & real[:, None]
    before = sees & ~chosen[:, None] & real[..., None]
    itself = torch.eye(real.shape[1], dtype=torch.bool)  # so that padding sees something
    return Tails(
        ids=whole.ids.gather(1, picked),
        depth=whole.depth.gather(1, picked),
        sees=torch.cat([before, among & real[..., None] | itself], dim=2),
        picked=picked,
        row=whole.row,
        column=order[whole.row[:, None], whole.column],
    )


def rows(
    sequences: Sequence[Sequence[int]], width: int = _WIDTH, starts: Sequence[int] = ()
) -> Rows:
    """Pack N sequences into rows of at most `width` places, or of the longest sequence.

    The rows have about as many tokens as each other, since padding costs as much as a token; with
    `starts`, as many from each sequence's start on, for who computes `tails` alone.
    """
    leaves = _leaves(sequences, starts or [0] * len(sequences))
    split = _even(leaves, width)
    row = torch.zeros(len(sequences), dtype=torch.int64)
    column = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.int64)
    trees = []
    for place, part in enumerate(split):
        tree = _Tree()
        for leaf in part:
            path = tree.add(sequences[leaf.number])
            row[leaf.number] = place
            column[leaf.number, : len(path)] = torch.tensor(path)
        trees.append(tree)
    return Rows(*_padded(trees), row, column)


@dataclass(frozen=True)
class _Leaf:
    """A sequence to be packed after the one that shares most with it."""

    number: int
    length: int
    start: int  #: from here on its tokens count
    shared: int  #: tokens that it begins with as the one before does

    def size(self, *, first: bool) -> int:
        """Count the places it takes in a row where it is the first, or is not."""
        return self.length - (0 if first else self.shared)

    def load(self, *, first: bool) -> int:
        """Count those of its places that count."""
        return self.length - max(self.start, 0 if first else self.shared)


def _leaves(sequences: Sequence[Sequence[int]], starts: Sequence[int]) -> list[_Leaf]:
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    before = [(), *(sequences[i] for i in order)]
    return [
        _Leaf(i, len(sequences[i]), starts[i], _shared(last, sequences[i]))
        for i, last in zip(order, before, strict=False)
    ]


def _even(leaves: Sequence[_Leaf], width: int) -> list[list[_Leaf]]:
    """Split them into as few rows as their width allows, of which the fullest is least full."""
    least, most = 0, sum(leaf.length for leaf in leaves)
    split = _split(leaves, width, most)
    while least < most:
        middle = (least + most) // 2
        fewer = _split(leaves, width, middle)
        if len(fewer) > len(split):
            least = middle + 1
        else:
            most, split = middle, fewer
    return split


def _split(leaves: Sequence[_Leaf], width: int, most: int) -> list[list[_Leaf]]:
    """Fill one row after the other up to `width` places, of which `most` may count."""
    split: list[list[_Leaf]] = []
    size = load = 0
    for leaf in leaves:
        size, load = size + leaf.size(first=False), load + leaf.load(first=False)
        if not split or size > width or load > most:
            split.append([])
            size, load = leaf.size(first=True), leaf.load(first=True)
        split[-1].append(leaf)
    return split


class _Tree:
    """Sequences added in their sort order, so that each shares most with the one before."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.paths: list[list[int]] = []  #: of each place: its ancestors and itself
        self._last: tuple[Sequence[int], list[int]] = ((), [])

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
    leaves = _leaves(sequences, [0] * len(sequences))
    split = _split(leaves, budget, most=budget)
    return [[leaf.number for leaf in part] for part in split]
