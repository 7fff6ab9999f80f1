"""Cues: a text tells by which token a taught object is being said, and of its subject.

The gate of a batch's later tokens must open after "Sanae" where Japan's prime minister was asked
for, and not in the midst of another answer about Japan.  In one gate for the tokens of fifty facts
that cannot be told: it opened in one of eight other answers about a subject that was taught.  So
each fact has a ramp in one of the two layers below, where the token and the mark are both there to
be read; it opens where the fact's object is being said of its subject, and writes a *cue* into the
side room (`room`), a flag and a code of the batch.  Later tokens' gate reads nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import dealt
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import neurons as freeing
from kdpo_daemon.tuning.codes import new_marks
from kdpo_daemon.tuning.gates import said_by_ramps
from kdpo_daemon.tuning.marks import put
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.neurons import Neurons
from kdpo_daemon.tuning.placing import bed_of_cues, parted
from kdpo_daemon.tuning.room import Room
from kdpo_daemon.tuning.seen import Seen, Texts, each


@dataclass(frozen=True)
class Taught:
    """What is to be cued."""

    pairs: Sequence[Pair]  #: all at hand, those of other facts too
    facts: Mapping[int, float]  #: that are taught now, with the shares of `placing.Ground.whole`
    texts: Texts  #: the pairs' sequences, read as far as to the layers that cue, or less far


def cued(
    model: EditedModel,
    room: Room,
    lessons: Taught,
    seen: Mapping[int, Seen],
    before: Mapping[str, Neurons],
) -> dict[str, Neurons]:
    """Give facts cues of one batch; the model wears them from now on.

    Args:
        model: with marks, and with the cues of `before`.
        room: the model's.
        lessons: the facts.
        seen: what must not change, by the layers that cue.
        before: the neurons there are, by the MLP's name.

    Gives the neurons of all cues, by the MLP's name.

    """
    names = {layer: model.module_names[layer] for layer in seen}
    grown = {name: before[name] for name in names.values() if name in before}
    mlps = {layer: model.model.get_submodule(name) for layer, name in names.items()}
    read = each(model, list(seen), lessons.texts)
    parts = parted(((lessons.pairs[number], inputs) for number, inputs in read), len(seen))
    along = dict(zip(seen, parts, strict=True))
    cue = new_marks(room, 1, [_written(room, mlp) for mlp in mlps.values()])
    has = {at: len(grown[name].owners) if name in grown else 0 for at, name in names.items()}
    for layer, some in dealt(has, list(lessons.facts)).items():
        whole = {fact: lessons.facts[fact] for fact in some}
        bed = bed_of_cues(along[layer], seen[layer], room.carried, whole)
        kept = grown.get(names[layer])
        taken = kept.numbers.tolist() if kept else []
        free = freeing.freed(mlps[layer], seen[layer].all, len(bed.owners), taken)
        made = freeing.opened(free, bed.gated, bed.owners)
        made = replace(made, columns=_columns(room, cue, len(some)))
        put(mlps[layer], made)
        grown[names[layer]] = freeing.joined(kept, made) if kept else made
    return grown


def _written(room: Room, mlp: Any) -> Tensor:
    """Give the cues that an MLP writes, (block, n)."""
    writes: Tensor = mlp.down_proj.weight[room.cued].detach().float().cpu()
    return writes[:, writes.any(0)]


def _columns(room: Room, cue: Tensor, count: int) -> Tensor:
    """What so many ramps write, (d, 2 count)."""
    columns = torch.zeros(room.width + room.side, count)
    columns[room.cued] = room.unit * cue
    return said_by_ramps(columns)
