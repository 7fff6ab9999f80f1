"""What a layer reads and says at the subject's last token, and what it should say there.

For ROME, MEMIT and AlphaEdit.  k is the input of an edited `mlp.down_proj`, h what its layer
gives, both at the subject's last token, the mean over a record's taught phrasings (the papers take
random prefixes before one phrasing).  Shapes: N records, d_in and d_out of the module.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import per_lesson_mean
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.bench.edits.settings import LocateSettings
from kdpo_daemon.records.teaching import Form, Prompt

_TOKENS = 256  #: of prose read at once


@dataclass(frozen=True)
class Spots:
    """A record's taught phrasings with their answers, and where the subject ends in each."""

    lessons: tuple[Lesson, ...]
    places: tuple[int, ...]
    still: Lesson  #: "{subject} is a", whose next token should stay
    still_place: int


def spots_of(model: Model, record: Record) -> Spots | None:
    """Find the subject in a record's phrasings; None if it is in none of them."""
    found = [(prompt, model.last_place(prompt, record.subject)) for prompt in record.train]
    stated = [(prompt, place) for prompt, place in found if place is not None]
    still = Prompt(Form.COMPLETION, f"{record.subject} is a")
    still_place = model.last_place(still, record.subject)
    if not stated or still_place is None:
        return None
    return Spots(
        tuple(model.lesson(prompt, record.new) for prompt, _ in stated),
        tuple(place for _, place in stated),
        Lesson(model.ids(still), (0,)),
        still_place,
    )


class Layer:
    """One edited module, and the layer it stands in."""

    def __init__(self, model: Model, share: float, module: str) -> None:
        self._model = model
        name = model.module_name(share, module)
        self.module: nn.Linear = model.net.get_submodule(name)
        self._block: nn.Module = model.net.get_submodule(name.removesuffix("." + module))

    @torch.no_grad()
    def keys(self, spots: Sequence[Spots]) -> Tensor:
        """What the module reads, the mean over phrasings: (N, d_in)."""
        return torch.stack([self._seen(one, self.module, reads=True).mean(0) for one in spots])

    @torch.no_grad()
    def states(self, spots: Sequence[Spots]) -> Tensor:
        """What the layer gives, the mean over phrasings: (N, d_out)."""
        return torch.stack([self._seen(one, self._block, reads=False).mean(0) for one in spots])

    @torch.no_grad()
    def moment(self, ids: Sequence[int], ridge: float) -> Tensor:
        """C = E[x x^T] of the module's inputs over a text, with a ridge: (d_in, d_in), float64."""
        width = self.module.weight.shape[1]
        total = torch.zeros(width, width, dtype=torch.float64, device=self._model.device)
        for start in range(0, len(ids), _TOKENS):
            window = torch.tensor([ids[start : start + _TOKENS]], device=self._model.device)
            with _noting(self.module, reads=True) as seen:
                self._model.net(input_ids=window, use_cache=False, logits_to_keep=1)
            inputs = seen[0][0].double()
            total += inputs.T @ inputs
        total /= len(ids)
        total.diagonal().add_(ridge * total.diagonal().mean())
        return total

    def change(self, spots: Spots, settings: LocateSettings) -> Tensor:
        """Find what to add to h so that the record's object is said: (d_out,).

        Adam on -log p(object) + KL on "{subject} is a" + decay, within a ball, as ROME finds v.
        """
        (state,) = self.states([spots])
        delta = torch.zeros_like(state, requires_grad=True)
        before = self._still(spots, delta.detach()).log_softmax(1).detach()
        optimizer = torch.optim.Adam([delta], lr=settings.rate)
        for _ in range(settings.steps):
            loss = self._loss(spots, delta, before, settings)
            loss = loss + settings.decay * delta.norm() / state.norm().square()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            _shorten(delta, settings.clamp * float(state.norm()))
        return delta.detach()

    def _loss(
        self, spots: Spots, delta: Tensor, before: Tensor, settings: LocateSettings
    ) -> Tensor:
        with self._adding(delta, spots.places):
            logits, row, tokens = self._model.target_logits(spots.lessons)
        losses = nn.functional.cross_entropy(logits, tokens, reduction="none")
        said = per_lesson_mean(losses, row, len(spots.lessons)).mean()
        after = self._still(spots, delta).log_softmax(1)
        kl = nn.functional.kl_div(after, before, log_target=True, reduction="batchmean")
        return said + settings.kl * kl

    def _still(self, spots: Spots, delta: Tensor) -> Tensor:
        with self._adding(delta, (spots.still_place,)):
            return self._model.target_logits([spots.still])[0]

    def _seen(self, spots: Spots, module: nn.Module, *, reads: bool) -> Tensor:
        with _noting(module, reads=reads) as seen:
            self._model.target_logits(spots.lessons)
        rows = torch.arange(len(spots.places))
        return seen[0][rows, torch.tensor(spots.places)]

    @contextmanager
    def _adding(self, delta: Tensor, places: Sequence[int]) -> Iterator[None]:
        """Add a vector to what the module gives, at one place of each row."""

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            at = torch.zeros_like(output[:, :, :1])
            at[torch.arange(len(places)), torch.tensor(places)] = 1
            return output + at * delta

        handle = self.module.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def _noting(module: nn.Module, *, reads: bool) -> Iterator[list[Tensor]]:
    """Give a list that takes what a module reads, or what it gives, in the next pass."""
    seen: list[Tensor] = []

    def before(_: nn.Module, arguments: tuple[Tensor]) -> None:
        seen.append(arguments[0])

    def after(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        if reads:
            hooks.callback(module.register_forward_pre_hook(before).remove)
        else:
            hooks.callback(module.register_forward_hook(after).remove)
        yield seen


@torch.no_grad()
def _shorten(vector: Tensor, most: float) -> None:
    """Bring a vector's norm to `most` at the most, in place."""
    length = float(vector.norm())
    if length > most:
        vector.mul_(most / length)
