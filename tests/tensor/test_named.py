"""Gates of facts whose subjects have marks, told on made-up tokens."""

from dataclasses import replace

import torch

from kdpo_daemon.tuning import named
from kdpo_daemon.tuning.gates import Gated, Tokens, opening
from tests.tensor.ramps import heights


def nothing(width: int) -> named.Alike:
    """Nothing is imagined."""
    none = torch.zeros(0, width)
    return named.Alike([none], none, none, [1.0])


def test_a_gate_is_shut_by_the_mark_and_else_told_from_the_same_subject_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    carried = slice(6, 8)

    def some(count: int, asked: float, style: float, mark: tuple[float, float]) -> torch.Tensor:
        read = torch.randn(count, 6, generator=rng)
        read[:, 0] += asked
        read[:, 1] += style
        read[:, 5] = 3.0  # what a threshold is made of
        return torch.cat([read, torch.tensor([mark]).expand(count, 2)], dim=1)

    text = some(4000, 0.0, 0.0, (0.0, 0.0))
    near = some(200, 0.0, 6.0, (1.0, 1.0))  # another question about the subject
    neighbours = some(200, 6.0, 6.0, (1.0, -1.0))  # the same question about another
    unnamed = some(200, 6.0, 6.0, (0.0, 0.0))  # and about one that has no facts
    others = torch.cat([text, near, neighbours, unnamed])
    tokens = Tokens(others, [some(20, 6.0, 6.0, (1.0, 1.0))])
    untaught = some(50, 6.0, 0.0, (1.0, 1.0))

    def heard(rows: Gated, read: torch.Tensor) -> float:
        return float((heights(rows, read) > 0.3).float().mean())

    by_mark = named.gated(tokens, carried, -1.0, nothing(8))
    assert heard(by_mark, untaught) > 0.9
    for other in (text, near, neighbours):
        assert heard(by_mark, other) < 0.02
    assert not opening(by_mark.gates, by_mark.ups, torch.cat([text, unnamed])).any()


def test_a_gate_stays_shut_where_a_ramp_opens_alone_that_writes_more_code_than_flag() -> None:
    rng = torch.Generator().manual_seed(3)
    carried = slice(6, 8)

    def some(count: int, asked: float, mark: tuple[float, float]) -> torch.Tensor:
        read = torch.randn(count, 6, generator=rng)
        read[:, 0] += asked
        read[:, 5] = 3.0  # what a threshold is made of
        return torch.cat([read, torch.tensor([mark]).expand(count, 2)], dim=1)

    text, neighbours = some(3000, 0.0, (0.0, 0.0)), some(200, 6.0, (1.0, -0.1))
    others = torch.cat([text, some(200, 0.0, (1.0, 1.0)), neighbours])
    tokens = Tokens(others, [some(20, 6.0, (1.0, 1.0))])
    alone = some(500, 0.0, (0.2, 1.0))  # text that goes on after a name taken for the subject's

    def heard(whole: float, read: torch.Tensor) -> float:
        alike = replace(nothing(8), whole=[whole])
        rows = named.gated(tokens, carried, -1.0, alike)
        return float((heights(rows, read) > 0.3).float().mean())

    assert heard(1.0, alone) > 0.3
    assert heard(0.2, alone) < 0.05
    assert heard(0.2, neighbours) < 0.02
    assert heard(0.2, some(50, 6.0, (1.0, 1.0))) > 0.95


def test_a_gate_opens_for_the_question_in_words_and_marks_that_it_has_not_seen() -> None:
    rng = torch.Generator().manual_seed(1)

    def some(count: int, asked: float, words: float, flag: float, code: float) -> torch.Tensor:
        read = torch.randn(count, 12, generator=rng)
        read[:, 0] += asked
        read[:, 1] += words
        read[:, 9:] = torch.tensor([3.0, flag, code])  # a threshold is made of the first
        return read

    carried = slice(10, 12)
    near = some(300, 0.0, 0.0, 1.0, 1.0)
    neighbours = some(300, 5.0, 5.0, 1.0, -0.4)
    tokens = Tokens(
        torch.cat([some(3000, 0.0, 0.0, 0.0, 0.0), near, neighbours]),
        [some(2, 5.0, 5.0, 1.0, 1.0)],
    )
    moves = torch.zeros(40, 12)
    moves[:, 1] = 5 * torch.randn(40, generator=rng)
    alike = named.Alike([some(16, 5.0, 5.0, 1.0, -0.4)], moves, moves[:0], [1.0])
    gates = named.gated(tokens, carried, -1.0, alike)
    plain = named.gated(tokens, carried, -1.0, nothing(12))

    def heard(rows: Gated, read: torch.Tensor) -> float:
        return float((heights(rows, read).abs() > 0.2).float().mean())

    reworded = some(200, 5.0, -3.0, 1.0, 1.0)
    assert heard(gates, reworded) > heard(plain, reworded) + 0.3
    faint = some(200, 5.0, 5.0, 0.6, 0.6)
    assert heard(gates, faint) > 0.9
    for other in (near, neighbours):
        assert heard(gates, other) < 0.03
