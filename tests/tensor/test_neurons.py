"""Freed neurons of a GLU: what the others make up for, and the same as LoRA."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdpo_daemon.tuning.checkpoint import Kept
from kdpo_daemon.tuning.neurons import (
    Neurons,
    factors,
    freed,
    from_factors,
    hidden,
    joined,
    take_out,
    without,
)

WIDTH, INSIDE = 8, 20


class Mlp(nn.Module):
    """As Llama's."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(WIDTH, INSIDE, bias=False)
        self.up_proj = nn.Linear(WIDTH, INSIDE, bias=False)
        self.down_proj = nn.Linear(INSIDE, WIDTH, bias=False)
        self.act_fn = nn.SiLU()

    def forward(self, read: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.gate_proj(read)) * self.up_proj(read))
        return out


@pytest.fixture
def mlp() -> Any:
    torch.manual_seed(0)
    return Mlp().requires_grad_(requires_grad=False)


@pytest.fixture
def read() -> Tensor:
    return torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(1))


def filled(neurons: Neurons) -> Neurons:
    """Freed neurons with rows and columns of some kind."""
    n = len(neurons.numbers)
    rng = torch.Generator().manual_seed(2)
    return replace(
        neurons,
        gates=torch.randn(n, WIDTH, generator=rng),
        ups=torch.randn(n, WIDTH, generator=rng),
        columns=torch.randn(WIDTH, n, generator=rng),
    )


def with_lora(mlp: Any, neurons: Neurons, more: int = 0) -> Any:
    """The MLP with its LoRA merged, as a server computes it; `more` zeros fill up the rank."""
    for name, one in factors(neurons).items():
        weight = getattr(mlp, name).weight
        rows = nn.functional.pad(one.rows, (0, 0, 0, more))
        weight += nn.functional.pad(one.columns, (0, more)) @ rows
    return mlp


def test_what_is_missed_least_is_freed(mlp: Any, read: Tensor) -> None:
    mlp.down_proj.weight[:, [3, 11]] *= 1e-4

    assert freed(mlp, read, 2, ()).numbers.tolist() == [3, 11]
    assert 3 not in freed(mlp, read, 2, (3,)).numbers.tolist()


def test_empty_neurons_come_first_and_nothing_makes_up_for_them(mlp: Any, read: Tensor) -> None:
    mlp.down_proj.weight[:, [3, 11, 12]] = 0
    before = mlp(read)

    found = freed(mlp, read, 2, (11,))
    take_out(mlp, found)

    assert found.numbers.tolist() == [3, 12]
    assert found.repair_rows.shape == (0, INSIDE)
    assert torch.equal(mlp(read), before)
    assert factors(found)["down_proj"].rows.shape == (2, INSIDE)


def test_where_too_few_are_empty_others_are_taken_too(mlp: Any, read: Tensor) -> None:
    mlp.down_proj.weight[:, [3, 11]] = 0

    numbers = freed(mlp, read, 3, ()).numbers.tolist()

    assert {3, 11} < set(numbers)


def test_a_neuron_that_repeats_another_is_chosen_and_made_up_for(mlp: Any, read: Tensor) -> None:
    for module in (mlp.gate_proj, mlp.up_proj):
        module.weight[5] = module.weight[6]
    before, said = mlp(read), hidden(mlp, read)[:, 5:6] @ mlp.down_proj.weight[:, 5:6].T

    found = freed(mlp, read, 1, [one for one in range(INSIDE) if one not in (5, 6)])
    take_out(mlp, found)

    assert float((mlp(read) - before).square().mean()) < 0.05 * float(said.square().mean())


def test_the_others_make_up_for_it(mlp: Any, read: Tensor) -> None:
    before, found = mlp(read), freed(mlp, read, 3, ())
    weight = mlp.down_proj.weight.clone()

    take_out(mlp, found)
    repaired = (mlp(read) - before).square().mean()
    mlp.down_proj.weight.copy_(weight)
    bare = (mlp(read) - before).square().mean()

    assert float(repaired) < float(bare) / 1.2
    assert not hidden(mlp, read)[:, found.numbers].any()


def test_lora_is_what_the_trainer_computed(mlp: Any, read: Tensor) -> None:
    one = filled(freed(mlp, read, 3, ()))
    base = Mlp()
    base.load_state_dict(mlp.state_dict())
    served = with_lora(base.requires_grad_(requires_grad=False), one, more=2)

    take_out(mlp, one)
    answer = nn.functional.silu(read @ one.gates.T) * (read @ one.ups.T)
    trained = mlp(read) + answer @ one.columns.T

    assert torch.allclose(served(read), trained, atol=1e-4)


def test_neurons_of_a_later_batch_come_on_top(mlp: Any, read: Tensor) -> None:
    base = Mlp()
    base.load_state_dict(mlp.state_dict())
    first = filled(freed(mlp, read, 2, ()))
    take_out(mlp, first)
    second = filled(freed(mlp, read, 2, first.numbers.tolist()))
    take_out(mlp, second)
    both = joined(first, second)
    served = with_lora(base.requires_grad_(requires_grad=False), both)

    answer = nn.functional.silu(read @ both.gates.T) * (read @ both.ups.T)

    assert len(set(both.numbers.tolist())) == 4
    assert torch.allclose(served(read), mlp(read) + answer @ both.columns.T, atol=1e-4)


def test_a_neuron_that_is_given_back_does_again_what_it_did(mlp: Any, read: Tensor) -> None:
    both = replace(filled(freed(mlp, read, 2, ())), owners=(7, 8))
    alone = without(both, {8})
    before = mlp(read)

    served = with_lora(mlp, without(alone, {7}))

    assert (alone.owners, alone.numbers.tolist()) == ((7,), both.numbers.tolist()[:1])
    assert len(alone.repair_rows) == 1
    assert torch.equal(served(read), before)


@pytest.mark.parametrize("empty", [0, 2, 3])
def test_factors_are_read_as_they_were_written(mlp: Any, read: Tensor, empty: int) -> None:
    mlp.down_proj.weight[:, :empty] = 0
    one = filled(freed(mlp, read, 3, ()))

    again = from_factors(mlp, Kept(tuple(one.numbers.tolist()), one.owners), factors(one))

    for name in ("gates", "ups", "columns", "repair_rows", "repair_columns", "base_gates"):
        assert torch.allclose(getattr(again, name), getattr(one, name), atol=1e-6), name
