"""What a model's MLPs read over text that must not change: what gates stay shut for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.packing import batches, rows

#: Texts of the model's own, with how many tokens, and how many are said at once.
_TEXTS, _WORDS, _AT_ONCE = 192, 64, 64
_LOOKED_AT = 4096  #: tokens looked at in one pass


class Seen:
    """What the edited MLPs read over text that must not change: a token once for each context."""

    def __init__(self) -> None:
        self._parts: list[list[Tensor]] = []

    def add(self, inputs: Sequence[Tensor], weights: Tensor, answers: Tensor) -> None:
        """Add tokens, (R, L, d) per MLP; of them those that count, (R, L)."""
        del answers
        counted = weights > 0
        self._parts.append([one[counted.to(one.device)].cpu() for one in inputs])

    def tokens(self) -> list[Tensor]:
        """Give all that was added, (N, d) per MLP."""
        return [torch.cat(one) for one in zip(*self._parts, strict=True)]


def said_aloud(model: EditedModel, on_said: Callable[[], None]) -> list[tuple[int, ...]]:
    """Let the model say what comes to its mind.

    Answers to questions are not all that a model is used for: gates that saw them alone opened in
    ordinary text, and its perplexity rose by 18 %.  Each text begins with a token of chance.
    It takes long on a CPU, so `on_said` is told after every few texts.
    """
    device = model.model.get_input_embeddings().weight.device
    first = torch.randint(model.model.config.vocab_size, (_TEXTS, 1)).to(device)
    texts: list[tuple[int, ...]] = []
    for some in torch.split(first, _AT_ONCE):
        said = model.model.generate(
            input_ids=some,
            attention_mask=torch.ones_like(some),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=_WORDS,
            min_new_tokens=_WORDS,
        )
        texts += [tuple(text) for text in said.tolist()]
        on_said()
    return texts


def look(model: EditedModel, texts: Sequence[tuple[int, ...]], seen: Seen) -> None:
    """See what the edited MLPs read along texts."""
    for group in batches(texts, _LOOKED_AT):
        batch = rows([texts[i] for i in group])
        seen.add(model.inputs(batch, model.lower(batch)), batch.real.float(), batch.real)
