"""Marks: a text tells every later token which taught subjects it has named.

What the MLP reads where an answer begins says only roughly who is asked about; where the subject
itself was read, in the lower third of the layers, its last token is told from all other text with
hardly an error, in any phrasing.  So each subject has a neuron there that writes its mark, which
the carrier head hands on (`room`).  A mark says nothing by itself: gates read it (`named`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED, dealt
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.gates import Tokens, gated, opening
from kdpo_daemon.tuning.imagined import ends_alike
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons
from kdpo_daemon.tuning.packing import batches, rows
from kdpo_daemon.tuning.room import MARK, Room
from kdpo_daemon.tuning.seen import Around
from kdpo_daemon.tuning.tokens import mentions, sequence_of

_TOKENS = 4096  #: looked at in one pass
_OPENS = -1.0  #: log-odds at which a mark begins
#: Log-odds by which it opens at each mention that was seen: where it is faint nothing is said.
_AJAR = 2.0
_CANDIDATES = 512  #: codes of chance, of which the one farthest from all others is taken
#: How wide a subject's places open another mark if that one is its own, of an earlier batch.
_OWN = 0.5


@dataclass(frozen=True)
class Reading:
    """What an MLP reads along texts, and where they name subjects."""

    others: Tensor  #: (N, d) tokens that are no subject's last
    places: dict[str, Tensor]  #: (P, d) of each subject
    #: (P, d) where a text ends as each subject does, and names none
    alike: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """Marks that an MLP writes: an adapter's, or of the model itself if one was folded in."""

    gates: Tensor  #: (n, d)
    ups: Tensor  #: (n, d)
    codes: Tensor  #: (block, n), with the flags


def marked(
    model: EditedModel,
    room: Room,
    pairs: Sequence[Pair],
    around: Around,
    before: Mapping[str, Neurons],
    decode: Callable[[list[int]], str],
) -> dict[str, Neurons]:
    """Mark the subjects of pairs that are not marked yet; the model wears the marks from now on.

    Args:
        model: with the marks of `before`, by the MLP's name.
        room: the model's.
        pairs: all facts', with what was taught before.
        around: what else is said, in which subjects may be named too.
        before: the neurons there are, by the MLP's name.
        decode: tokens to text.

    Gives the neurons of all marks, by the MLP's name.

    """
    subjects = list(dict.fromkeys(pair.subject for pair in pairs))
    asked = [*map(sequence_of, pairs), *around.read()]
    readings = _read(model, room, subjects, asked, around.texts, decode)
    alike = _read_alike(model, room, ends_alike(pairs, around.texts, decode))
    readings = [replace(one, alike=read) for one, read in zip(readings, alike, strict=True)]
    names = [model.module_names[layer] for layer in room.layers]
    grown = {name: before[name] for name in names if name in before}
    there = _written(model, room)
    new = [one for one in subjects if not _has_mark(one, readings, there)]
    has = {at: len(grown[name].owners) if name in grown else 0 for at, name in enumerate(names)}
    for at, some in dealt(has, new).items():
        made = _planted(model, room, names[at], readings[at], some, grown)
        name = names[at]
        grown[name] = freeing.joined(grown[name], made) if name in grown else made
    return grown


def wear(model: EditedModel, room: Room, neurons: Mapping[str, Neurons]) -> None:
    """Put marks into the model's weights: below the edited layers, they never change."""
    for layer in room.layers:
        name = model.module_names[layer]
        if name in neurons:
            _put(model.model.get_submodule(name), neurons[name])


def _read(
    model: EditedModel,
    room: Room,
    subjects: Sequence[str],
    asked: Sequence[tuple[int, ...]],
    texts: Sequence[tuple[int, ...]],
    decode: Callable[[list[int]], str],
) -> list[Reading]:
    texts = [*asked, *texts]
    others: list[list[Tensor]] = [[] for _ in room.layers]
    places: list[dict[str, list[Tensor]]] = [{one: [] for one in subjects} for _ in room.layers]
    for group in batches(texts, _TOKENS):
        batch = rows([texts[i] for i in group])
        inputs = [one.cpu() for one in model.read_by(room.layers, batch)]
        for number, index in enumerate(group):
            text = texts[index]
            named = _named(text, subjects, decode)
            free = torch.ones(len(text), dtype=torch.bool)
            free[[place for at in named.values() for place in at]] = False
            named = {one: heard(at, text, asked=index < len(asked)) for one, at in named.items()}
            free[[place for at in named.values() for place in at]] = False
            for layer, one in enumerate(inputs):
                read = batch.of(one, number, len(text))
                others[layer].append(read[free])
                for subject, at in named.items():
                    places[layer][subject].append(read[at])
    return [
        Reading(torch.cat(rest), {one: torch.cat(found) for one, found in named.items() if found})
        for rest, named in zip(others, places, strict=True)
    ]


def _read_alike(
    model: EditedModel, room: Room, texts: Mapping[str, Sequence[tuple[int, ...]]]
) -> list[dict[str, Tensor]]:
    """What each layer reads at the last tokens of some texts, (P, d) by subject."""
    flat = [(subject, text) for subject, some in texts.items() for text in some]
    found: list[dict[str, list[Tensor]]] = [{} for _ in room.layers]
    for group in batches([text for _, text in flat], _TOKENS):
        batch = rows([flat[i][1] for i in group])
        for layer, one in enumerate(model.read_by(room.layers, batch)):
            for number, index in enumerate(group):
                subject, text = flat[index]
                last = batch.of(one, number, len(text))[-1].cpu()
                found[layer].setdefault(subject, []).append(last)
    return [{one: torch.stack(read) for one, read in layer.items()} for layer in found]


def heard(at: Sequence[int], text: Sequence[int], *, asked: bool) -> list[int]:
    """Give the places of marks that are heard.

    No head hears one at a text's first token, which all attend to anyhow: a prompt that begins
    with a subject of one token is marked at the second.  In what the model says by itself that
    may be any token.
    """
    if not asked:
        return [place for place in at if place]
    return sorted({max(1, place) for place in at if place or len(text) > 1})


def _named(
    text: Sequence[int], subjects: Sequence[str], decode: Callable[[list[int]], str]
) -> dict[str, list[int]]:
    """Where subjects are named."""
    whole = decode(list(text))
    found = {one: mentions(text, one, decode) for one in subjects if one in whole}
    return {one: at for one, at in found.items() if at}


def _written(model: EditedModel, room: Room) -> list[Written]:
    """Give the marks that each layer writes, as the model's weights have them."""
    found = []
    for layer in room.layers:
        mlp: Any = model.model.get_submodule(model.module_names[layer])
        flags = mlp.down_proj.weight[room.marked.start].nonzero()[:, 0]
        gates, ups = mlp.gate_proj.weight[flags], mlp.up_proj.weight[flags]
        codes = mlp.down_proj.weight[room.marked, flags]
        found.append(Written(*(one.float().cpu() for one in (gates, ups, codes))))
    return found


def _has_mark(subject: str, readings: Sequence[Reading], there: Sequence[Written]) -> bool:
    """Tell whether a mark opens where the subject is named."""
    for written, reading in zip(there, readings, strict=True):
        if len(written.gates) and subject in reading.places:
            opened = opening(written.gates, written.ups, reading.places[subject])
            if float(opened.mean(0).max()) > _OWN:
                return True
    return False


def _planted(
    model: EditedModel,
    room: Room,
    name: str,
    reading: Reading,
    subjects: Sequence[str],
    grown: Mapping[str, Neurons],
) -> Neurons:
    mlp: Any = model.model.get_submodule(name)
    taken = grown[name].numbers.tolist() if name in grown else []
    mine = [reading.places[one] for one in subjects]
    known = [one for subject, one in reading.places.items() if subject not in subjects]
    # each subject's weigh as another subject's do: among all other text they would not be heard
    known += [reading.alike[one] for one in subjects if one in reading.alike]
    gates = gated(Tokens(reading.others, mine, known), _OPENS, [1] * len(subjects), _AJAR)
    free = freeing.freed(mlp, reading.others, len(subjects), taken)
    there = [one.codes for one in _written(model, room)]
    columns = torch.zeros(room.width + room.side, len(subjects))
    columns[room.marked] = _marks(room, len(subjects), there) * (MARK * room.power)
    owners = (SHARED,) * len(subjects)
    made = replace(freeing.opened(free, gates, owners), columns=columns)
    _put(mlp, made)
    return made


def _marks(room: Room, count: int, there: Sequence[Tensor]) -> Tensor:
    """Flags with codes of length 1, far from each other and from those there are, (block, n)."""
    known = [one[1:] / one[1:].norm(dim=0) for one in there]
    codes = torch.cat([torch.zeros(room.codes, 0), *known], dim=1)
    chance = torch.Generator().manual_seed(codes.shape[1])
    for _ in range(count):
        tried = torch.randn(room.codes, _CANDIDATES, generator=chance)
        tried = tried / tried.norm(dim=0)
        nearest = (tried.T @ codes).amax(1) if codes.shape[1] else torch.zeros(_CANDIDATES)
        codes = torch.cat([codes, tried[:, nearest.argmin()][:, None]], dim=1)
    new = codes[:, codes.shape[1] - count :]
    return torch.cat([torch.ones(1, count), new])


@torch.no_grad()
def _put(mlp: Any, neurons: Neurons) -> None:
    freeing.take_out(mlp, neurons)
    gate, up, down = mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight
    gate[neurons.numbers] = neurons.gates.to(gate)
    up[neurons.numbers] = neurons.ups.to(up)
    down[:, neurons.numbers] = neurons.columns.to(down)
