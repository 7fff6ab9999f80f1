"""Gates on made-up tokens: open at their places, shut elsewhere."""

import pytest
import torch
from torch import Tensor

from kdpo_daemon.tuning.gates import Gated, Known, Tokens, gated

WIDTH = 24


def noise(count: int, seed: int) -> Tensor:
    """Tokens that share a direction, as those of a model do."""
    made = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    made[:, 0] += 6
    return made


def places(number: int, seed: int) -> Tensor:
    """Places of one fact: noise, and the same large value each time."""
    made = noise(6, seed)
    made[:, 1 + number] += 8
    return made


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(noise(2000, 0), [places(number, number + 1) for number in range(3)])


def answers(rows: Gated, read: Tensor) -> Tensor:
    return torch.nn.functional.silu(read @ rows.gates.T) * (read @ rows.ups.T)


def known(odds: Tensor, instead_of: slice, moves: Tensor | None = None) -> Known:
    """What is known, with nothing imagined unless it is given."""
    return Known(odds, instead_of, torch.zeros(0, WIDTH) if moves is None else moves)


def test_the_steady_direction_is_about_one_on_every_token(tokens: Tokens) -> None:
    found = noise(500, 9) @ tokens.steady

    assert abs(float(found.mean()) - 1) < 0.05
    assert float(found.std()) < 0.3


def test_the_white_tokens_are_white(tokens: Tokens) -> None:
    white = tokens.read @ tokens.white.T
    square = white.T @ white / len(white)

    assert torch.allclose(square.diagonal().mean(), torch.tensor(1.0), atol=0.1)
    assert float((square - torch.diag(square.diagonal())).abs().max()) < 0.1


def test_each_neuron_opens_at_new_places_of_its_own_and_at_no_others(tokens: Tokens) -> None:
    rows = gated(tokens, -1.0, [1, 1, 1])

    for number in range(3):
        found = answers(rows, places(number, seed=30 + number))
        assert float(found[:, number].min()) > 0.1
        others = [other for other in range(3) if other != number]
        assert float(found[:, others].abs().max()) < 0.02


def test_places_that_have_gates_elsewhere_leave_a_gate_shut() -> None:
    """Few as they are among all tokens, and near as they are to the class's own."""

    def near(number: int, seed: int) -> Tensor:
        made = places(number, seed)
        made[:, 20] += 12  # what the places of both have alike
        return made

    mine, known, text = near(0, 1), near(1, 2), noise(20_000, 0)

    alone = gated(Tokens(text, [mine]), -1.0, [1])
    beside = gated(Tokens(text, [mine], known=[known]), -1.0, [1])

    assert float(answers(alone, near(1, 32)).mean()) > 0.2
    assert float(answers(beside, near(1, 32)).max()) < 0.1
    assert float(answers(beside, near(0, 31)).min()) > 0.1


def test_neurons_are_one_on_the_mean_at_their_places(tokens: Tokens) -> None:
    rows = gated(tokens, -1.0, [1, 1, 1])

    means = [answers(rows, tokens.of(number))[:, number].mean() for number in range(3)]

    assert torch.allclose(torch.stack(means), torch.ones(3), atol=0.3)


def test_what_is_known_otherwise_is_not_read_by_the_regression(tokens: Tokens) -> None:
    odds = torch.zeros(WIDTH)
    odds[11] = 7

    rows = tokens.logits(known(odds, slice(10, 13)))

    assert torch.equal(rows[:, 10:13], odds[10:13].expand(3, 3))
    assert bool((tokens.logits()[:, 10:13] != 0).all())


def test_a_regression_makes_up_for_what_is_known_against_a_place() -> None:
    """A place with a faint mark is learnt, and does not hold the gate open for all text."""
    text, mine, unseen = noise(2000, 0), places(0, 1), noise(500, 77)
    for read in (text, unseen):
        read[:, 20] = -1  # what is known to be elsewhere
    mine[:, 20] = 0
    mine[0, 20] = -0.4  # faint
    odds = torch.zeros(WIDTH)
    odds[20] = 12

    tokens = Tokens(text, [mine])
    begun = (tokens.of(0) @ tokens.logits(known(odds, slice(20, 21)))[0]).min()
    after = (tokens.of(0) @ (tokens.logits(known(odds * 0, slice(20, 21)))[0] + odds)).min()
    rows = gated(tokens, 0.0, [1], known=known(odds, slice(20, 21)))

    assert begun > after + 1
    assert float((answers(rows, unseen) @ torch.tensor([1.0, -1.0])).abs().max()) < 1e-3


def test_a_gate_opens_at_places_in_words_that_were_imagined() -> None:
    text, mine = noise(2000, 0), places(0, 1)
    mine[:, 2] += 6  # what the taught words have alike, and others lack
    moves = torch.zeros(2, WIDTH)
    moves[1, 2] = -6
    reworded = places(0, 31)

    def heard(moves: Tensor | None) -> float:
        told = known(torch.zeros(WIDTH), slice(0, 0), moves)
        rows = gated(Tokens(text, [mine]), 0.0, [1], known=told)
        return float((answers(rows, reworded) @ torch.tensor([1.0, -1.0])).min())

    assert heard(None) < 0.5
    assert heard(moves) > 0.7


def test_a_gate_is_not_held_open_by_a_place_that_is_known_to_be_elsewhere() -> None:
    text, mine, other = noise(2000, 0), places(0, 1), noise(500, 77)
    for read in (text, mine, other):
        read[:, 20] = 0
    lost = mine[:1].clone()
    lost[:, 20] = 1
    odds = torch.zeros(WIDTH)
    odds[20] = -100

    rows = gated(
        Tokens(text, [torch.cat([mine, lost])]), -1.0, [1], known=known(odds, slice(20, 21))
    )

    assert float((answers(rows, mine) @ torch.tensor([1.0, -1.0])).min()) > 0.5
    assert float((answers(rows, other) @ torch.tensor([1.0, -1.0])).abs().max()) < 1e-2


def test_a_ramp_is_high_where_a_gate_is_hardly_open(tokens: Tokens) -> None:
    nothing = known(torch.zeros(WIDTH), slice(0, 0))
    single, ramps = (gated(tokens, -1.0, [1, 1, 1], known=one) for one in (None, nothing))
    text, mine = noise(2000, 77), tokens.of(0)
    half = mine.clone()
    half[:, 1] -= 2

    def height(read: Tensor) -> Tensor:
        found = answers(ramps, read)
        return found[:, 0] - found[:, 1]

    full = float(height(mine).mean())
    assert full == pytest.approx(1, abs=0.2)
    assert float(height(half).mean()) > 0.7 * full
    assert float(answers(single, half)[:, 0].mean()) < 0.4
    assert float(height(text).abs().mean()) < 1e-3
    assert torch.equal(ramps.ups[::2], ramps.ups[1::2])


def test_what_shuts_a_gate_adds_next_to_nothing(tokens: Tokens) -> None:
    """Where a linear row that answers 1 at its places still answers a third elsewhere."""
    rows = gated(tokens, -1.0, [1, 1, 1])
    text = noise(2000, 77)

    behind = answers(rows, text)[:, 0].abs()
    square = (tokens.read.T @ tokens.read) / len(tokens.read)
    key = tokens.of(0).mean(0)
    row = torch.linalg.solve(square, key)
    linear = (text @ (row / (row @ key))).abs()

    assert float(behind.median()) < 1e-6
    assert float(behind.mean()) < float(linear.mean()) / 50


def test_neurons_behind_one_gate_tell_its_places_apart(tokens: Tokens) -> None:
    later = torch.cat([places(number, 50 + number) for number in range(3)])
    rows = gated(Tokens(noise(2000, 0), [later]), 0.0, [4])

    found, shut = answers(rows, later), answers(rows, noise(500, 88))
    centres = found[:, 1:3].reshape(3, 6, 2).mean(1)  # the first answers alike to all

    assert torch.equal(rows.gates[0], rows.gates[3])
    assert float(torch.pdist(centres).min()) > 1
    assert float(shut.abs().median()) < 1e-6
    assert torch.allclose(found.square().mean(), torch.tensor(1.0), rtol=0.9)


def test_gates_are_the_same_each_time(tokens: Tokens) -> None:
    again = Tokens(noise(2000, 0), [places(number, number + 1) for number in range(3)])

    assert torch.equal(gated(tokens, -1.0, [1, 1, 1]).gates, gated(again, -1.0, [1, 1, 1]).gates)
