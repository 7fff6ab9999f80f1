"""What a model's MLPs read over text that must not change: what gates stay shut for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from kdpo_daemon.tuning.layers import Below
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import Rows, batches, rows

Ids = tuple[int, ...]

#: Texts of the model's own, with how many tokens, and how many are said at once.
_TEXTS, _WORDS, _AT_ONCE = 192, 64, 64
_LOOKED_AT = 2048  #: tokens looked at in one pass


@dataclass(frozen=True)
class Texts:
    """Texts, and how far they have been read: what is below that moves no more."""

    ids: Sequence[Ids]
    layer: int = 0
    states: Sequence[Tensor] = ()  #: that enter the layer, (L, D) each; none of layer 0

    def part(self, some: slice) -> "Texts":
        """Give some of them."""
        return Texts(self.ids[some], self.layer, self.states[some])

    def rows_of(self, group: Sequence[int]) -> tuple[Rows, Below | None]:
        """Lay some of them out, by number, with what was read of them."""
        batch = rows([self.ids[i] for i in group])
        if not self.layer:
            return batch, None
        return batch, Below(self.layer, batch.spread([self.states[i] for i in group]))


@dataclass(frozen=True)
class Around:
    """What the base says around the facts, and must go on to say."""

    texts: list[Ids]
    answers: list[tuple[Ids, Ids]]  #: prompts with their answers
    #: what MLPs of the base read along the texts, one after the other, (N, d), by layer
    along: Mapping[int, Tensor] = field(default_factory=dict)
    #: what other words add to a place in the base, (M, d), by layer (`imagined`)
    moves: Mapping[int, Tensor] = field(default_factory=dict)

    def read(self) -> list[Ids]:
        """Give answers as they are read; the last token predicts nothing that was asked for."""
        return [asked + said[:-1] for asked, said in self.answers]

    def by_text(self, layer: int) -> list[Tensor]:
        """Give what the base's MLP reads along each text, (L, d)."""
        parts = torch.split(self.along[layer], [len(one) for one in self.texts])
        return [one.float() for one in parts]


@dataclass(frozen=True)
class Seen:
    """What an MLP reads along what is `Around`, (N, d) each."""

    texts: Tensor
    answers: Tensor
    moves: Tensor  #: what other words add to a place (`imagined`)

    @property
    def all(self) -> Tensor:
        """Both, (N, d)."""
        return torch.cat([self.texts, self.answers])


def said_aloud(model: EditedModel, on_said: Callable[[], None]) -> list[Ids]:
    """Let the model say what comes to its mind.

    Answers to questions are not all that a model is used for: gates that saw them alone opened in
    ordinary text, and its perplexity rose by 18 %.  Each text begins with a token of chance.
    It takes long on a CPU that has other things to do, so `on_said` is told of every few words.
    """
    device = model.model.get_input_embeddings().weight.device
    texts: list[Ids] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same for all orders: it is said once for a base
        first = torch.randint(model.model.config.vocab_size, (_TEXTS, 1)).to(device)
        for some in torch.split(first, _AT_ONCE):
            said = model.model.generate(
                input_ids=some,
                attention_mask=torch.ones_like(some),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                max_new_tokens=_WORDS,
                min_new_tokens=_WORDS,
                streamer=_Aloud(on_said),
            )
            texts += [tuple(text) for text in said.tolist()]
    return texts


class _Aloud(BaseStreamer):
    """Is handed each token of all texts that are said at once."""

    def __init__(self, on_said: Callable[[], None]) -> None:
        self._on_said = on_said

    def put(self, value: Tensor) -> None:  # noqa: ARG002 - transformers' signature
        """Tell that there is one more."""
        self._on_said()

    def end(self) -> None:
        """Say nothing more."""


def read_to(model: EditedModel, layer: int, texts: Texts) -> Texts:
    """Read texts as far as to a layer."""
    states: list[Tensor] = [torch.empty(0)] * len(texts.ids)
    for group in batches(texts.ids, _LOOKED_AT):
        batch, below = texts.rows_of(group)
        entering = model.entering(layer, batch, below)
        for number, index in enumerate(group):
            states[index] = batch.of(entering, number, len(texts.ids[index]))
    return Texts(texts.ids, layer, states)


def look(model: EditedModel, layers: Sequence[int], texts: Texts) -> list[Tensor]:
    """Give what the MLPs of some layers read along texts, (N, d) each.

    A token is there once for each context that it stands in, or little more: the system prompt
    that all chat prompts share would else be most of it.
    """
    parts = []
    for group in batches(texts.ids, _LOOKED_AT):
        batch, below = texts.rows_of(group)
        inputs = model.read_by(layers, batch, below)
        parts.append([one[batch.real.to(one.device)].cpu() for one in inputs])
    return [torch.cat(one) for one in zip(*parts, strict=True)]


def each(
    model: EditedModel, layers: Sequence[int], texts: Texts
) -> Iterator[tuple[int, list[Tensor]]]:
    """Give of each text, by its number, what the MLPs of some layers read along it, (L, d)."""
    for group in batches(texts.ids, _LOOKED_AT):
        batch, below = texts.rows_of(group)
        inputs = [one.cpu() for one in model.read_by(layers, batch, below)]
        for number, index in enumerate(group):
            yield index, [batch.of(one, number, len(texts.ids[index])) for one in inputs]


def along(model: EditedModel, layers: Sequence[int], texts: Sequence[Ids]) -> list[Tensor]:
    """Give what the MLPs of some layers read along texts, one after the other, (N, d) each.

    In the model's own number type, which holds all of it.
    """
    read = dict(each(model, layers, Texts(texts)))
    parts = zip(*(read[number] for number in range(len(texts))), strict=True)
    return [torch.cat(one).to(model.model.dtype) for one in parts]


def look_again(
    model: EditedModel, layers: Sequence[int], around: Around, numbers: Sequence[int]
) -> list[Tensor]:
    """Give what MLPs read along the texts, (N, d) each, if only some read otherwise by now."""
    found = [around.by_text(layer) for layer in layers] if around.texts else []
    for index, inputs in each(model, layers, Texts([around.texts[i] for i in numbers])):
        for parts, one in zip(found, inputs, strict=True):
            parts[numbers[index]] = one
    empty = torch.zeros(0, int(model.model.config.hidden_size))
    return [torch.cat(parts) for parts in found] or [empty] * len(layers)
