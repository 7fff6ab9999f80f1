"""What the model says by itself: greedy answers to prompts, and all that is seen on the way.

One pass gives the answers that must be kept, what the model held likely along them, the hidden
states that later steps start from; what the edited modules read is told to a listener.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from kdpo_daemon.tuning import loss
from kdpo_daemon.tuning.model import EditedModel, Pass
from kdpo_daemon.tuning.packing import Rows, Tokens, batches, rows

_TOKENS = 1024  #: of prompts answered at once: more differ more in length
_TOP = 64  #: likeliest tokens whose probabilities are kept


class Listener(Protocol):
    """Is told what the edited modules read."""

    def add(self, inputs: Sequence[Tensor], weights: Tensor, answers: Tensor) -> None:
        """Take tokens: (R, L, d) per edited layer; how often each counts, (R, L); and which
        predict one of an answer's tokens, (R, L) bool.
        """


@dataclass
class Keepsake:
    """A prompt with the model's own answer, as far as it is asked for."""

    prompt: tuple[int, ...]
    said: list[int] = field(default_factory=list)  #: ends with the end token if it came
    lower: list[Tensor] = field(default_factory=list)  #: parts of (L, D): see `Pass`
    ids: list[Tensor] = field(default_factory=list)  #: (k,) likeliest tokens at each place
    logprobs: list[Tensor] = field(default_factory=list)  #: (k,) of them

    @property
    def text(self) -> tuple[int, ...]:
        """Prompt and answer but its last token, which predicts nothing that was asked for."""
        return (*self.prompt, *self.said[:-1])

    @property
    def start(self) -> int:
        """The place of the prompt's last token, which predicts the answer's first."""
        return len(self.prompt) - 1


def answered(
    model: EditedModel,
    prompts: Sequence[tuple[int, ...]],
    tokens: int,
    listener: Listener,
    on_answered: Callable[[int], None],
) -> list[Keepsake]:
    """Answer each prompt with `tokens` at most; tells how many are done.

    What the edited modules read is added to `listener`, a token once for each context that it
    stands in, or little more: the system prompt that all chat prompts share would else be most
    of it.
    """
    found = [Keepsake(prompt) for prompt in prompts]
    done = 0
    for group in batches(prompts, _TOKENS):
        _Speech(model, [found[i] for i in group], listener).run(tokens)
        done += len(group)
        on_answered(done)
    return found


@torch.no_grad()
def heard(
    model: EditedModel, answers: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
) -> list[Keepsake]:
    """Take down what the model holds likely along answers that are known, prompt by prompt."""
    found = [Keepsake(asked, list(said)) for asked, said in answers]
    for group in batches([one.text for one in found], _TOKENS):
        some = [found[i] for i in group]
        batch = rows([one.text for one in some])
        lower = model.lower(batch)
        counts = torch.tensor([len(one.said) for one in some])
        number = torch.arange(len(some)).repeat_interleave(counts)
        place = torch.cat([torch.arange(one.start, len(one.text)) for one in some])
        logits = model.logits(batch, batch.locate(number, place), lower)
        ids, logprobs = loss.top_logprobs(logits, _TOP)
        for index, one in enumerate(some):
            one.lower.append(batch.of(lower, index, len(one.text)))
            one.ids.extend(ids[number == index])
            one.logprobs.extend(logprobs[number == index])
    return found


class _Speech:
    """One micro-batch on its way: each step gives every prompt one more token, side by side."""

    def __init__(self, model: EditedModel, kept: Sequence[Keepsake], listener: Listener) -> None:
        self._model, self._kept, self._listener = model, kept, listener
        self._whole = rows([one.prompt for one in kept])
        self._open = torch.ones(len(kept), dtype=torch.bool)
        # a row's prompts in their order: where their next tokens stand side by side
        row = self._whole.row
        self._side = torch.stack([(row[:i] == row[i]).sum() for i in range(len(row))])
        self._cache = DynamicCache()

    def run(self, tokens: int) -> None:
        """Answer, with `tokens` at most."""
        last = torch.tensor([one.start for one in self._kept])
        at = self._whole.locate(torch.arange(len(self._kept)), last)
        seen = self._model.run(self._whole, at, self._cache)
        self._add_prompts(seen, at)
        sees = self._whole.sees[at]
        for step in range(1, tokens):
            if not self._open.any():
                return
            at = self._whole.row, self._side
            seen = self._model.run(self._next(sees, last + step, step), at, self._cache)
            weights = torch.zeros(seen.lower.shape[:2])
            weights[at] = self._open.float()
            self._listener.add(seen.inputs, weights, answers=weights > 0)
            self._note(seen, seen.lower[at][:, None])

    def _add_prompts(self, seen: Pass, at: tuple[Tensor, Tensor]) -> None:
        whole: Rows = self._whole
        answers = torch.zeros_like(whole.real)
        answers[at] = True
        self._listener.add(seen.inputs, whole.real.float(), answers)
        lower = [
            whole.of(seen.lower, number, len(one.prompt)) for number, one in enumerate(self._kept)
        ]
        self._note(seen, lower)

    def _note(self, seen: Pass, lower: Sequence[Tensor] | Tensor) -> None:
        """Take down what was said next, and what was seen at the token before it."""
        ids, logprobs = loss.top_logprobs(seen.logits, _TOP)
        said = ids[:, 0].tolist()
        for number in self._open.nonzero().flatten().tolist():
            one = self._kept[number]
            one.lower.append(lower[number])
            one.ids.append(ids[number])
            one.logprobs.append(logprobs[number])
            one.said.append(said[number])
            self._open[number] = one.said[-1] not in self._model.ends

    def _next(self, sees: Tensor, depth: Tensor, step: int) -> Tokens:
        """Lay every prompt's newest token beside the others of its row."""
        at = self._whole.row, self._side
        shape = len(self._whole.ids), int(self._side.max()) + 1
        ids, depths = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        ids[at] = torch.tensor([one.said[-1] for one in self._kept])
        depths[at] = depth
        prompts = torch.zeros(*shape, sees.shape[1], dtype=torch.bool)
        prompts[at] = sees
        # of the tokens said so far each prompt sees its own, and itself
        own = torch.eye(shape[1], dtype=torch.bool).repeat(len(prompts), 1, step)
        return Tokens(ids, depths, torch.cat([prompts, own], dim=2))
