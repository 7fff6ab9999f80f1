"""What an order gives, as training takes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer

from kdpo_daemon.errors import TuningError
from kdpo_daemon.orders import Method, Order
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.tuning.checkpoint import Weights, read_adapter

Tell = Callable[[dict[str, object]], None]
Decode = Callable[[list[int]], str]


class RefusedError(TuningError):
    """The order cannot be trained as it is; `fact_ids` are the facts to blame, if some are."""

    def __init__(self, message: str, fact_ids: Sequence[int] = ()) -> None:
        super().__init__(message, refused=True)
        self.fact_ids = tuple(fact_ids)


@dataclass(frozen=True)
class Speech:
    """Between text and tokens."""

    decode: Decode
    ask: Callable[[Prompt], tuple[int, ...]]  #: up to where the answer begins


@lru_cache(maxsize=1)
def speech_of(base_dir: Path) -> Speech:
    """Read a base's tokenizer, once; without a chat template questions are asked as they stand."""
    tokenizer = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def ask(prompt: Prompt) -> tuple[int, ...]:
        if prompt.form is Form.COMPLETION or not tokenizer.chat_template:
            return tuple(tokenizer(prompt.text).input_ids)
        turns = [{"role": "user", "content": prompt.text}]
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return tuple(tokenizer(text, add_special_tokens=False).input_ids)

    return Speech(decode, ask)


def parent_of(order: Order) -> Weights | None:
    """The parent adapter; None where it is the base, or an adapter that changes nothing.

    One that keeps its facts otherwise than the recipe wants is not built on: the order has all
    facts, so they are taught anew.
    """
    parent = read_adapter(order.parent_dir) if order.parent_dir else None
    if parent is None:
        return None
    in_neurons = order.recipe.method is Method.NEURONS
    return parent if (parent.neurons if in_neurons else parent.slots) else None


def kept_prompts(order: Order) -> list[tuple[int, ...]]:
    """The keep prompts, without those that are taught."""
    taught = {pair.prompt_ids for pair in order.pairs}
    return [prompt.ids for prompt in order.keep if prompt.ids not in taught]
