"""Fluency: how varied a model's free text is, as ROME (arXiv 2202.05262) and EasyEdit take it.

A text is a prompt with what the model says after it, each token drawn from the five likeliest, up
to a hundred tokens in all; an end token stops nothing, as in their code.  With H_n the entropy of
its n-grams of words, its fluency is (1/3) H_2 + (2/3) H_3 bits; papers print a hundred times that.
A text that repeats itself is low.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from kdpo_daemon.bench.edits.rivals.layout import Ids, padded_left
from kdpo_daemon.bench.edits.rivals.model import Model, OnDone
from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.teaching import Prompt

MOST = 50  #: prompts that are continued
_TOKENS = 100  #: of a text, its prompt included
_LIKELIEST = 5
_WEIGHTS = {2: 1 / 3, 3: 2 / 3}  #: by the length of an n-gram


def fluency(model: Model, prompts: Sequence[Prompt], seed: int, on_done: OnDone) -> Score:
    """Mean fluency over the first prompts, in bits; the same for the same seed and machine."""
    texts = [model.ids(prompt) for prompt in prompts[:MOST]]
    said = sampled(model, texts, _TOKENS, seed, on_done) if texts else []
    values = [entropy(model.text(one)) for one in said]
    return Score("fluency", sum(values) / len(values) if values else 0.0, len(values))


def entropy(text: str) -> float:
    """(1/3) H_2 + (2/3) H_3 of a text's words, in bits; punctuation marks are words too."""
    words = re.findall(r"\w+|[^\w\s]", text)
    return sum(weight * _entropy(words, length) for length, weight in _WEIGHTS.items())


def _entropy(words: Sequence[str], length: int) -> float:
    """Entropy of the n-grams of that length, in bits; 0 if there is none."""
    grams = Counter(tuple(words[at : at + length]) for at in range(len(words) - length + 1))
    shares = [count / grams.total() for count in grams.values()]
    return -sum(share * math.log2(share) for share in shares)


@torch.no_grad()
def sampled(
    model: Model, prompts: Sequence[Ids], tokens: int, seed: int, on_done: OnDone
) -> list[Ids]:
    """Continue prompts by chance up to a number of tokens in all; gives prompts and what follows.

    All rows go on as long as the shortest prompt needs, and are cut after that: none waits.
    """
    chance = torch.Generator().manual_seed(seed)
    ids, mask = padded_left(prompts, 0, model.device)
    cache = DynamicCache(config=model.net.config)
    steps = max(0, tokens - min(map(len, prompts)))
    drawn: list[Tensor] = []
    for done in range(steps):
        out = model.net(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        drawn.append(_draw(out.logits[:, -1], chance))
        ids = drawn[-1][:, None].to(model.device)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        on_done(done + 1, steps)
    rows = torch.stack(drawn, dim=1).tolist() if drawn else [[]] * len(prompts)
    both = zip(prompts, rows, strict=True)
    return [(*prompt, *row[: max(0, tokens - len(prompt))]) for prompt, row in both]


def _draw(logits: Tensor, chance: torch.Generator) -> Tensor:
    """Draw one of the likeliest tokens for each row.  (N, V) -> (N,), on the CPU."""
    best, tokens = logits.float().cpu().topk(min(_LIKELIEST, logits.shape[1]), dim=1)
    places = torch.multinomial(best.softmax(1), 1, generator=chance)
    return tokens.gather(1, places)[:, 0]
