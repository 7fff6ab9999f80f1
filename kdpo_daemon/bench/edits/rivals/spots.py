"""Where the subject of a fact ends in a text, and what passes through a model there.

A spot is a text with the place of its subject's last token.  Shapes: N texts or spots, L places,
I and O the widths of a linear module's input and output.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.layout import Ids, shared
from kdpo_daemon.bench.edits.rivals.model import Begun, Lesson, Model, OnDone
from kdpo_daemon.records.teaching import Form, Prompt

_TEXTS = 32  #: read at once
#: Stands for a target where only what leads up to it matters.
_ANY: Ids = (0,)


@dataclass(frozen=True)
class Spot:
    """A prompt, what should follow it, and the place of its subject's last token."""

    lesson: Lesson
    place: int


@dataclass(frozen=True)
class Located:
    """A fact whose subject was found."""

    key: Spot  #: the first taught completion that names the subject
    taught: tuple[Spot, ...]  #: all taught phrasings that name it
    essence: Spot  #: "{subject} is a", which should go on as before


def located(model: Model, record: Record) -> Located | None:
    """Find a record's subject; None if no taught completion has it."""
    spots = [
        (prompt.form, found)
        for prompt in record.train
        if (found := _spot(model, model.lesson(prompt, record.new), record.subject))
    ]
    keys = [found for form, found in spots if form is Form.COMPLETION]
    about = model.ids(Prompt(Form.COMPLETION, f"{record.subject} is a"))
    essence = _spot(model, Lesson(about, _ANY), record.subject)
    if not keys or essence is None:
        return None
    return Located(keys[0], tuple(found for _, found in spots), essence)


def last_of(model: Model, ids: Ids, text: str) -> int | None:
    """Give the place of the token that ends a text's last occurrence; None: it is not there.

    Words are compared, not ids: a subject may be cut otherwise inside a prompt.
    """
    whole = model.text(ids, special=True)
    at = whole.rfind(text) if text else -1
    if at < 0:
        return None
    said = whole[: at + len(text)]
    ends = (n for n in range(len(ids)) if model.text(ids[: n + 1], special=True).startswith(said))
    return next(ends, None)


@torch.no_grad()
def read(
    model: Model, spots: Sequence[Spot], linear: nn.Linear, layer: nn.Module
) -> tuple[Tensor, Tensor]:
    """Give what enters a linear module, (N, I), and leaves a layer, (N, O), at each spot."""
    keys: list[Tensor] = []
    states: list[Tensor] = []
    for start in range(0, len(spots), _TEXTS):
        group = spots[start : start + _TEXTS]
        rows = list(range(len(group)))
        at = [one.place for one in group]

        def enters(into: Tensor, _: Tensor, rows: list[int] = rows, at: list[int] = at) -> None:
            keys.append(into[rows, at])

        def leaves(_: Tensor, out: Tensor, rows: list[int] = rows, at: list[int] = at) -> None:
            states.append(out[rows, at])

        with _watching(linear, enters), _watching(layer, leaves):
            model.target_logits([Lesson(one.lesson.prompt, _ANY) for one in group])
    return torch.cat(keys), torch.cat(states)


@dataclass(frozen=True)
class Changed:
    """A model with a change (O,) added to what leaves a module, at the place of each spot.

    Spots are passed by form and length, and what chats begin with is read once.
    """

    model: Model
    module: nn.Module
    spots: Sequence[Spot]

    @cached_property
    def _passes(self) -> list[tuple[Begun | None, list[int]]]:
        return list(self.model.alike([one.lesson for one in self.spots]))

    def logprobs(self, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p where targets are predicted (P, V), the spot of each (P,), targets (P,)."""
        found = []
        for begun, numbers in self._passes:
            group = [self.spots[i] for i in numbers]
            with adding(self.module, change, group, begun.length if begun else 0):
                logits, row, tokens = self.model.target_logits(
                    [one.lesson for one in group], begun
                )
            spot = torch.tensor(numbers, device=row.device)[row]
            found.append((logits.log_softmax(1), spot, tokens))
        logprobs, spots, targets = zip(*found, strict=True)
        return torch.cat(logprobs), torch.cat(spots), torch.cat(targets)


@contextmanager
def adding(
    module: nn.Module, change: Tensor, spots: Sequence[Spot], before: int = 0
) -> Iterator[None]:
    """Add a change (O,) to what leaves a module at the place of each row's spot.

    The first `before` places of all texts are not among what leaves it.
    """
    rows, places = torch.arange(len(spots)), torch.tensor([one.place - before for one in spots])

    def add(_: nn.Module, __: object, out: Tensor) -> Tensor:
        values = change.expand(len(spots), -1)
        at = (rows.to(out.device), places.to(out.device))
        return out.index_put(at, values, accumulate=True)

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def second_moments(
    model: Model,
    modules: Sequence[nn.Linear],
    prompts: Sequence[Prompt],
    max_tokens: int,
    on_done: OnDone,
) -> list[Tensor]:
    """Mean of k k^T over what enters each module while it reads prompts with its own answers.

    What all texts of a form begin with is left out, and so is the first token, on which models
    rest their attention: both would count far too often.  Gives one (I, I) in float64 for each.
    """
    texts = _answered(model, prompts, max_tokens, on_done)
    sums = [torch.zeros(one.in_features, one.in_features).double() for one in modules]
    counted = 0
    for start in range(0, len(texts), _TEXTS):
        group = texts[start : start + _TEXTS]
        at = [(row, n) for row, (ids, first) in enumerate(group) for n in range(first, len(ids))]
        rows, places = torch.tensor(at).unbind(1)
        counted += len(at)
        inputs = _inputs(model, modules, [ids for ids, _ in group], (rows, places))
        for place, into in enumerate(inputs):
            sums[place] += (into.T @ into).cpu()
    return [one / counted for one in sums]


def _answered(
    model: Model, prompts: Sequence[Prompt], max_tokens: int, on_done: OnDone
) -> list[tuple[Ids, int]]:
    """Each prompt with the model's own answer, and the first place that counts."""
    answers = model.answers(prompts, max_tokens, on_done)
    said = [(prompt, text.strip()) for prompt, text in zip(prompts, answers, strict=True)]
    found: list[tuple[Ids, int]] = []
    for form in Form:
        mine = [one for one in said if one[0].form is form]
        if not mine:
            continue
        first = max(1, shared([model.ids(prompt) for prompt, _ in mine]))
        texts = [model.lesson(*one).text if one[1] else model.ids(one[0]) for one in mine]
        found += [(text, first) for text in texts]
    return found


def _inputs(
    model: Model,
    modules: Sequence[nn.Linear],
    texts: Sequence[Ids],
    at: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """What enters each module at some rows and places, (T, I) in float64."""
    found: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(
            lambda _, into: found.append(into[0][at[0], at[1]].double())
        )
        for module in modules
    ]
    try:
        model.target_logits([Lesson(ids, _ANY) for ids in texts])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _spot(model: Model, lesson: Lesson, subject: str) -> Spot | None:
    place = last_of(model, lesson.prompt, subject)
    return None if place is None else Spot(lesson, place)


@contextmanager
def _watching(module: nn.Module, see: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Show what enters a module and what leaves it, each (N, L, width)."""

    def watch(_: nn.Module, into: tuple[Tensor, ...], out: Any) -> None:
        # some layers give more than the state
        see(into[0], out[0] if isinstance(out, tuple) else out)

    handle = module.register_forward_hook(watch)
    try:
        yield
    finally:
        handle.remove()
