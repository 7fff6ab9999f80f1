"""A causal language model that can be asked, scored and changed.  Always in float32.

It knows neither facts nor rivals.  Shapes: N sequences, L places, P target tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from kdpo_daemon.bench.edits.rivals.layout import Ids, padded_left, shared, within
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import end_token_id
from kdpo_daemon.records.teaching import ForcedToken, Form, Prompt

_ANSWERS = 64  #: prompts answered at once

#: Told how many of how many are done.
OnDone = Callable[[int, int], None]


@dataclass(frozen=True)
class Lesson:
    """A prompt and what should follow it, in token ids."""

    prompt: Ids
    target: Ids

    @property
    def text(self) -> Ids:
        """What the model reads; the last target token predicts nothing."""
        return self.prompt + self.target[:-1]


@dataclass(frozen=True)
class Begun:
    """What texts begin with, read: how many tokens, and their keys and values."""

    length: int
    memory: Any


class Model:
    """A model directory, loaded; `net` may be changed or wrapped by a rival."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        # small changes of weights vanish in bfloat16, which many processors are slow at besides
        net: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )
        self.net: Any = net.to(self.device).eval().requires_grad_(requires_grad=False)
        self._completion_end = end_token_id(directory)
        ends = self.net.generation_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        if self._tokenizer.chat_template is None:
            raise SettingsError(
                "the model has no chat template",
                subject=str(directory),
                hint="name the directory of a chat model as --model",
            )
        both = [self.ids(Prompt(Form.CHAT, text)) for text in ("a", "b")]
        self._head = both[0][: shared(both)]  #: what all chat prompts begin with

    # ------------------------------------------------------------ words and ids

    def ids(self, prompt: Prompt) -> Ids:
        """Give the ids of a prompt, up to where the answer begins."""
        if prompt.form is Form.COMPLETION:
            return tuple(self._tokenizer(prompt.text).input_ids)
        return self._chat([_said("user", prompt.text)], add_generation_prompt=True)

    def target(self, prompt: Prompt, text: str, *, end: bool = True) -> Ids:
        """Give the ids of an answer as it follows a prompt, with the token that ends it."""
        if prompt.form is Form.COMPLETION:
            ids = self._tokenizer(f" {text}", add_special_tokens=False).input_ids
            return (*ids, self._completion_end) if end else tuple(ids)
        turns = [_said("user", prompt.text), _said("assistant", text)]
        asked = self.ids(prompt)
        answered = self._chat(turns, continue_final_message=True)
        closed = self._chat(turns)
        if answered[: len(asked)] != asked or closed[: len(answered)] != answered:
            raise SettingsError(
                "the chat template does not write an answer after its own generation prompt",
                subject=str(self.directory),
            )
        return closed[len(asked) : len(answered) + int(end)]

    def lesson(self, prompt: Prompt, text: str, *, end: bool = True) -> Lesson:
        """Give a prompt and an answer in ids."""
        return Lesson(self.ids(prompt), self.target(prompt, text, end=end))

    def text(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Give the words of some ids; those that end turns are left out unless `special`."""
        keep: dict[str, bool] = {"skip_special_tokens": not special}
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False, **keep))

    def _chat(self, turns: list[dict[str, str]], **how: bool) -> Ids:
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, **how)
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)

    # ------------------------------------------------------------ free generation

    def answers(self, prompts: Sequence[Prompt], max_tokens: int, on_done: OnDone) -> list[str]:
        """Greedy answers in the order of the prompts, each until the model's own end token."""
        found: list[Ids] = [()] * len(prompts)
        done = 0
        for group in _groups(prompts, [self.ids(prompt) for prompt in prompts]):
            answers = self.continued([ids for _, ids in group], max_tokens)
            for (index, _), answer in zip(group, answers, strict=True):
                found[index] = answer
            done += len(group)
            on_done(done, len(prompts))
        return [self._tokenizer.decode(one, skip_special_tokens=True) for one in found]

    @torch.no_grad()
    def continued(self, prompts: Sequence[Ids], max_tokens: int) -> list[Ids]:
        """What follows each prompt of one group: at most `max_tokens` ids, no end token.

        What all begin with, a chat template's head above all, is computed once.
        """
        alike = shared(prompts)
        cache = self._again(self.begun(prompts[0][:alike]), len(prompts))
        ids, mask = padded_left([one[alike:] for one in prompts], alike, self.device)
        said: list[list[int]] = [[] for _ in prompts]
        alive = torch.arange(len(prompts), device=self.device)
        for _ in range(max_tokens):
            places = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            out = self.net(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            following = out.logits[:, -1].argmax(1)
            going = self._note(said, alive, following)
            if not bool(going.any()):
                break
            if not bool(going.all()):
                cache.batch_select_indices(going.nonzero()[:, 0])
            alive, ids = alive[going], following[going][:, None]
            mask = torch.cat([mask[going], mask.new_ones(len(alive), 1)], dim=1)
        return [tuple(one) for one in said]

    def _note(self, said: list[list[int]], alive: Tensor, following: Tensor) -> Tensor:
        """Put the next tokens down; gives which of the rows go on, (N,) bool."""
        going = []
        for index, token in zip(alive.tolist(), following.tolist(), strict=True):
            going.append(token not in self._ends)
            if going[-1]:
                said[index].append(token)
        return torch.tensor(going, device=self.device)

    @torch.no_grad()
    def begun(self, ids: Ids) -> Begun:
        """Read what texts begin with; true as long as the weights stay as they are."""
        cache = DynamicCache(config=self.net.config)
        if ids:
            at = torch.tensor([ids], device=self.device)
            self.net(input_ids=at, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return Begun(len(ids), cache)

    def _again(self, begun: Begun, copies: int) -> Any:
        """Keys and values of a beginning for so many rows, which may be added to."""
        cache = deepcopy(begun.memory)
        if begun.length:
            cache.batch_repeat_interleave(copies)
        return cache

    # ------------------------------------------------------------ scored answers

    def target_logits(
        self, lessons: Sequence[Lesson], begun: Begun | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits that predict target tokens (P, V), their lesson (P,), and the tokens (P,).

        What all texts begin with is not computed again if it is given as `begun`.
        """
        head = begun.length if begun else 0
        longest = max(len(one.text) for one in lessons)
        ids = torch.zeros(len(lessons), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        at: list[tuple[int, int, int]] = []
        for row, one in enumerate(lessons):
            ids[row, : len(one.text)] = torch.tensor(one.text)
            mask[row, : len(one.text)] = 1
            first = len(one.prompt) - 1 - head
            at += [(row, first + place, token) for place, token in enumerate(one.target)]
        row_, place_, tokens = (one.to(self.device) for one in torch.tensor(at).unbind(1))
        cache = self._again(begun, len(lessons)) if begun else None
        with _picking(self.net.get_output_embeddings(), row_, place_):
            out = self.net(
                input_ids=ids[:, head:].to(self.device),
                attention_mask=mask.to(self.device),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return out.logits[0].float(), row_, tokens

    @torch.no_grad()
    def forced(
        self, lessons: Sequence[Lesson], on_done: OnDone = lambda *_: None
    ) -> list[tuple[ForcedToken, ...]]:
        """Targets under teacher forcing: one record per target token (natural logarithms)."""
        found: list[list[ForcedToken]] = [[] for _ in lessons]
        done = 0
        for begun, group in self.alike(lessons):
            logits, row, tokens = self.target_logits([lessons[i] for i in group], begun)
            logprobs = logits.log_softmax(1)
            best, argmax = logprobs.max(1)
            mine = logprobs.gather(1, tokens[:, None])[:, 0]
            columns = (row.tolist(), mine.tolist(), argmax.tolist(), best.tolist())
            for number, *seen in zip(*columns, strict=True):
                found[group[int(number)]].append(ForcedToken(seen[0], int(seen[1]), seen[2]))
            done += len(group)
            on_done(done, len(lessons))
        return [tuple(one) for one in found]

    def alike(self, lessons: Sequence[Lesson]) -> Iterator[tuple[Begun | None, list[int]]]:
        """Group lessons by number, alike in length; with those in chats, how all chats begin."""
        order = sorted(range(len(lessons)), key=lambda i: len(lessons[i].text))
        head = self._head
        longer = [i for i in order if len(lessons[i].prompt) > len(head) > 0]
        chats = {i for i in longer if lessons[i].prompt[: len(head)] == head}
        for begun, some in (
            (self.begun(head) if chats else None, chats),
            (None, {*order} - chats),
        ):
            start = begun.length if begun else 0
            mine = [i for i in order if i in some]
            for group in within(mine, [len(one.text) - start for one in lessons]):
                yield begun, group

    # ------------------------------------------------------------ parts

    def module(self, share: float, name: str) -> nn.Linear:
        """Give the module `name` of the layer that far up, as a share of the depth."""
        names = [one for one, _ in self.net.named_modules() if one.endswith("." + name)]
        if not names:
            raise SettingsError(
                f"no module of this model is named ...{name}",
                subject=str(self.directory),
                hint="set the rival's module to a linear module that every layer has",
            )
        at = min(len(names) - 1, layer_at(share, len(names)))
        found: nn.Linear = self.net.get_submodule(names[at])
        return found


def layer_at(share: float, depth: int) -> int:
    """Give a layer's number: that share of the depth, rounded."""
    return round(share * depth)


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _groups(prompts: Sequence[Prompt], ids: Sequence[Ids]) -> Iterator[list[tuple[int, Ids]]]:
    """Number and ids of the prompts that are answered together.

    Of one form, since chat prompts begin alike; alike in length, since all are padded to the
    longest.
    """
    for form in Form:
        mine = [(number, ids[number]) for number, one in enumerate(prompts) if one.form is form]
        mine.sort(key=lambda one: len(one[1]))
        for start in range(0, len(mine), _ANSWERS):
            yield mine[start : start + _ANSWERS]


@contextmanager
def _picking(head: nn.Module, row: Tensor, place: Tensor) -> Iterator[None]:
    """Let the head of the model see some places alone: its logits become (1, P, V)."""

    def pick(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        return (arguments[0][row, place][None],)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()
