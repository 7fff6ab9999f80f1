"""A handful of tokens, some of them parts of words, and pairs whose prompts are made of them."""

from dataclasses import replace

from kdpo_daemon.records.teaching import Pair
from tests.tiny_model import pairs_of

WORDS = ["who", "rules", "Ar", "land", "Bo", "Cy", "pria", "?", "and"]


def decode(ids: list[int]) -> str:
    return "".join(f" {WORDS[i]}" if WORDS[i] not in ("land", "pria") else WORDS[i] for i in ids)


def pair(fact_id: int, subject: str, *prompt: str) -> Pair:
    ids = tuple(map(WORDS.index, prompt))
    return replace(pairs_of(fact_id, "Arland", "Ann")[0], subject=subject, prompt_ids=ids)
