"""`adalora`: AdaLoRA (arXiv 2303.10512) as peft has it, with cross-entropy.

A change of a weight is B E A, E diagonal.  Training begins with more of such ranks than it may
keep; the least important ones of all modules together are set to zero step by step.

Each batch gets a new adapter with a schedule of its own, which is merged into the weights at the
batch's end: a schedule ends with its steps, and an adapter whose ranks are given out has none left
for a batch to come.  The state is thus the merged weights, and no allocator outlives a batch.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import AdaLoraConfig, get_peft_model
from torch import Tensor

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench, load_weights, save_weights
from kdpo_daemon.bench.edits.rivals.lora import Adapted
from kdpo_daemon.bench.edits.rivals.model import Lesson
from kdpo_daemon.bench.edits.settings import AdaLoraSettings


class AdaLora(Adapted):
    """Trains an adapter for each batch and merges it."""

    def __init__(self, bench: Bench, settings: AdaLoraSettings) -> None:
        super().__init__(bench, settings)
        self._own, self._steps = settings, 0

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train on a batch; as published, earlier facts are not seen again."""
        self._wear(sum(len(one.train) for one in batch))
        refused = super().edit(batch, before)
        self.model.net = self.model.net.merge_and_unload()
        return refused

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Cross-entropy, and how far A and B are from orthogonal, ()."""
        named = self.model.net.named_parameters()
        sides = [one.mT if "lora_B" in name else one for name, one in named if _side(name)]
        apart = torch.stack([from_orthogonal(one) for one in sides]).mean()
        return super().loss(lessons) + self._own.orthogonal * apart

    def stepped(self) -> None:
        """Have peft give out the ranks anew."""
        self._steps += 1
        self.model.net.base_model.update_and_allocate(self._steps)

    def save(self, directory: Path) -> None:
        """Write the weights that adapters were merged into."""
        save_weights(self._weights(), directory)

    @torch.no_grad()
    def load(self, directory: Path) -> None:
        """Read the weights that adapters were merged into."""
        said = load_weights(directory)
        for name, weight in self._weights().items():
            weight.copy_(said[name])

    def _wear(self, lessons: int) -> None:
        """Put on a new adapter whose schedule is as long as the training of some lessons."""
        own = self._own
        total = own.epochs * math.ceil(lessons / own.rows)
        config = AdaLoraConfig(
            target_r=own.rank,
            init_r=own.first_rank,
            lora_alpha=own.alpha,
            target_modules=list(own.modules),
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
            total_step=total,
            tinit=int(own.warm * total),
            tfinal=int(own.settled * total),
        )
        self._steps = 0
        self.model.net = get_peft_model(self.model.net, config)
        self.model.net.eval()

    def _weights(self) -> dict[str, Tensor]:
        names = tuple(f".{one}.weight" for one in self._own.modules)
        return {
            name: one for name, one in self.model.net.named_parameters() if name.endswith(names)
        }


def from_orthogonal(rows: Tensor) -> Tensor:
    """|M M^T - I|, the Frobenius norm, as peft has it.  (r, I) -> ()."""
    apart: Tensor = torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows)).to(rows))
    return apart


def _side(name: str) -> bool:
    """Tell whether a parameter is an A or a B."""
    return "lora_A" in name or "lora_B" in name
