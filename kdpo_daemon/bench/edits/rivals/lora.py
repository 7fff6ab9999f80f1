"""Plain LoRA, kept over batches: with cross-entropy, or with DPO.

DPO (arXiv 2305.18290): with y+ the new object and y- what the model says today, each scored as a
sequence of its own, pi the policy and ref the model before the batch,

    L = -log sigmoid(beta * ([log pi(y+) - log ref(y+)] - [log pi(y-) - log ref(y-)]))

Earlier facts are replayed, as many in a step as new ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import (
    Bench,
    Editor,
    cross_entropy,
    lessons_of,
    load_weights,
    per_lesson,
    save_weights,
    shuffled,
    target_logprobs,
)
from kdpo_daemon.bench.edits.rivals.finetune import step
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.bench.edits.settings import LoraSettings


class Adapted(Editor):
    """Trains what of an adapter takes a gradient, with cross-entropy."""

    def __init__(self, bench: Bench, settings: LoraSettings) -> None:
        super().__init__(bench)
        self.settings = settings

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train on a batch, with as many lessons of earlier facts in each step."""
        new = lessons_of(self.model, batch)
        old = lessons_of(self.model, before) if self.settings.replay else []
        self.prepare([*new, *old])
        weights = [one for one in self.model.net.parameters() if one.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=self.settings.rate)
        rng = Random(f"{self.bench.plan.seed} {len(before)}")  # noqa: S311 - an order, no secret
        for epoch in range(self.settings.epochs):
            losses = list(self._epoch(new, old, optimizer, rng))
            self.bench.tell(epoch + 1, self.settings.epochs)
            if sum(losses) / len(losses) < self.settings.stop:
                break
        return ()

    def prepare(self, lessons: Sequence[Lesson]) -> None:
        """Note what has to be taken from the model before the batch."""

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Give the loss of a step, ()."""
        return cross_entropy(self.model, lessons)

    def stepped(self) -> None:
        """Do what follows a step; its gradients are still there."""

    def _epoch(
        self, new: Sequence[Lesson], old: Sequence[Lesson], optimizer: Any, rng: Random
    ) -> Iterator[float]:
        for chosen in shuffled(len(new), self.settings.rows, rng):
            again = rng.sample(range(len(old)), min(len(old), len(chosen)))
            loss = self.loss([*(new[i] for i in chosen), *(old[i] for i in again)])
            if loss.requires_grad:
                step(optimizer, loss)
                self.stepped()
            yield float(loss.detach())


class Lora(Adapted):
    """LoRA with cross-entropy."""

    def __init__(self, bench: Bench, settings: LoraSettings) -> None:
        super().__init__(bench, settings)
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(settings.modules),
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(bench.plan.seed)
        self.model.net = get_peft_model(self.model.net, config)
        self.model.net.eval()

    def save(self, directory: Path) -> None:
        """Write A and B."""
        save_weights(dict(get_peft_model_state_dict(self.model.net)), directory)

    def load(self, directory: Path) -> None:
        """Read A and B."""
        set_peft_model_state_dict(self.model.net, load_weights(directory))


@dataclass(frozen=True)
class _Rejected:
    """What the model said before the batch, and how likely it found both answers, in nats."""

    lesson: Lesson
    chosen: float
    rejected: float


class LoraDpo(Lora):
    """LoRA with DPO."""

    def prepare(self, lessons: Sequence[Lesson]) -> None:
        """Have the model before the batch answer each prompt, and score both answers."""
        self._rejected: dict[Lesson, _Rejected] = {}
        negatives = [_answer(self.model, one) for one in lessons]
        pairs = [(a, b) for a, b in zip(lessons, negatives, strict=True) if a != b]
        likely = _likely(self.model, [one for pair in pairs for one in pair])
        for place, (chosen, rejected) in enumerate(pairs):
            ours, theirs = likely[2 * place], likely[2 * place + 1]
            self._rejected[chosen] = _Rejected(rejected, ours, theirs)

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """DPO's loss, the mean over the lessons whose two answers differ, ()."""
        known = [(one, self._rejected[one]) for one in lessons if one in self._rejected]
        if not known:
            return torch.zeros(())
        both = [*(one for one, _ in known), *(said.lesson for _, said in known)]
        mine, row = target_logprobs(self.model, both)
        policy = per_lesson(mine, row, len(both))
        chosen, rejected = policy[: len(known)], policy[len(known) :]
        reference = policy.new_tensor([said.chosen - said.rejected for _, said in known])
        return dpo_loss(chosen - rejected, reference, self.settings.beta).mean()


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-log sigmoid of beta times the gain of log p(y+) - log p(y-).  (N,), (N,) -> (N,)."""
    return -torch.nn.functional.logsigmoid(beta * (policy - reference))


def _answer(model: Model, lesson: Lesson) -> Lesson:
    """Give the model's own greedy answer, as long as the target at most, and its end token."""
    (said,) = model.continued([lesson.prompt], len(lesson.target))
    ended = (*said, lesson.target[-1]) if len(said) < len(lesson.target) else said
    return Lesson(lesson.prompt, ended)


def _likely(model: Model, lessons: Sequence[Lesson]) -> list[float]:
    """log p of each target, in nats."""
    return [sum(token.chosen_logprob for token in one) for one in model.forced(lessons)]
