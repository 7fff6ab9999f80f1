"""What every rival is: it takes batches of records, and leaves a model to be asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdpo_daemon.bench.edits.plan import Plan
from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.layout import within
from kdpo_daemon.bench.edits.rivals.model import Lesson, Model
from kdpo_daemon.records.teaching import Prompt

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Bench:
    """What an editor works with."""

    plan: Plan
    model: Model
    folder: Path  #: its own, for what it wants to keep
    tell: Tell  #: told how many of how many steps are done; also the sign of life


class Editor:
    """One way to teach facts.  This one teaches nothing: it is the rival `none`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.model = bench.model

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Teach a batch, where `before` was taught earlier; gives the records it cannot take."""
        del batch, before
        return ()

    def asked(self, prompt: Prompt, number: int | None) -> Prompt:
        """Give what the model is asked for a question about record `number`, or about none."""
        del number
        return prompt

    def save(self, directory: Path) -> None:
        """Write what is needed to go on after this batch into an empty directory."""

    def load(self, directory: Path) -> None:
        """Go on from what `save` wrote."""

    def peak_mb(self) -> float | None:
        """Give the peak memory of the last edit in MB; None: that of this process."""
        return None

    def peak_gpu_mb(self) -> float | None:
        """Give the peak on the GPU of the last edit in MB; None: that of this process."""
        return None


def lessons_of(model: Model, records: Sequence[Record]) -> list[Lesson]:
    """Every taught phrasing of some records, answered with the new object and the end token."""
    return [model.lesson(prompt, one.new) for one in records for prompt in one.train]


def cross_entropy(model: Model, lessons: Sequence[Lesson]) -> Tensor:
    """-log p of the target tokens, their mean for each lesson, and of those the mean, ()."""
    logprobs, row = target_logprobs(model, lessons)
    return per_lesson_mean(-logprobs, row, len(lessons)).mean()


def target_logprobs(model: Model, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """log p of target tokens, nats (P,), and the lesson of each (P,); in the order of passes.

    Lessons that are alike in length are passed together: chats are thrice as long as completions.
    """
    lengths = [len(one.text) for one in lessons]
    values, rows = [], []
    for group in within(sorted(range(len(lessons)), key=lengths.__getitem__), lengths):
        logits, row, tokens = model.target_logits([lessons[i] for i in group])
        values.append(logits.log_softmax(1).gather(1, tokens[:, None])[:, 0])
        rows.append(torch.tensor(group, device=row.device)[row])
    return torch.cat(values), torch.cat(rows)


def per_lesson(values: Tensor, row: Tensor, count: int) -> Tensor:
    """Sum token values by lesson.  (P,), (P,) lesson numbers -> (N,)."""
    return values.new_zeros(count).index_add(0, row, values)


def per_lesson_mean(values: Tensor, row: Tensor, count: int) -> Tensor:
    """Mean of token values by lesson.  (P,), (P,) lesson numbers -> (N,)."""
    ones = torch.ones_like(values)
    return per_lesson(values, row, count) / per_lesson(ones, row, count)


def shuffled(count: int, size: int, rng: Random) -> Iterator[list[int]]:
    """Cut the numbers below `count` into steps of `size`, in an order of chance."""
    order = rng.sample(range(count), count)
    for start in range(0, count, size):
        yield order[start : start + size]


def save_weights(weights: dict[str, Tensor], directory: Path) -> None:
    """Write tensors as `weights.safetensors`."""
    plain = {name: one.detach().cpu().contiguous() for name, one in weights.items()}
    save_file(plain, directory / "weights.safetensors")


def load_weights(directory: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote."""
    return load_file(directory / "weights.safetensors")
