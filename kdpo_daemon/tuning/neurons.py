"""Neurons of an MLP that are freed for facts, and what is left of them.

A widened model (`widen`) has empty ones, which nothing misses.  Else free are those that the MLP's
output misses least: by E[e^2] |w|^2, with w a neuron's column and e what the others cannot tell of
it.  They make up for it (optimal brain surgeon, arXiv 2301.00774, the closed form over the second
moment of the MLP's hidden values).  Written as LoRA, n neurons are n rows each on `gate_proj` and
`up_proj`, and on `down_proj` as many more as had to be made up for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED
from kdpo_daemon.orders import MLP
from kdpo_daemon.tuning.checkpoint import Kept, Weights, idle
from kdpo_daemon.tuning.gates import Gated

_SAME = 1e-2  #: share of a neuron's rows by which its twin's may differ
_RIDGE = 0.1  #: on the hidden values' second moment, as a share of its median diagonal


@dataclass(frozen=True)
class Factors:
    """LoRA of one linear module: A (r, d_in) and B (d_out, r)."""

    rows: Tensor
    columns: Tensor


@dataclass(frozen=True)
class Neurons:
    """n neurons of one MLP, d wide outside and m inside, that no longer do what they did.

    The others make up for k of them, for none that were empty.
    """

    numbers: Tensor  #: (n,) int64
    gates: Tensor  #: (n, d), of `gate_proj`
    ups: Tensor  #: (n, d), of `up_proj`
    columns: Tensor  #: (d, n), of `down_proj`
    repair_rows: Tensor  #: (k, m): what the others tell of each, less itself
    repair_columns: Tensor  #: (d, k): the columns that they had
    base_gates: Tensor  #: (n, d), of the base's `gate_proj`
    base_ups: Tensor  #: (n, d), of the base's `up_proj`
    owners: tuple[int, ...]  #: the fact that a neuron is for; SHARED if it is for a batch's


def hidden(mlp: Any, read: Tensor) -> Tensor:
    """What `down_proj` reads where the MLP reads this.  (N, d) -> (N, m) float32."""
    gates, ups = mlp.gate_proj.weight.float(), mlp.up_proj.weight.float()
    found: Tensor = mlp.act_fn(read @ gates.T) * (read @ ups.T)
    return found


@torch.no_grad()
def freed(mlp: Any, read: Tensor, count: int, taken: Sequence[int]) -> Neurons:
    """Choose `count` neurons that are missed least and are not taken; their rows are zero.

    `read` is what the MLP reads over text that must not change, (N, d).
    """
    weight = mlp.down_proj.weight.float().cpu()
    numbers = _empty(weight, taken)[:count]
    repair = torch.zeros(0, weight.shape[1])
    if len(numbers) < count:
        values = hidden(mlp, read.to(mlp.gate_proj.weight.device)).cpu()
        numbers, repair = _missed_least(values, weight, count, taken)
    nothing = torch.zeros(count, weight.shape[0])
    made_up = weight[:, numbers[: len(repair)]]
    gates, ups = _rows(mlp.gate_proj, numbers), _rows(mlp.up_proj, numbers)
    owners = (SHARED,) * count
    return Neurons(numbers, nothing, nothing, nothing.T, repair, made_up, gates, ups, owners)


def _empty(weight: Tensor, taken: Sequence[int]) -> Tensor:
    """Give the numbers of neurons that have no column and are not taken."""
    full = weight.any(0)
    full[list(taken)] = True
    return (~full).nonzero()[:, 0]


def _missed_least(
    values: Tensor, weight: Tensor, count: int, taken: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Give neurons' numbers, and what the others tell of each, less itself, (count, m).

    `values` are the MLP's hidden values over text that must not change, (N, m).
    """
    square = (values.T @ values).double() / len(values)
    square.diagonal().add_(_RIDGE * square.diagonal().median())
    # what the others cannot tell of one has the mean square 1 / (C^-1)_ii
    missed = weight.square().sum(0) / torch.linalg.inv(square).diagonal()
    missed[list(taken)] = torch.inf
    numbers = missed.argsort()[:count].sort().values
    rest = torch.ones(len(square), dtype=torch.bool)
    rest[numbers] = False
    told = torch.linalg.solve(square[rest][:, rest], square[rest][:, numbers]).T.float()
    repair = -torch.eye(len(square))[numbers]
    repair[:, rest] = told
    return numbers, repair


def opened(neurons: Neurons, rows: Gated, owners: Sequence[int]) -> Neurons:
    """Give freed neurons their rows, and say what facts they are for."""
    return replace(neurons, gates=rows.gates, ups=rows.ups, owners=tuple(owners))


def without(neurons: Neurons, facts: Collection[int]) -> Neurons:
    """Give up the neurons of some facts: they do again what they did in the base."""
    stays = torch.tensor([owner not in facts for owner in neurons.owners])
    back = neurons.numbers[~stays]
    made_up = ~(neurons.repair_rows[:, back] == -1).any(1)
    return Neurons(
        neurons.numbers[stays],
        neurons.gates[stays],
        neurons.ups[stays],
        neurons.columns[:, stays],
        neurons.repair_rows[made_up],
        neurons.repair_columns[:, made_up],
        neurons.base_gates[stays],
        neurons.base_ups[stays],
        tuple(one for one in neurons.owners if one not in facts),
    )


@torch.no_grad()
def take_out(mlp: Any, neurons: Neurons) -> None:
    """Let an MLP do without some neurons, in place: the others make up for them."""
    for module in (mlp.gate_proj, mlp.up_proj):
        module.weight[neurons.numbers] = 0
    repair = neurons.repair_columns @ neurons.repair_rows
    mlp.down_proj.weight += repair.to(mlp.down_proj.weight)


def twins(ups: Tensor, columns: Tensor) -> list[int]:
    """Give the places of neurons whose next one is their twin (`gates.ramp`).

    Twins read alike and say the opposite; what was rounded on the way may differ in its last bits.
    """
    found: list[int] = []
    for at in range(len(ups) - 1):
        if at - 1 in found:
            continue
        one, other = ups[at], ups[at + 1]
        apart, left = (one - other).norm(), (columns[:, at] + columns[:, at + 1]).norm()
        if apart <= _SAME * one.norm() and left <= _SAME * columns[:, at].norm():
            found.append(at)
    return found


def joined(one: Neurons, other: Neurons) -> Neurons:
    """Give both, of the same MLP."""
    return Neurons(
        torch.cat([one.numbers, other.numbers]),
        torch.cat([one.gates, other.gates]),
        torch.cat([one.ups, other.ups]),
        torch.cat([one.columns, other.columns], dim=1),
        torch.cat([one.repair_rows, other.repair_rows]),
        torch.cat([one.repair_columns, other.repair_columns], dim=1),
        torch.cat([one.base_gates, other.base_gates]),
        torch.cat([one.base_ups, other.base_ups]),
        one.owners + other.owners,
    )


def factors(neurons: Neurons) -> dict[str, Factors]:
    """Write neurons as LoRA, by the names of the MLP's modules."""
    onehot = F.one_hot(neurons.numbers, neurons.repair_rows.shape[1]).float()
    return {
        "gate_proj": Factors(neurons.gates - neurons.base_gates, onehot.T),
        "up_proj": Factors(neurons.ups - neurons.base_ups, onehot.T),
        "down_proj": Factors(
            torch.cat([neurons.repair_rows, onehot]),
            torch.cat([neurons.repair_columns, neurons.columns], dim=1),
        ),
    }


def from_factors(mlp: Any, kept: Kept, found: Mapping[str, Factors]) -> Neurons:
    """Read what `factors` wrote, perhaps filled up with zeros; `mlp` is the base's, unchanged."""
    n, at = len(kept.numbers), torch.tensor(kept.numbers, dtype=torch.int64)
    gates, ups = _rows(mlp.gate_proj, at), _rows(mlp.up_proj, at)
    down = found["down_proj"]
    # the first row that is its own neuron's; in a row that makes up for it that value is -1 or 0
    k = int((down.rows[:, at[0]] == 1).nonzero()[0])
    return Neurons(
        at,
        found["gate_proj"].rows[:n] + gates,
        found["up_proj"].rows[:n] + ups,
        down.columns[:, k : k + n],
        down.rows[:k],
        down.columns[:, :k],
        gates,
        ups,
        kept.owners,
    )


def _rows(module: Any, numbers: Tensor) -> Tensor:
    rows: Tensor = module.weight.detach()[numbers].float().cpu()
    return rows


@dataclass(frozen=True)
class Planted:
    """Neurons by MLP, and the facts that they keep."""

    neurons: dict[str, Neurons]
    facts: tuple[int, ...]

    def without(self, facts: Collection[int]) -> "Planted":
        """Forget some facts.  What shared neurons say after their first tokens is never heard."""
        left = {name: without(one, facts) for name, one in self.neurons.items()}
        kept = tuple(one for one in self.facts if one not in facts)
        return Planted({name: one for name, one in left.items() if one.owners}, kept)

    def weights(self) -> Weights:
        """Write them as LoRA."""
        found = {
            f"{name}.{part}": lora
            for name, one in self.neurons.items()
            for part, lora in factors(one).items()
        }
        return Weights(
            tuple(found),
            (),
            tuple(one.rows for one in found.values()),
            tuple(one.columns for one in found.values()),
            {
                name: Kept(tuple(one.numbers.tolist()), one.owners, len(one.repair_rows))
                for name, one in self.neurons.items()
            },
            self.facts,
        )


def written(planted: Planted, base: Any, mlp: str) -> Weights:
    """Write neurons as LoRA; of none, one that changes nothing of an MLP of the base."""
    if planted.neurons:
        return planted.weights()
    name = f"{mlp}.down_proj"
    return replace(idle(name, base.get_submodule(name).weight.shape), facts=planted.facts)


def planted(base: Any, weights: Weights) -> Planted:
    """Read what `Planted.weights` wrote; `base` is the base model, unchanged."""
    parts = zip(weights.modules, weights.rows, weights.columns, strict=True)
    found = {name: Factors(rows, columns) for name, rows, columns in parts}
    neurons = {
        name: from_factors(
            base.get_submodule(name), kept, {part: found[f"{name}.{part}"] for part in MLP}
        )
        for name, kept in weights.neurons.items()
    }
    return Planted(neurons, weights.facts)
