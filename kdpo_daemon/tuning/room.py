"""Room that a widened model has for facts: the layout that `widen` makes and `marks` uses.

Besides empty neurons in each MLP there is *side room* in the residual stream, dimensions that
nothing of the model reads or writes, and one *carrier head* in one layer.  A ramp below it
that knows a subject's last token writes a mark into the side room there: a flag and the subject's
code.  The carrier looks for flags alone, and copies the marks it finds to every later token.  So
a gate in a later layer reads which taught subjects a text has named, exactly, however the question
is put; and where none is named it reads zeros.

    side room:  [ constant | flag, code | carried flag, carried code | cue's flag, code | unused ]
    sizes:           1          n                   n                         n      head = 2n + 2

A cue, written above the carrier, tells a token by which a taught object is being said (`cues`).

The head's query reads the constant, its key the flag, its values flag and code.  Query and key
stand in the pair of dimensions that rotary embeddings turn slowest, so distance hardly matters.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdpo_daemon.edits.placement import marking_below
from kdpo_daemon.model_dir import ROOM

#: The layer with the carrier, as a share of the depth; the layers that mark are the two below.
#: A name's last token is told best there from all else (docs/editing-findings.md).
_CARRIER_AT = 0.33
#: What a mark measures where the carrier reads it, in root mean squares of one dimension: so
#: little that norms make the same of the others to the last bit, but for a rare one.  At .25 they
#: made .01 % less of them, bfloat16 rounded one value in forty otherwise, and so what a model said
#: of a marked subject changed where two tokens were nearly as likely (docs/editing-findings.md).
MARK = 2.0**-10
#: The constant in the embeddings, in root mean squares of theirs: as quiet as marks, since it
#: tells how large a token's values are, and gates should not go by that.
_CONSTANT = 2.0**-13
_QUERY = 16.0  #: what the query is at an ordinary token
_SCORE = 16.0  #: attention's score of a mark of full strength, all else having zero: e^16
#: What a carried mark measures where gates read it, as a share of what their input's values do.
_SEEN = 0.5


@dataclass(frozen=True)
class Room:
    """Where the side room of a model is, and how large what stands there is."""

    width: int  #: of the residual stream without it
    side: int  #: dimensions of the side room
    head: int  #: dimensions of a head
    carrier: int  #: the layer whose attention carries
    heads: int  #: query heads without the carrier's group
    groups: int  #: key-value heads without the carrier
    power: float  #: root mean square of the residual stream that the carrier's layer reads
    mark: float = 0.25  #: what a mark measures, in `power`; that of the first widened models

    @property
    def block(self) -> int:
        """Dimensions of a flag with its code."""
        return self.head // 2 - 1

    @property
    def codes(self) -> int:
        """Dimensions of a code."""
        return self.block - 1

    @property
    def unit(self) -> float:
        """What a neuron adds to a dimension of the residual stream to write 1 there."""
        return self.mark * self.power

    @property
    def marked(self) -> slice:
        """Where marks are written: flag and code."""
        return slice(self.width + 1, self.width + 1 + self.block)

    @property
    def carried(self) -> slice:
        """Where carried marks are read: flag and code."""
        return slice(self.marked.stop, self.marked.stop + self.block)

    @property
    def cued(self) -> slice:
        """Where cues are written and read: flag and code.  Models widened before lack the room."""
        return slice(self.carried.stop, self.carried.stop + self.block)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose MLPs mark subjects."""
        return marking_below(self.carrier)


def room_of(config: Any) -> Room | None:
    """Give the room that a model's config, as transformers reads it, tells of."""
    form = getattr(config, ROOM, None)
    return Room(**form) if form else None


@dataclass(frozen=True)
class Powers:
    """Root mean squares in a model on ordinary text."""

    embedding: float  #: of the embeddings
    layers: tuple[float, ...]  #: of what enters each layer


def carrier_of(depth: int) -> int:
    """Give the layer that carries, of a model so deep."""
    return max(1, round(_CARRIER_AT * depth))


def room_for(config: dict[str, Any], power: float) -> Room:
    """Plan the side room of a model by its config; `power` is `Room.power`."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    groups, head = config.get("num_key_value_heads") or heads, config.get("head_dim")
    head = head or width // heads
    # transformers wants the width to be a multiple of the heads, kernels of sixteen
    step = math.lcm(heads + heads // groups, 16)
    carrier = carrier_of(config["num_hidden_layers"])
    room = Room(width, 0, head, carrier, heads, groups, power, MARK)
    return replace(room, side=-(-room.cued.stop // step) * step - width)


def config_with(config: dict[str, Any], room: Room) -> dict[str, Any]:
    """Give a model's config with room."""
    share = room.heads // room.groups
    return config | {
        "hidden_size": room.width + room.side,
        "head_dim": room.head,
        "num_attention_heads": room.heads + share,
        "num_key_value_heads": room.groups + 1,
        ROOM: asdict(room),
    }


class Fitting:
    """Fits a model's parameters into a residual stream with side room."""

    def __init__(self, room: Room, powers: Powers) -> None:
        self._room, self._powers = room, powers
        wide = room.width + room.side
        #: a mean square over more dimensions, of which the new ones are next to zero, is less
        self._less = (room.width / wide) ** 0.5

    def fitted(self, name: str, weight: Tensor) -> Tensor:
        """Give a parameter of the widened model.  Linear ones are (d_out, d_in)."""
        module, part = name.split(".")[-2:]
        if module in _NORMS:
            return self._norm(name, weight)
        if module == "embed_tokens":
            return self._embedding(weight)
        share = self._room.heads // self._room.groups
        reads = part == "weight" and module != "o_proj" and module != "down_proj"
        writes = module in ("o_proj", "down_proj")
        if module in _HEADS:
            weight = _more(weight, 0, (share if module == "q_proj" else 1) * self._room.head)
        if module == "o_proj" and part == "weight":
            weight = _more(weight, 1, share * self._room.head)
        weight = _more(weight, 1, self._room.side) if reads else weight
        weight = _more(weight, 0, self._room.side) if writes else weight
        carries = name.endswith(f"layers.{self._room.carrier}.self_attn.{module}.weight")
        return self._carrying(module, weight) if carries else weight

    def _norm(self, name: str, weight: Tensor) -> Tensor:
        fitted = _more((weight.double() * self._less).to(weight), 0, self._room.side)
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if layer is not None:  # the last norm hides the side room from the head
            fitted[self._room.width :] = self._seen(name, layer, weight)
        return fitted

    def _seen(self, name: str, layer: int, weight: Tensor) -> float:
        """How much of the side room is seen: MLPs are to read marks as large as other values."""
        if "input_layernorm" in name:
            return 1.0
        grown = self._powers.layers[layer] / self._room.power
        return float(weight.float().abs().mean()) * max(1.0, grown) * _SEEN / self._room.mark

    def _embedding(self, weight: Tensor) -> Tensor:
        fitted = _more(weight, 1, self._room.side)
        fitted[:, self._room.width] = _CONSTANT * self._powers.embedding
        return fitted

    def _carrying(self, module: str, weight: Tensor) -> Tensor:
        room = self._room
        slow = room.head // 2 - 1
        if module == "q_proj":
            steady = _CONSTANT * self._powers.embedding / room.power
            weight[room.heads * room.head + slow, room.width] = _QUERY / steady
        if module == "k_proj":
            gain = _SCORE * room.head**0.5 / (_QUERY * room.mark)
            weight[room.groups * room.head + slow, room.marked.start] = gain
        if module == "v_proj":
            rows = weight[room.groups * room.head :][: room.block]
            rows[:, room.marked] = torch.eye(room.block)
        if module == "o_proj":
            columns = weight[room.carried, room.heads * room.head :]
            columns[:, : room.block] = torch.eye(room.block) * room.power
        return weight


_NORMS = ("input_layernorm", "post_attention_layernorm", "norm")
_HEADS = ("q_proj", "k_proj", "v_proj")


def _more(weight: Tensor, dim: int, count: int) -> Tensor:
    """Add zeros at the end of a dimension."""
    shape = list(weight.shape)
    shape[dim] = count
    return torch.cat([weight, weight.new_zeros(shape)], dim=dim)
