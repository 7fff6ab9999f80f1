"""What an edit should leave alone: general questions, a fixed text, grammar, known facts.

Reads the shipped general probes, and a folder `probes` with `wikitext2_test.txt`,
`blimp_small.jsonl` (BLiMP, arXiv 1912.00582), `lama_trex.jsonl` (LAMA, arXiv 1909.01066) and
`pararel_patterns.jsonl` (ParaRel, arXiv 2102.01017).  Asks nothing.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from kdpo_daemon import packs
from kdpo_daemon.bench.edits.records import Question
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.teaching import Form, Prompt

_CHARACTERS = 16_000  #: of the fixed text, from its beginning
_PAIRS = 5  #: of each of BLiMP's 67 paradigms
_KNOWN = 300  #: facts of LAMA


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences that differ in one respect; a model should find the good one likelier."""

    good: str
    bad: str


@dataclass(frozen=True)
class General:
    """All that is asked and read beside the edits."""

    questions: tuple[Question, ...]  #: judged by whether the answer is the base model's
    keep: tuple[Prompt, ...]  #: general prompts that a rival may train to leave alone
    text: str
    pairs: tuple[MinimalPair, ...]
    known: tuple[Question, ...]  #: completions with one right answer each


def read_general(folder: Path) -> General:
    """Read all of it.  SettingsError naming the file if one is missing or not in its form."""
    try:
        text = (folder / "wikitext2_test.txt").read_text("utf-8")[:_CHARACTERS]
        return General(
            questions=tuple(_shipped("general_probes.jsonl")),
            keep=tuple(one.prompt for one in _shipped("general_keep.jsonl")),
            text=text,
            pairs=tuple(_pairs(folder / "blimp_small.jsonl")),
            known=tuple(_known(folder)),
        )
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(
            f"probes cannot be read ({type(error).__name__}: {error})",
            subject=str(folder),
            hint="name a folder with wikitext2_test.txt, blimp_small.jsonl, lama_trex.jsonl and"
            " pararel_patterns.jsonl as --probes",
        ) from error


def _shipped(name: str) -> Iterator[Question]:
    for text in packs.text(name).splitlines():
        line = json.loads(text)
        prompt = Prompt(Form(line["form"]), line["prompt"])
        yield Question(prompt, tuple(line.get("expected", ())))


def _pairs(file: Path) -> Iterator[MinimalPair]:
    """Take the first few pairs of each paradigm."""
    seen: dict[str, int] = defaultdict(int)
    for line in _lines(file):
        seen[line["UID"]] += 1
        if seen[line["UID"]] <= _PAIRS:
            yield MinimalPair(line["sentence_good"], line["sentence_bad"])


def _known(folder: Path) -> list[Question]:
    """Choose facts whose relation has a pattern that ends in the object, always the same ones."""
    patterns: dict[str, str] = {}
    for line in _lines(folder / "pararel_patterns.jsonl"):
        pattern = line["pattern"].rstrip(" .")
        if pattern.endswith("[Y]") and "[X]" in pattern:
            patterns.setdefault(line["relation"], pattern.removesuffix("[Y]").strip())
    facts = [line for line in _lines(folder / "lama_trex.jsonl") if line["relation"] in patterns]
    rng = Random(0)  # noqa: S311 - a choice of facts, not a secret
    chosen = rng.sample(facts, min(_KNOWN, len(facts)))
    return [
        Question(
            Prompt(Form.COMPLETION, patterns[line["relation"]].replace("[X]", line["subject"])),
            (line["object"],),
        )
        for line in chosen
    ]


def _lines(file: Path) -> Iterator[dict[str, str]]:
    return (json.loads(text) for text in file.read_text("utf-8").split("\n") if text.strip())
