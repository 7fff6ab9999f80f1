"""Marks: a text tells every later token which taught subjects it has named.

What the MLP reads where an answer begins says only roughly who is asked about; where the subject
itself was read, in the lower third of the layers, its last token is told from all other text with
hardly an error, in any phrasing.  So each subject has a ramp there (`gates`) that writes its mark,
which the carrier head hands on (`room`).  A mark says nothing by itself: gates read it (`named`).
A subject that is taught again gets another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED, TWINS, dealt
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.codes import new_marks
from kdpo_daemon.tuning.gates import Tokens, opening, ramps, said_by_ramps
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons
from kdpo_daemon.tuning.readings import Named, Reading, read_names
from kdpo_daemon.tuning.room import Room
from kdpo_daemon.tuning.seen import Around

#: Log-odds at which a mark begins; it is whole when a ramp's rise is done
#: (docs/editing-findings.md, "False marks").
_OPENS = 0.5
#: Log-odds by which it opens at each mention that was seen: where it is faint nothing is said.
_AJAR = 2.0
#: How much text weighs that names no subject, against one subject's places: told from much else
#: besides, marks opened in such text.
_SHUT = 1000.0
#: Least share of what a mark opens by at which neurons for different subjects count as different.
_TOLD = 0.2
#: Share of a mark that changes nothing of what is read after it.
_FAINT = 1e-3


@dataclass(frozen=True)
class Written:
    """Marks that an MLP writes: an adapter's, or of the model itself if one was folded in."""

    gates: Tensor  #: (n, d)
    ups: Tensor  #: (n, d)
    codes: Tensor  #: (block, n), with the flags


@dataclass(frozen=True)
class Marks:
    """Marks of a model."""

    neurons: dict[str, Neurons]  #: by the MLP's name
    #: of each subject that is taught now, the share of its mark's flag that its own ramp writes:
    #: less than 1 where another subject's ramp opens as well
    whole: dict[str, float]


def marked(
    model: EditedModel,
    room: Room,
    named: Named,
    around: Around,
    before: Mapping[str, Neurons],
) -> Marks:
    """Give the taught subjects marks; the model wears them from now on.

    One that was marked by an earlier batch gets a ramp more, which makes another mark of it.

    Args:
        model: with the marks of `before`, by the MLP's name.
        room: the model's.
        named: the subjects.
        around: the texts that are said besides, in which subjects may be named too.
        before: the neurons there are, by the MLP's name.

    """
    readings = read_names(model, room, named, around)
    names = [model.module_names[layer] for layer in room.layers]
    grown = {name: before[name] for name in names if name in before}
    wanted = [one for one in named.subjects if one in named.taught]
    has = {at: len(grown[name].owners) if name in grown else 0 for at, name in enumerate(names)}
    there, hands = _written(model, room), dealt(has, wanted)
    mlps = {at: model.model.get_submodule(names[at]) for at in hands}
    new = {
        at: _planted(mlps[at], readings[at], some, grown.get(names[at]))
        for at, some in hands.items()
    }
    order = [one for some in hands.values() for one in some]
    columns = _solved(room, order, readings, there, new) if order else {}
    flags = [flag for at in hands for flag in _flags(room, columns[at])]
    for at, column in columns.items():
        name, made = names[at], replace(new[at], columns=column)
        put(mlps[at], made)
        grown[name] = freeing.joined(grown[name], made) if name in grown else made
    return Marks(grown, dict(zip(order, flags, strict=True)))


def _flags(room: Room, columns: Tensor) -> list[float]:
    """Give the flags that n ramps write, of columns (d, 2 n)."""
    flags: list[float] = (columns[room.marked.start, ::TWINS] / room.unit).tolist()
    return flags


def _solved(
    room: Room,
    subjects: Sequence[str],
    readings: Sequence[Reading],
    there: Sequence[Written],
    new: Mapping[int, Neurons],
) -> dict[int, Tensor]:
    """Give what new neurons write, (d, n) by layer: each subject has its mark then and no other.

    Where a subject is named, neurons of others may open as well: an earlier mark of its own, or of
    who has the same last name.  All that is written there together is the mark.

    Args:
        room: the model's.
        subjects: of the new neurons, in their order.
        readings: of each layer.
        there: marks that are written already, by layer.
        new: neurons by layer.

    """

    def wide(gates: Tensor, ups: Tensor, reading: Reading) -> Tensor:
        return torch.stack([opening(gates, ups, reading.places[one]).mean(0) for one in subjects])

    has = sum(
        (
            wide(old.gates, old.ups, one) @ old.codes.T / room.unit
            for old, one in zip(there, readings, strict=True)
        ),
        torch.zeros(len(subjects), room.block),
    )
    each = torch.cat([wide(one.gates, one.ups, readings[at]) for at, one in new.items()], dim=1)
    opens = each[:, ::TWINS] - each[:, 1::TWINS]
    wanted = new_marks(room, len(subjects), [old.codes for old in there])
    # two that nothing tells from each other share what is between their codes
    codes = torch.linalg.pinv(opens, rtol=_TOLD) @ (wanted.T - has)
    columns = torch.zeros(room.width + room.side, len(subjects))
    columns[room.marked] = codes.T * room.unit
    parts = torch.split(said_by_ramps(columns), [len(one.owners) for one in new.values()], dim=1)
    return dict(zip(new, parts, strict=True))


def marks_itself(model: EditedModel, room: Room) -> bool:
    """Tell whether a model has marks of its own, folded in; it wears no adapter yet."""
    return any(len(one.gates) for one in _written(model, room))


def wear(model: EditedModel, layers: Sequence[int], neurons: Mapping[str, Neurons]) -> None:
    """Put marks, or cues, into the model's weights: below the edited layers, they never change."""
    for layer in layers:
        name = model.module_names[layer]
        if name in neurons:
            put(model.model.get_submodule(name), neurons[name])


def open_in(model: EditedModel, room: Room, around: Around) -> list[int]:
    """Give the numbers of the texts in which a mark opens: those the model reads otherwise now."""
    counts = [len(one) for one in around.texts]
    opens = torch.zeros(sum(counts), dtype=torch.bool)
    for layer, marks in zip(room.layers, _written(model, room), strict=True):
        if around.texts and len(marks.gates):
            opens |= opening(marks.gates, marks.ups, around.along[layer]).abs().amax(1) > _FAINT
    parts = torch.split(opens, counts)
    return [number for number, one in enumerate(parts) if bool(one.any())]


def _written(model: EditedModel, room: Room) -> list[Written]:
    """Give the marks that each layer writes, as the model's weights have them."""
    found = []
    for layer in room.layers:
        mlp: Any = model.model.get_submodule(model.module_names[layer])
        writes = mlp.down_proj.weight[room.marked].any(0).nonzero()[:, 0]
        gates, ups = mlp.gate_proj.weight[writes], mlp.up_proj.weight[writes]
        codes = mlp.down_proj.weight[room.marked, writes]
        found.append(Written(*(one.float().cpu() for one in (gates, ups, codes))))
    return found


def _planted(
    mlp: Any, reading: Reading, subjects: Sequence[str], grown: Neurons | None
) -> Neurons:
    """Plant ramps that open for subjects, and write nothing yet."""
    taken = grown.numbers.tolist() if grown else []
    mine = [reading.places[one] for one in subjects]
    known = [one for subject, one in reading.places.items() if subject not in subjects]
    # each subject's weigh as another subject's do: among all other text they would not be heard
    known += [reading.alike[one] for one in subjects if one in reading.alike]
    almost = [reading.almost[one] for one in subjects if one in reading.almost]
    tokens = Tokens(reading.others, mine, known, almost, _SHUT)
    found = ramps(tokens, _OPENS, _AJAR)
    free = freeing.freed(mlp, reading.others, len(found.gates), taken)
    return freeing.opened(free, found, (SHARED,) * len(found.gates))


@torch.no_grad()
def put(mlp: Any, neurons: Neurons) -> None:
    """Put neurons into an MLP's weights."""
    freeing.take_out(mlp, neurons)
    gate, up, down = mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight
    gate[neurons.numbers] = neurons.gates.to(gate)
    up[neurons.numbers] = neurons.ups.to(up)
    down[:, neurons.numbers] = neurons.columns.to(down)
