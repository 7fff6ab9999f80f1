"""The closed forms of ROME, MEMIT and AlphaEdit, worked by hand."""

import pytest
import torch

from kdpo_daemon.bench.edits.rivals import closed
from kdpo_daemon.bench.edits.rivals.located import hold, ridged


def double(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_rome_brings_a_key_to_its_value_and_spares_what_text_uses() -> None:
    moment = double((4.0, 0.0), (0.0, 1.0))
    key, residual = double((1.0, 1.0))[0], double((2.0, -3.0))[0]

    change = closed.rank_one(residual, key, moment)

    # C^-1 k = (1/4, 1), and k^T C^-1 k = 5/4: a fifth of it goes where text is strong
    assert change.tolist() == [
        pytest.approx([0.4, 1.6]),
        pytest.approx([-0.6, -2.4]),
    ]
    assert (change @ key).tolist() == pytest.approx(residual.tolist())


def test_memit_weighs_two_facts_against_text() -> None:
    keys, residuals = double((1.0, 1.0), (0.0, 1.0)), double((3.0, 0.0))

    change = closed.least_squares(residuals, keys, double((1.0, 0.0), (0.0, 1.0)))

    # R K^T = (3, 0); C + K K^T = ((3, 1), (1, 2)), whose inverse is ((2, -1), (-1, 3)) / 5
    assert change.tolist() == [pytest.approx([1.2, -0.6])]


def test_memit_with_one_key_and_no_text_is_rome() -> None:
    moment = double((4.0, 0.5), (0.5, 1.0))
    key, residual = double((1.0, 1.0))[0], double((2.0, -3.0))[0]

    change = closed.least_squares(residual[:, None], key[:, None], 1e-9 * moment)

    assert change.flatten().tolist() == pytest.approx(
        closed.rank_one(residual, key, moment).flatten().tolist()
    )


def test_null_directions_are_those_of_small_eigenvalues() -> None:
    # eigenvalues 3 along (1, 1) and 1 along (1, -1)
    moment = double((2.0, 1.0), (1.0, 2.0))

    found = closed.null_directions(moment, 2.0)

    assert found.flatten().tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5])
    assert closed.null_directions(moment, 0.5).abs().max() == 0


def test_alphaedit_leaves_keys_that_text_uses_as_they_are() -> None:
    projector = closed.null_directions(double((2.0, 1.0), (1.0, 2.0)), 2.0)
    none = torch.zeros(2, 0, dtype=torch.float64)
    key, residual = double((2.0,), (0.0,)), double((3.0,))

    change = closed.projected(residual, key, none, projector, 1.0)

    # P k = (1, -1) and k^T P k = 2: dW = r (P k)^T / (1 + 2)
    assert change.tolist() == [pytest.approx([1.0, -1.0])]
    assert (change @ double((5.0,), (5.0,))).tolist() == [pytest.approx([0.0], abs=1e-12)]


def test_alphaedit_holds_to_the_keys_of_earlier_batches() -> None:
    everywhere = torch.eye(2, dtype=torch.float64)
    key, earlier, residual = double((1.0,), (1.0,)), double((0.0,), (100.0,)), double((2.0,))

    change = closed.projected(residual, key, earlier, everywhere, 1e-6)

    assert (change @ key).item() == pytest.approx(2.0, abs=1e-3)
    assert abs((change @ earlier).item()) < 0.03


def test_a_ridge_is_a_share_of_the_mean_diagonal() -> None:
    found = ridged(double((3.0, 1.0), (1.0, 1.0)), 0.5)

    assert found.tolist() == [[4.0, 1.0], [1.0, 2.0]]


def test_a_change_is_held_to_its_length() -> None:
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])

    hold(long, 1.0)
    hold(short, 1.0)

    assert long.tolist() == pytest.approx([0.6, 0.8])
    assert short.tolist() == pytest.approx([0.3, 0.4])
