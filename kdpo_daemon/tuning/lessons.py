"""What training is measured by: pairs to learn and prompts to keep.

The reference's word is taken once: for pairs that of the model as it stands before the batch, for
prompts to keep that of the base, so that drift does not add up over batches.
"""

import random
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from kdpo_daemon.orders import Recipe
from kdpo_daemon.records.teaching import Pair
from kdpo_daemon.tuning import loss
from kdpo_daemon.tuning.answers import Keepsake
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.passages import Passages
from kdpo_daemon.tuning.tokens import sequence_of, targets

#: Likeliest tokens at each place that are on the shortlist.
_LISTED = 16


class Lessons:
    """The pairs of a batch; `learnt` and `right` say how each stood when last looked at.

    Of replays most stand well before a step is taken, and so take part in few.  A step compares a
    target with the shortlist alone: all tokens that are taught or must give way, and those that
    the model holds likeliest at any place, of all lessons.  It grows whenever all is looked at
    again, and what is learnt at the end is told from the whole vocabulary.
    """

    def __init__(
        self,
        model: EditedModel,
        pairs: Sequence[Pair],
        recipe: Recipe,
        lower: Sequence[Tensor] | None = None,
        deep: int = 0,
    ) -> None:
        """Take pairs; `lower` are their states below the first edited layer, if known.

        The last `deep` of them only tell where facts are asked for: no step draws them, and how
        they stand is not counted.
        """
        self.pairs = pairs
        self.learnt = [False] * len(pairs)
        self.right = [False] * len(pairs)
        self.counted = len(pairs) - deep
        self._left = frozenset(range(self.counted, len(pairs)))
        self.leads = [-torch.inf] * len(pairs)  #: nats over every other token, the least place's
        self._recipe = recipe
        texts = [sequence_of(pair) for pair in pairs]
        self.passages = Passages(model, texts, [len(pair.prompt_ids) - 1 for pair in pairs], lower)
        self._reference: list[Tensor] = [torch.empty(0)] * len(pairs)
        self._fresh = torch.ones(len(pairs), dtype=torch.bool)
        said = [token for one in pairs for token in (*one.chosen_ids, *one.rejected_ids)]
        old = [token for one in pairs for token in one.old_ids]
        self._words = torch.tensor(sorted({*said, *old}))  #: the shortlist, sorted
        for group in self.groups(range(len(pairs))):
            self._remember(group)

    def leave(self, numbers: Collection[int]) -> None:
        """Draw some more pairs no more: what says them does not move."""
        self._left |= frozenset(numbers)

    @property
    def open(self) -> list[int]:
        """Numbers of the pairs that are still to be learnt."""
        return [i for i, done in enumerate(self.learnt) if not done and i not in self._left]

    def draw(self, rng: random.Random, count: int) -> list[int]:
        """Choose pairs for a step: at most `count` to be learnt, and a few learnt to look at."""
        learnt = [i for i, done in enumerate(self.learnt) if done and i not in self._left]
        open_ = self.open
        again = min(len(learnt), max(1, count // 4))
        return rng.sample(open_, min(len(open_), count)) + rng.sample(learnt, again)

    def groups(self, chosen: Sequence[int]) -> list[list[int]]:
        """Micro-batches of some pairs, by number."""
        return self.passages.groups(chosen)

    @torch.no_grad()
    def look(self, *, at_all: bool = True) -> None:
        """Note how pairs stand with the model as it now is; if not at all, those that move."""
        numbers = [i for i in range(len(self.pairs)) if at_all or i not in self._left]
        self.passages.refresh(numbers)
        for group in self.groups(numbers):
            self._heard(group)

    def loss(self, group: Sequence[int]) -> Tensor:
        """Loss summed over a micro-batch's pairs, (); notes which of them are learnt.

        Negatives come from the order the first time, then from the current model.
        """
        at = targets([self.pairs[i] for i in group])
        logits = self.passages.logits(group, at.row, at.place, self._words)
        fresh = self._fresh[list(group)][at.row].to(logits.device)
        at, words = at.to(logits.device), self._words.to(logits.device)
        listed = torch.searchsorted(words, at.chosen)
        rival = loss.rivals(logits.detach(), listed)
        lead = loss.margins(logits.detach(), listed, rival)
        self._note(group, at.row, lead)
        self._fresh[list(group)] = False
        negatives = torch.stack((torch.where(fresh, at.rejected, words[rival]), at.old))
        # a token against itself has no margin: that is how learnt positions drop out
        rejected = torch.where(lead < self._recipe.margin, negatives, at.chosen)
        read = torch.searchsorted(words, torch.stack((at.chosen, *rejected), 1))
        chosen, *others = loss.logprobs(logits, read).unbind(1)
        total = -self._recipe.anchor_weight * chosen.sum()
        for ids, other in zip(rejected, others, strict=True):
            ours = loss.per_pair(chosen - other, at.row, len(group))
            theirs = self._before(group, at.row, at.chosen, ids)
            part = loss.preference_loss(ours, theirs, self._recipe.beta)
            differs = loss.per_pair((ids != at.chosen).float(), at.row, len(group)) > 0
            total = total + part[differs].sum()
        return total

    def _before(
        self, group: Sequence[int], row: Tensor, chosen: Tensor, rejected: Tensor
    ) -> Tensor:
        """Margins of the model before the batch, summed by pair.  (P,) x 3 -> (B,)."""
        # few of its logits are read; joining them would copy them all
        each = [(self._reference[index], row == place) for place, index in enumerate(group)]
        margins = [loss.margins(logits, chosen[at], rejected[at]) for logits, at in each]
        return torch.stack([one.sum() for one in margins])

    @torch.no_grad()
    def _remember(self, group: Sequence[int]) -> None:
        logits, row = self._heard(group)
        for number, index in enumerate(group):
            self._reference[index] = logits[row == number]

    def _heard(self, group: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Note how some pairs stand; gives logits at target positions, (P, V), and each's pair."""
        at = targets([self.pairs[i] for i in group])
        logits = self.passages.logits(group, at.row, at.place)
        at = at.to(logits.device)
        self._note(group, at.row, loss.lead(logits, at.chosen))
        likely = logits.topk(min(_LISTED, logits.shape[1]), dim=1).indices
        listed = {*self._words.tolist(), *likely.flatten().tolist()}
        self._words = torch.tensor(sorted(listed))
        return logits, at.row

    def _note(self, group: Sequence[int], row: Tensor, lead: Tensor) -> None:
        least = lead.new_full((len(group),), torch.inf).scatter_reduce(0, row, lead, "amin")
        for index, value in zip(group, least.tolist(), strict=True):
            self.leads[index] = value
            self.learnt[index] = value >= self._recipe.margin
            self.right[index] = value > 0


class Keepsakes:
    """Prompts that must be answered as before.

    What leads to their answers is looked at once: it is what the stir holds, and looking again
    every `REFRESH` steps took 7 s each time and gave the same scores (docs/editing-findings.md).
    """

    def __init__(self, model: EditedModel, kept: Sequence[Keepsake]) -> None:
        """Take what the reference answered."""
        texts, starts = [one.text for one in kept], [one.start for one in kept]
        self._passages = Passages(model, texts, starts, [torch.cat(one.lower) for one in kept])
        self._ids = [torch.stack(one.ids) for one in kept]
        self._logprobs = [torch.stack(one.logprobs) for one in kept]

    def __len__(self) -> int:
        return len(self._ids)

    def groups(self, chosen: Sequence[int]) -> list[list[int]]:
        """Micro-batches of some keepsakes, by number."""
        return self._passages.groups(chosen)

    def loss(self, group: Sequence[int]) -> Tensor:
        """KL to the reference in nats per token, summed over a micro-batch's prompts, ()."""
        counts = torch.tensor([len(self._ids[i]) for i in group])
        row = torch.arange(len(group)).repeat_interleave(counts)
        place = torch.cat(
            [self._passages.starts[i] + torch.arange(len(self._ids[i])) for i in group]
        )
        logits = self._passages.logits(group, row, place)
        row, counts = row.to(logits.device), counts.to(logits.device)
        ids = torch.cat([self._ids[i] for i in group])
        kl = loss.keep_loss(logits, ids, torch.cat([self._logprobs[i] for i in group]))
        return (loss.per_pair(kl, row, len(group)) / counts).sum()
