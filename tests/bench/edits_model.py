"""The tiny model as a chat model, a plan of two facts about it, and runs of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kdpo_daemon.bench.edits.general import General, MinimalPair
from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.records import Question, Record
from kdpo_daemon.bench.edits.rivals.work import run
from kdpo_daemon.bench.edits.settings import BASE, RIVALS, RivalSettings
from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.records.teaching import Form, Prompt
from tests.tiny_model import save_tiny_model

# answers end with the end token; what follows the last message ends the generation prompt
_TEMPLATE = (
    "{% for one in messages %}{{ one['content'] }}"
    "{% if one['role'] == 'assistant' %} <end>{% else %} {% endif %}{% endfor %}"
)


def save_tiny_chat_model(directory: Path) -> Path:
    save_tiny_model(directory)
    (directory / "chat_template.jinja").write_text(_TEMPLATE, "utf-8")
    return directory


def completion(text: str) -> Prompt:
    return Prompt(Form.COMPLETION, text)


def record(number: int, country: str, person: str, old: str = "Finn") -> Record:
    return Record(
        number=number,
        subject=country,
        relation="leads",
        new=person,
        old=old,
        train=(
            completion(f"The head of {country} is"),
            Prompt(Form.CHAT, f"Who leads {country} ?"),
        ),
        held_out=(completion(f"head of {country} is"),),
        same_subject=(Question(completion(f"The river of {country} is"), ("Eve",)),),
        same_relation=(Question(Prompt(Form.CHAT, "Who leads Forland ?"), ("Finn",)),),
        keep=(completion(f"The capital of {country} is"),),
    )


def tiny_plan(model: Path, batch: int = 2) -> Plan:
    rivers = [completion(f"The river in {one} is") for one in ("Dorland", "Erland", "Forland")]
    return Plan(
        form="zsre",
        data_name="edits.jsonl",
        data_sha256="0" * 64,
        model_dir=model,
        model_sha256=model_sha256(model),
        batch=batch,
        seed=3,
        threads=1,
        max_tokens=4,
        records=(record(1, "Arland", "Ann"), record(2, "Borland", "Bob")),
        general=General(
            questions=(Question(rivers[0], ("Dora",)),),
            keep=tuple(rivers[1:]),
            text="The head of Arland is Ann The river of Dorland is Eve",
            pairs=(MinimalPair("The head of Arland", "head The Arland of"),),
            known=(Question(completion("The capital of Forland is"), ("Finn",)),),
        ),
    )


def save_edits(file: Path) -> Path:
    """Write two edits in the form of CounterFact."""
    lines = [
        {
            "prompt": f"The head of {country} is",
            "subject": country,
            "target_new": person,
            "ground_truth": "Finn",
            "rephrase_prompt": f"Who leads {country}",
            "locality_prompt": "The head of Forland is",
            "locality_ground_truth": "Finn",
        }
        for country, person in (("Arland", "Ann"), ("Borland", "Bob"))
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


class _CutError(Exception):
    """The run is cut off here."""


def silent(_doing: str, _done: int, _of: int) -> None:
    """Tell nobody."""


def begun(plan: Plan, directory: Path, rivals: Mapping[str, RivalSettings]) -> Work:
    """A run whose base model was asked."""
    work = Work(directory)
    chosen = {name: replace(RIVALS[name], settings=one) for name, one in rivals.items()}
    work.begin(plan, chosen)
    run(work, BASE, silent)
    return work


def cut_at_the_second_batch(work: Work, name: str, questions: int) -> None:
    """Run a rival until the second batch is taught, when so many questions are asked of all."""

    def stop(doing: str, _done: int, of: int) -> None:
        if doing == "asking all facts so far" and of == questions:
            raise _CutError

    with pytest.raises(_CutError):
        run(work, name, stop)


def scores_of(work: Work, name: str) -> dict[str, float]:
    return {one.name: one.value for one in work.scores(name) or ()}
