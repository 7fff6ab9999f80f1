"""FT-M, FT-L and LocFT-BF: one matrix W of the model is trained with cross-entropy.

FT-M and FT-L finish one fact before they begin the next.  FT-M learns every token of the target
after the tokens before it; FT-L predicts all of them from the prompt's last place, as in the code
of arXiv 2202.05262, and holds each weight within `clamp` of where the fact began
(arXiv 2012.00363).  LocFT-BF (arXiv 2509.22072) goes through all facts again and again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import (
    Bench,
    Editor,
    cross_entropy,
    lessons_of,
    load_weights,
    save_weights,
    shuffled,
)
from kdpo_daemon.bench.edits.rivals.model import Lesson
from kdpo_daemon.bench.edits.settings import FineTuneSettings


class OneMatrix(Editor):
    """Trains the weight of one linear module."""

    def __init__(self, bench: Bench, layer: float, module: str) -> None:
        super().__init__(bench)
        self.weight = self.model.module(layer, module).weight
        self.weight.requires_grad = True

    def save(self, directory: Path) -> None:
        """Write the matrix."""
        save_weights({"weight": self.weight}, directory)

    @torch.no_grad()
    def load(self, directory: Path) -> None:
        """Read the matrix."""
        self.weight.copy_(load_weights(directory)["weight"])


class OneByOne(OneMatrix):
    """FT-M: each fact is trained until its loss is small, or for `steps` steps."""

    def __init__(self, bench: Bench, settings: FineTuneSettings) -> None:
        super().__init__(bench, settings.layer, settings.module)
        self.settings = settings

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train the facts of a batch in turn; earlier ones are not looked at again."""
        del before
        for done, record in enumerate(batch, 1):
            self._train(lessons_of(self.model, [record]))
            self.bench.tell(done, len(batch))
        return ()

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Give the loss of one fact's lessons, ()."""
        return cross_entropy(self.model, lessons)

    def _train(self, lessons: Sequence[Lesson]) -> None:
        began = self.weight.detach().clone()
        optimizer = torch.optim.Adam([self.weight], lr=self.settings.rate)
        for _ in range(self.settings.steps):
            loss = self.loss(lessons)
            if float(loss.detach()) < self.settings.stop:
                break
            step(optimizer, loss)
            if self.settings.clamp:
                clamp(self.weight, began, self.settings.clamp)


class FromTheLastPlace(OneByOne):
    """FT-L: all tokens of the target are predicted where the prompt ends."""

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """-log p(token | prompt), the mean over the target's tokens and the lessons, ()."""
        ends = [Lesson(one.prompt, one.target[:1]) for one in lessons]
        logits, _, _ = self.model.target_logits(ends)
        logprobs = logits.log_softmax(1)
        means = [
            -row[torch.tensor(one.target, device=row.device)].mean()
            for row, one in zip(logprobs, lessons, strict=True)
        ]
        return torch.stack(means).mean()


class BreadthFirst(OneMatrix):
    """LocFT-BF: epochs over all facts so far; a step or epoch with a small loss is left out."""

    def __init__(self, bench: Bench, settings: FineTuneSettings) -> None:
        super().__init__(bench, settings.layer, settings.module)
        self.settings = settings

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train the batch together with all facts before it."""
        lessons = lessons_of(self.model, [*before, *batch])
        optimizer = torch.optim.Adam([self.weight], lr=self.settings.rate)
        rng = Random(f"{self.bench.plan.seed} {len(before)}")  # noqa: S311 - an order, no secret
        for epoch in range(self.settings.steps):
            losses = list(self._epoch(lessons, optimizer, rng))
            self.bench.tell(epoch + 1, self.settings.steps)
            if sum(losses) / len(losses) < self.settings.stop:
                break
        return ()

    def _epoch(
        self, lessons: Sequence[Lesson], optimizer: torch.optim.Optimizer, rng: Random
    ) -> Iterator[float]:
        for chosen in shuffled(len(lessons), self.settings.rows, rng):
            loss = cross_entropy(self.model, [lessons[i] for i in chosen])
            value = float(loss.detach())
            if value >= self.settings.stop:
                step(optimizer, loss)
            yield value


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down a loss."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def clamp(weight: Tensor, began: Tensor, most: float) -> None:
    """Bring each weight within `most` of where it began, in place."""
    weight.copy_(began + (weight - began).clamp(-most, most))
