"""Files of edits in the forms in which they are published -> records.

- zsre: KnowEdit's, or MEND's as used by LocFT (`src`, `alt`);
- counterfact: as EasyEdit distributes it, with one neighbour each;
- knowedit: wiki_recent and wiki_counterfact;
- wikibigedit.

All are JSON, one object a line.  The Factbook is read by `offices`.  Draws no subset.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from kdpo_daemon.bench.edits.records import Question, Record, both_forms, by_turns
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.teaching import Form, Prompt

#: Questions of one kind asked per record, at most.
ASKED = 2
#: Questions per record about what follows from the edit, at most.
_HOPS = 3


class DataForm(StrEnum):
    """How a file of edits is laid out."""

    ZSRE = "zsre"
    COUNTERFACT = "counterfact"
    KNOWEDIT = "knowedit"
    WIKIBIGEDIT = "wikibigedit"
    FACTBOOK = "factbook"


class Line:
    """One line of a file, whose errors name file, line and remedy."""

    def __init__(self, file: Path, number: int, text: str, form: DataForm) -> None:
        self.number = number
        self._where, self._form = f"{file}, line {number}", form
        try:
            self._fields = json.loads(text)
        except ValueError as error:
            self.refuse(f"not JSON ({error})")
        if not isinstance(self._fields, dict):
            self.refuse("not a JSON object")

    def refuse(self, message: str) -> NoReturn:
        """Say what is wrong with the line, and what to do.  Always raises SettingsError."""
        raise SettingsError(
            message,
            subject=self._where,
            hint=f"mend or delete the line, if the file is of the form {self._form} at all",
        )

    def has(self, name: str) -> bool:
        """Tell whether there is such a field."""
        return name in self._fields

    def text(self, name: str) -> str:
        """Give a text that has to be there."""
        value = self._fields.get(name)
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"`{name}` is not a text with something in it")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Give all texts of a field that may be missing, a text or lists of texts."""
        return tuple(_flat(self._fields.get(name), self))

    def number_or_none(self, name: str) -> int | None:
        """Give a whole number, or None if there is no such field."""
        value = self._fields.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self.refuse(f"`{name}` is not a whole number")
        return value

    def questions(self, name: str, kinds: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Give prompts with answers under some keys of a field that may be missing."""
        groups = self._fields.get(name) or {}
        if not isinstance(groups, Mapping):
            self.refuse(f"`{name}` is not an object of lists")
        return [_question(one, name, self) for kind in kinds for one in groups.get(kind) or ()]


def read_records(file: Path, form: DataForm) -> list[Record]:
    """Read a whole file.  SettingsError naming file, line and remedy if it cannot be."""
    return [_READERS[form](line) for line in read_lines(file, form)]


def read_lines(file: Path, form: DataForm) -> Iterator[Line]:
    """Read a file's lines, leaving out empty ones.  SettingsError if there is no such file."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot be read ({error})", subject=str(file), hint="name a file of edits as --data"
        ) from error
    # not splitlines(): JSON texts may hold other line ends, such as U+2028, as they are
    for number, one in enumerate(text.split("\n"), 1):
        if one.strip():
            yield Line(file, number, one, form)


def template(prompt: str, subject: str) -> str:
    """Give a phrasing with {} for its subject; "" if the subject is not in it."""
    return prompt.replace(subject, "{}") if subject in prompt else ""


def _zsre(line: Line) -> Record:
    return _zsre_of_mend(line) if line.has("src") else _zsre_of_knowedit(line)


def _zsre_of_knowedit(line: Line) -> Record:
    other = _without_order(line.questions("locality", ("Relation_Specificity",)))
    return _record(
        line,
        old=next(iter(line.texts("ground_truth")), ""),
        held_out=both_forms(line.text("rephrase_prompt")),
        same_subject=by_turns(other, line.number, ASKED),
        portability=_hops(line),
        place=line.number_or_none("kdpo_seq_pos"),
    )


def _zsre_of_mend(line: Line) -> Record:
    subject, prompt = line.text("subject"), line.text("src")
    # written as "nq question: who sang ..."
    asked = line.text("loc").removeprefix("nq question: ")
    asked = f"{asked[:1].upper()}{asked[1:]}?"
    return Record(
        number=line.number,
        subject=subject,
        relation=template(prompt, subject),
        new=line.text("alt"),
        old=next(iter(line.texts("answers")), ""),
        train=both_forms(prompt),
        held_out=both_forms(line.text("rephrase")),
        unrelated=by_turns([(asked, line.texts("loc_ans"))], line.number, ASKED),
    )


def _counterfact(line: Line) -> Record:
    return _record(
        line,
        old=line.text("ground_truth"),
        held_out=both_forms(line.text("rephrase_prompt")),
        same_relation=_neighbour(line),
    )


def _wikibigedit(line: Line) -> Record:
    return _record(
        line,
        held_out=both_forms(line.text("rephrase_prompt")),
        same_relation=_neighbour(line),
    )


def _knowedit(line: Line) -> Record:
    # `Forgetfulness` asks for another value of the same relation: neither right nor wrong here
    other = line.questions("locality", ("Relation_Specificity",))
    return _record(
        line,
        old=next(iter(line.texts("ground_truth")), ""),
        same_subject=by_turns(other, line.number, ASKED),
        portability=_hops(line),
    )


def _record(line: Line, **fields: Any) -> Record:
    """Fill what KnowEdit, CounterFact and WikiBigEdit have in common."""
    subject, prompt = line.text("subject"), line.text("prompt")
    return Record(
        number=line.number,
        subject=subject,
        relation=template(prompt, subject),
        new=line.text("target_new"),
        train=both_forms(prompt),
        **{"old": "", **fields},
    )


def _neighbour(line: Line) -> tuple[Question, ...]:
    asked = (line.text("locality_prompt"), line.texts("locality_ground_truth"))
    return by_turns([asked], line.number, ASKED)


def _hops(line: Line) -> tuple[Question, ...]:
    kinds = ("Reasoning", "Logical_Generalization", "Subject_Aliasing")
    found = line.questions("portability", kinds)[:_HOPS]
    return tuple(Question(Prompt(Form.COMPLETION, text), answers) for text, answers in found)


def _without_order(
    questions: list[tuple[str, tuple[str, ...]]],
) -> list[tuple[str, tuple[str, ...]]]:
    """Leave out the same question in bare words ("ZIC3 strand orientation") where there is one."""
    said = [one for one in questions if one[0].endswith((" is", "?", " are", " was"))]
    return said or questions


def _question(value: object, name: str, line: Line) -> tuple[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or not isinstance(value.get("prompt"), str):
        line.refuse(f"a question of `{name}` has no `prompt`")
    return value["prompt"].strip(), tuple(_flat(value.get("ground_truth"), line))


def _flat(value: object, line: Line) -> Iterator[str]:
    """Give the texts of nested lists in order; other names of an answer are given so."""
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, list):
        for one in value:
            yield from _flat(one, line)
    elif value is not None:
        line.refuse(f"{value!r} stands where a text is wanted")


_READERS: Mapping[DataForm, Callable[[Line], Record]] = {
    DataForm.ZSRE: _zsre,
    DataForm.COUNTERFACT: _counterfact,
    DataForm.KNOWEDIT: _knowedit,
    DataForm.WIKIBIGEDIT: _wikibigedit,
}
