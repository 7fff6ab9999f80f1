"""Gates on made-up tokens: open at their places, shut elsewhere."""

import pytest
import torch
from torch import Tensor

from kdpo_daemon.tuning.gates import (
    Gated,
    Own,
    Tokens,
    gated,
    opened,
    ramp,
    ramps,
    regression,
    said_by_ramps,
    told_apart,
)
from tests.tensor.ramps import heights

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


def test_what_is_almost_a_place_leaves_a_gate_shut_but_weighs_little() -> None:
    mine, near = places(0, 1), places(0, 2)
    near[:, 5] += 8
    text = noise(2000, 0)

    def logits(at: Tensor, *, almost: list[Tensor]) -> Tensor:
        return at @ Tokens(text, [mine], almost=almost).logits()[0]

    assert float(logits(near, almost=[]).mean()) > 0
    assert float(logits(near, almost=[near]).mean()) < 0
    assert float(logits(mine, almost=[near]).min()) > 0
    # what cannot be told from a place does not shut it
    assert float(logits(mine, almost=[mine]).min()) > 0


def test_the_heavier_other_tokens_are_the_less_a_class_is_told_beyond_them() -> None:
    text, mine, unseen = noise(2000, 0), places(0, 1), noise(2000, 7)

    def highest(shut: float) -> float:
        return float((unseen @ Tokens(text, [mine], shut=shut).logits()[0]).max())

    assert highest(1000.0) < highest(10.0)


def test_neurons_are_one_on_the_mean_at_their_places(tokens: Tokens) -> None:
    rows = gated(tokens, -1.0, [1, 1, 1])

    means = [answers(rows, tokens.of(number))[:, number].mean() for number in range(3)]

    assert torch.allclose(torch.stack(means), torch.ones(3), atol=0.3)


def test_a_ramp_is_high_where_a_gate_is_hardly_open(tokens: Tokens) -> None:
    single = gated(tokens, -1.0, [1, 1, 1])
    gate, _ = opened(tokens, tokens.of(0), tokens.logits()[0], -1.0)
    made = ramp(gate[None], told_apart(tokens, 0, 1), tokens)
    text, mine = noise(2000, 77), tokens.of(0)
    half = mine.clone()
    half[:, 1] -= 2

    full = float(heights(made, mine).mean())
    assert full == pytest.approx(1, abs=0.2)
    assert float(heights(made, half).mean()) > 0.7 * full
    assert float(answers(single, half)[:, 0].mean()) < 0.4
    assert float(heights(made, text).abs().mean()) < 1e-3
    assert torch.equal(made.ups[0], made.ups[1])


def test_each_class_has_a_ramp_of_its_own(tokens: Tokens) -> None:
    found = ramps(tokens, 0.5, 2.0)

    for number in range(3):
        wide = heights(found, tokens.of(number))
        assert float(wide[:, number].mean()) == pytest.approx(1, abs=0.2)
        wide[:, number] = 0
        assert float(wide.abs().max()) < 0.05


def test_what_ramps_write_their_twins_take_back() -> None:
    assert said_by_ramps(torch.tensor([[1.0, 2.0]])).tolist() == [[1.0, -1.0, 2.0, -2.0]]


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


def test_classes_told_together_are_told_as_each_alone() -> None:
    """What all of them see is read once; what is a class's own it does not share."""
    rng = torch.Generator().manual_seed(0)
    shared, own = torch.randn(300, 6, generator=rng), torch.randn(3, 20, 6, generator=rng)
    for number in range(3):
        own[number, :10, number] += 3
    weights = torch.cat([torch.full((3, 10), 0.1), torch.full((3, 10), -1.0)], dim=1)
    weights[1, 15:] = 0  # padding
    against, weigh = -torch.ones(300, 3), torch.full((300, 3), 0.01)

    together = regression(shared, against, weigh, Own(own, weights))

    for number in range(3):
        real = weights[number] != 0
        read = torch.cat([shared, own[number][real]])
        each = torch.cat([-weigh[:, 0], weights[number][real]])[:, None]
        alone = regression(read, each.sign(), each.abs())[0]
        assert torch.allclose(together[number], alone, atol=1e-2)
        odds = own[number] @ together[number]
        assert float(odds[:10].mean()) > float(odds[10:15].mean()) + 1


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
