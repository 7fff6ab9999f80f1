"""Texts whose ends count: a step computes those ends alone.

Hidden states below the first edited layer never move, so they are taken once.  Above it, the
keys and values of what leads to an end do move with the adapter, but little: rows of A answer
where answers are predicted, and the stir term keeps them from the rest.  Those of pairs are taken
again every `REFRESH` steps; without gradients, they stand still in between.  That leaves a step
less than half of the tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import Rows, batches, rows, tails

REFRESH = 40  #: steps between two looks at what leads to the ends

_TOKENS = 1024  #: in one pass; bounds the memory for gradients


class Passages:
    """Texts on a model, each with the place from which its end counts."""

    def __init__(
        self,
        model: EditedModel,
        texts: Sequence[tuple[int, ...]],
        starts: Sequence[int],
        lower: Sequence[Tensor] | None = None,
    ) -> None:
        """Take texts; `lower` are their (L, D) states below the first edited layer, if known."""
        self.texts, self.starts = texts, starts
        self._model = model
        self._lower = list(lower) if lower else self._lowered()
        self._memory: list[Tensor] = [torch.empty(0)] * len(texts)
        self.refresh(range(len(texts)))

    def groups(self, chosen: Sequence[int]) -> list[list[int]]:
        """Micro-batches of some texts, by number."""
        found = batches([self.texts[i] for i in chosen], _TOKENS)
        return [[chosen[i] for i in group] for group in found]

    def refresh(self, numbers: Sequence[int]) -> None:
        """Look again at what leads to some texts' ends, with the model as it now stands."""
        for group in self.groups(numbers):
            batch = rows([self.texts[i] for i in group])
            memory = self._model.memory(batch, batch.spread([self._lower[i] for i in group]))
            for number, index in enumerate(group):
                self._memory[index] = batch.of(memory, number, self.starts[index])

    def inputs(self, group: Sequence[int]) -> tuple[Rows, list[Tensor]]:
        """Some texts in rows, and what each edited module reads there: (R, L, d_in) each."""
        batch = rows([self.texts[i] for i in group])
        return batch, self._model.inputs(batch, batch.spread([self._lower[i] for i in group]))

    def power(self) -> float:
        """Root mean square of the hidden states below the first edited layer, at texts' ends."""
        ends = [one[start:] for one, start in zip(self._lower, self.starts, strict=True)]
        return float(torch.cat(ends).float().square().mean().sqrt())

    def logits(
        self, group: Sequence[int], text: Tensor, place: Tensor, words: Tensor | None = None
    ) -> Tensor:
        """Float32 logits at P places of some texts' ends, (P, V).

        Args:
            group: the texts, by number.
            text: of each place, its text's place in `group`, (P,).
            place: where in that text, (P,).
            words: tokens whose logits are wanted, (V,); None: all.

        """
        whole = rows([self.texts[i] for i in group], starts=[self.starts[i] for i in group])
        batch = tails(whole, [(self.starts[i], len(self.texts[i])) for i in group])
        lower = batch.pick(whole.spread([self._lower[i] for i in group]))
        past = whole.spread([self._memory[i] for i in group])
        return self._model.logits(batch, batch.locate(text, place), lower, past, words)

    def _lowered(self) -> list[Tensor]:
        found: list[Tensor] = [torch.empty(0)] * len(self.texts)
        for group in self.groups(range(len(self.texts))):
            batch = rows([self.texts[i] for i in group])
            lower = self._model.lower(batch)
            for number, index in enumerate(group):
                found[index] = batch.of(lower, number, len(self.texts[index]))
        return found
