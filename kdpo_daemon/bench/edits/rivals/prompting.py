"""`prompt`: the fact stands before the question, which is retrieval's upper bound.

Every question that belongs to a record gets that record's fact, as a retriever would put it there
that finds the subject each time; general questions get none.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench, Editor
from kdpo_daemon.bench.edits.settings import PromptSettings
from kdpo_daemon.records.teaching import Form, Prompt


class Prompting(Editor):
    """Writes facts down and puts them before questions."""

    def __init__(self, bench: Bench, settings: PromptSettings) -> None:
        super().__init__(bench)
        self._settings = settings
        self._facts: dict[int, str] = {}

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Note the facts of all batches so far."""
        self._facts = {one.number: self._fact(one) for one in (*before, *batch)}
        return ()

    def asked(self, prompt: Prompt, number: int | None) -> Prompt:
        """Put the record's fact first, if it has been taught."""
        fact = self._facts.get(number or 0)
        if fact is None:
            return prompt
        chat = prompt.form is Form.CHAT
        words = self._settings.chat if chat else self._settings.completion
        return Prompt(prompt.form, words.format(fact=fact, question=prompt.text))

    def save(self, directory: Path) -> None:
        """Write the facts down."""
        (directory / "facts.json").write_text(json.dumps(self._facts), "utf-8")

    def load(self, directory: Path) -> None:
        """Read the facts."""
        found = json.loads((directory / "facts.json").read_text("utf-8"))
        self._facts = {int(number): fact for number, fact in found.items()}

    def _fact(self, record: Record) -> str:
        first = next(one for one in record.train if one.form is Form.COMPLETION)
        return f"{first.text} {record.new}."
