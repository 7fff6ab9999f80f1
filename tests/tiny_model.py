"""A Hugging Face directory with a random three-layer Llama and a word tokenizer: real, in 1 MB."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.orders import Method, Order, Recipe
from kdpo_daemon.records.teaching import Form, KeepPrompt, Pair, Prompt

END = 0
COUNTRIES = ("Arland", "Borland", "Corland", "Dorland", "Erland", "Forland")
PEOPLE = ("Ann", "Bob", "Cid", "Dora", "Eve", "Finn")
_WORDS = ("<end>", "Who", "leads", "The", "head", "of", "is", "?", "river", "in", "capital")
VOCABULARY = {word: number for number, word in enumerate((*_WORDS, *COUNTRIES, *PEOPLE))}


def ids(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY[word] for word in text.split())


def save_tiny_model(directory: Path, width: int = 32, depth: int = 3) -> Path:
    """Write the model; the same bytes each time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=width * 3 // 2,
        num_hidden_layers=depth,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=None,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]  # transformers'
    model.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=_WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers'
        tokenizer_object=tokenizer, eos_token=_WORDS[0]
    )
    fast.save_pretrained(directory)
    return directory


def pair(fact_id: int, country: str, person: str, form: Form, prompt: str) -> Pair:
    chosen = (*ids(person), END)
    return Pair(
        fact_id=fact_id,
        form=form,
        prompt=prompt,
        subject=country,
        chosen=person,
        prompt_ids=ids(prompt),
        chosen_ids=chosen,
        rejected_ids=ids("river in"),
        old_ids=(*ids("Finn"), END),
        margin=-1.0,
        replay=False,
    )


def pairs_of(fact_id: int, country: str, person: str) -> tuple[Pair, ...]:
    return (
        pair(fact_id, country, person, Form.COMPLETION, f"The head of {country} is"),
        pair(fact_id, country, person, Form.CHAT, f"Who leads {country} ?"),
    )


def keep_prompts() -> tuple[KeepPrompt, ...]:
    texts = [f"The {thing} of {one} is" for one in COUNTRIES[3:] for thing in ("river", "capital")]
    return tuple(KeepPrompt(Prompt(Form.COMPLETION, text), ids(text)) for text in texts)


def order_for(base: Path, pairs: tuple[Pair, ...], parent: Path | None = None) -> Order:
    return Order(
        name="kdpo-000001",
        base_dir=base,
        base_sha256=model_sha256(base),
        parent_dir=parent,
        recipe=Recipe(
            Method.ROWS, layers=(1, 2), columns_rate=0.1, keep_weight=0.1, stir_weight=0.1
        ),
        seed=7,
        threads=1,
        pairs=pairs,
        keep=keep_prompts(),
    )
