"""`kdpo-released`: KDPO as its authors released it (arXiv 2406.09920, their `dpo_main.py`).

One matrix, one fact at a time, completion alone, no end token.  The negatives are the model's own
argmax at each place of the target, made anew once per cycle; the reference is the model as it was
when the fact began; where both agree nothing is taught.  The equations are those of
`kdpo_daemon/tuning/loss.py`, written again because the training child is nobody's library.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench
from kdpo_daemon.bench.edits.rivals.finetune import OneMatrix, step
from kdpo_daemon.bench.edits.rivals.model import Lesson
from kdpo_daemon.bench.edits.settings import ReleasedSettings
from kdpo_daemon.records.teaching import Form

_FIRST_STEPS = 3  #: of the first cycle, before a loss that never moved ends it


class Released(OneMatrix):
    """Trains facts in turn, each through cycles with fresh negatives."""

    def __init__(self, bench: Bench, settings: ReleasedSettings) -> None:
        super().__init__(bench, settings.layer, settings.module)
        self.settings = settings

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train the facts of a batch in turn; earlier ones are not looked at again."""
        del before
        for done, record in enumerate(batch, 1):
            began = self.weight.detach().clone()
            self._train(self._lesson(record))
            if self.settings.twice:
                add_again(self.weight, began)
            self.bench.tell(done, len(batch))
        return ()

    def _lesson(self, record: Record) -> Lesson:
        first = next(one for one in record.train if one.form is Form.COMPLETION)
        return self.model.lesson(first, record.new, end=False)

    def _train(self, lesson: Lesson) -> None:
        reference = self._logits(lesson).detach()
        chosen = torch.tensor(lesson.target, device=reference.device)
        optimizer = torch.optim.Adam([self.weight], lr=self.settings.rate)
        for cycle in range(self.settings.cycles):
            rejected = self._logits(lesson).detach().argmax(1)
            # nothing differs, so nothing is taught; theirs tests it from the second cycle on
            if bool((rejected == chosen).all()):
                break
            self._cycle(lesson, (chosen, rejected, reference), optimizer, first=cycle == 0)

    def _cycle(
        self,
        lesson: Lesson,
        tokens: tuple[Tensor, Tensor, Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        first: bool,
    ) -> None:
        """Take the steps of one cycle; `tokens` are chosen, rejected and the reference logits."""
        chosen, rejected, reference = tokens
        for number in range(self.settings.steps):
            ours = margin(self._logits(lesson), chosen, rejected)
            theirs = margin(reference, chosen, rejected)
            loss = -torch.nn.functional.logsigmoid(self.settings.beta * (ours - theirs))
            value = float(loss.detach())
            still = first and number >= _FIRST_STEPS - 1 and round(value, 4) == _NOTHING
            if value < self.settings.stop or still:
                break
            step(optimizer, loss)

    def _logits(self, lesson: Lesson) -> Tensor:
        """Logits at each place of the target, (T, V)."""
        return self.model.target_logits([lesson])[0]


_NOTHING = round(math.log(2), 4)  #: the loss of a policy that is the reference


def margin(logits: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Sum over the target of z[y+] - z[y-]; equal tokens give 0.  (T, V), (T,), (T,) -> ()."""
    pairs = logits.gather(1, torch.stack((chosen, rejected), dim=1))
    return (pairs[:, 0] - pairs[:, 1]).sum()


@torch.no_grad()
def add_again(weight: Tensor, began: Tensor) -> None:
    """W <- W + (W - W before the fact), in place: what their sequential mode comes to."""
    weight.copy_(2 * weight - began)
