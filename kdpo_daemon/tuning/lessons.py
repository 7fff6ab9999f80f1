"""What training is measured by: pairs to learn and prompts to keep, with all that stays fixed.

Hidden states below the first edited layer and the reference's word are taken once, on the model
as it stands before the batch; each step then runs the upper layers alone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpo_daemon.orders import Recipe
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import loss
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import batches, rows
from kdpo_daemon.tuning.tokens import sequence_of, targets

_TOKENS = 1024  #: tokens with padding in one pass; bounds the memory for gradients
_ANSWERS = 48  #: prompts answered at once
_TOP = 64  #: likeliest tokens whose probabilities are kept


class Lessons:
    """The pairs of a batch; `learnt` and `right` say how each stood when last looked at."""

    def __init__(self, model: EditedModel, pairs: Sequence[Pair], recipe: Recipe) -> None:
        self.pairs = pairs
        self.learnt = [False] * len(pairs)
        self.right = [False] * len(pairs)
        self._model, self._recipe = model, recipe
        self._texts = [sequence_of(pair) for pair in pairs]
        self._lower: list[Tensor] = [torch.empty(0)] * len(pairs)
        self._reference: list[Tensor] = [torch.empty(0)] * len(pairs)
        self._fresh = torch.ones(len(pairs), dtype=torch.bool)
        for group in self.groups(range(len(pairs))):
            self._remember(group)

    def draw(self, rng: random.Random, count: int) -> list[int]:
        """Choose pairs for a step: at most `count` to be learnt, and a few learnt to look at."""
        learnt = [i for i, done in enumerate(self.learnt) if done]
        open_ = [i for i, done in enumerate(self.learnt) if not done]
        again = min(len(learnt), max(1, count // 4))
        return rng.sample(open_, min(len(open_), count)) + rng.sample(learnt, again)

    def groups(self, chosen: Sequence[int]) -> list[list[int]]:
        """Micro-batches of some pairs, by number."""
        texts = [self._texts[i] for i in chosen]
        return [[chosen[i] for i in group] for group in batches(texts, _TOKENS)]

    @torch.no_grad()
    def look(self) -> None:
        """Note of every pair how it stands."""
        for group in self.groups(range(len(self.pairs))):
            self.loss(group)

    def loss(self, group: Sequence[int]) -> Tensor:
        """Loss summed over a micro-batch's pairs, (); notes which of them are learnt.

        Negatives come from the order the first time, then from the current model.
        """
        at = targets([self.pairs[i] for i in group])
        batch = rows([self._texts[i] for i in group])
        lower = batch.spread([self._lower[i] for i in group])
        logits = self._model.logits(batch, at.row, at.place, lower)
        rivals = loss.rivals(logits.detach(), at.chosen)
        lead = loss.margins(logits.detach(), at.chosen, rivals)
        self._note(group, at.row, lead)
        reference = torch.cat([self._reference[i] for i in group]).float()
        total = self._anchor(logits, at.chosen)
        fresh = self._fresh[list(group)][at.row]
        self._fresh[list(group)] = False
        for negative in (torch.where(fresh, at.rejected, rivals), at.old):
            # a token against itself has no margin: that is how learnt positions drop out
            rejected = torch.where(lead < self._recipe.margin, negative, at.chosen)
            ours = loss.per_pair(loss.margins(logits, at.chosen, rejected), at.row, len(group))
            theirs = loss.margins(reference, at.chosen, rejected)
            theirs = loss.per_pair(theirs, at.row, len(group))
            part = loss.preference_loss(ours, theirs, self._recipe.beta)
            differs = loss.per_pair((rejected != at.chosen).float(), at.row, len(group)) > 0
            total = total + part[differs].sum()
        return total

    def _anchor(self, logits: Tensor, chosen: Tensor) -> Tensor:
        return self._recipe.anchor_weight * loss.anchor_loss(logits, chosen).sum()

    @torch.no_grad()
    def _remember(self, group: Sequence[int]) -> None:
        at = targets([self.pairs[i] for i in group])
        batch = rows([self._texts[i] for i in group])
        lower = self._model.lower(batch)
        logits = self._model.logits(batch, at.row, at.place, lower).to(lower.dtype)
        for row, index in enumerate(group):
            self._lower[index] = batch.of(lower, row, len(self._texts[index]))
            self._reference[index] = logits[at.row == row]

    def _note(self, group: Sequence[int], row: Tensor, lead: Tensor) -> None:
        least = torch.full((len(group),), torch.inf).scatter_reduce(0, row, lead, "amin")
        for index, value in zip(group, least.tolist(), strict=True):
            self.learnt[index] = value >= self._recipe.margin
            self.right[index] = value > 0


@dataclass(frozen=True)
class _Keepsake:
    """A prompt with the reference's own answer, and the likeliest tokens along that answer."""

    text: tuple[int, ...]
    start: int  #: place of the prompt's last token, which predicts the answer's first
    lower: Tensor  #: (L, D)
    ids: Tensor  #: (L - start, k)
    logprobs: Tensor  #: (L - start, k)


class Keepsakes:
    """Prompts that must be answered as before."""

    def __init__(
        self,
        model: EditedModel,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        on_kept: Callable[[int], None],
    ) -> None:
        """Have the reference answer each prompt with `tokens` at most; tells how many are done."""
        self._model = model
        self._kept: list[_Keepsake] = []
        # alike in length, since answering pads each prompt to the longest
        ordered = sorted(prompts, key=len)
        for start in range(0, len(ordered), _ANSWERS):
            self._remember(ordered[start : start + _ANSWERS], tokens)
            on_kept(len(self))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """Prompts and answers as token ids."""
        return [one.text for one in self._kept]

    @property
    def starts(self) -> list[int]:
        """The place of each text that predicts its answer's first token."""
        return [one.start for one in self._kept]

    def groups(self, chosen: Sequence[int]) -> list[list[int]]:
        """Micro-batches of some keepsakes, by number."""
        texts = [self._kept[i].text for i in chosen]
        return [[chosen[i] for i in group] for group in batches(texts, _TOKENS)]

    def loss(self, group: Sequence[int]) -> Tensor:
        """KL to the reference in nats per token, summed over a micro-batch's prompts, ()."""
        kept = [self._kept[i] for i in group]
        row, place = _answer_places([(one.start, len(one.text)) for one in kept])
        batch = rows([one.text for one in kept])
        lower = batch.spread([one.lower for one in kept])
        logits = self._model.logits(batch, row, place, lower)
        ids = torch.cat([one.ids for one in kept])
        kl = loss.keep_loss(logits, ids, torch.cat([one.logprobs for one in kept]))
        counts = torch.bincount(row, minlength=len(kept))
        return (loss.per_pair(kl, row, len(kept)) / counts).sum()

    @torch.no_grad()
    def _remember(self, prompts: Sequence[Sequence[int]], tokens: int) -> None:
        answers = self._model.continued(prompts, tokens)
        # the last token of an answer predicts nothing that is compared
        texts = [(*p, *answer[:-1]) for p, answer in zip(prompts, answers, strict=True)]
        batch = rows(texts)
        lower = self._model.lower(batch)
        spans = [(len(p) - 1, len(text)) for p, text in zip(prompts, texts, strict=True)]
        row, place = _answer_places(spans)
        ids, logprobs = loss.top_logprobs(self._model.logits(batch, row, place, lower), _TOP)
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            mine = row == number
            hidden = batch.of(lower, number, len(text))
            self._kept.append(_Keepsake(text, len(prompt) - 1, hidden, ids[mine], logprobs[mine]))


def _answer_places(spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    row = [number for number, span in enumerate(spans) for _ in range(*span)]
    place = [place for span in spans for place in range(*span)]
    return torch.tensor(row), torch.tensor(place)
