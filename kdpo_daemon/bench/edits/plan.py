"""The work folder of a run: what its processes are told, and what each has finished.

A run that was cut off is begun again with the same options; what is finished is not done again.

    plan.json               everything that decides the numbers but the rivals' own values
    base.json               what the base model says
    RIVAL/settings.json     the rival's own values
    RIVAL/state-3/          what the rival needs after its third batch to go on
    RIVAL/batch-3.json      how the third batch went; written after its state
    RIVAL/scores.json       the final model's scores
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from pydantic import TypeAdapter

from kdpo_daemon.bench.edits.forms import ASKED
from kdpo_daemon.bench.edits.general import General
from kdpo_daemon.bench.edits.records import Record, by_turns
from kdpo_daemon.bench.edits.settings import Rival
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.teaching import NewProbe, Probe, ProbeKind


@dataclass(frozen=True)
class Plan:
    """What all processes of a run are told."""

    form: str
    data_name: str
    data_sha256: str
    model_dir: Path
    model_sha256: str
    batch: int
    seed: int
    threads: int  #: 0: as many as torch takes
    max_tokens: int  #: longest answer, in tokens
    records: tuple[Record, ...]
    general: General


@dataclass(frozen=True)
class BatchResult:
    """How one batch of a rival went."""

    number: int  #: from 1
    edits: int
    seconds: float  #: of the edit alone, without what is asked afterwards
    peak_mb: float  #: of the process that edits, while it does; MB
    peak_gpu_mb: float  #: 0 without a GPU
    #: after this batch: share of the facts of each batch so far that are answered right
    retention: tuple[float, ...]
    refused: tuple[int, ...] = ()  #: records that the rival could not take


@dataclass(frozen=True)
class BaseResult:
    """What the base model says."""

    answers: dict[int, str]  #: by probe
    forced: tuple[tuple[int, ...], ...]  #: argmax tokens at the answers of locality questions
    device: str  #: where it was computed, "cpu" or "cuda"


@dataclass(frozen=True)
class Scores:
    """The final model's numbers."""

    scores: tuple[Score, ...]


def probes_of(plan: Plan) -> list[Probe]:
    """Everything that is asked by free generation, in a fixed order, numbered from 1."""
    new: list[NewProbe] = []
    for one in plan.records:
        right = (one.new,)
        new += [NewProbe(ProbeKind.EDIT, prompt, right, one.number) for prompt in one.train]
        new += [
            NewProbe(ProbeKind.PARAPHRASE, prompt, right, one.number) for prompt in one.held_out
        ]
        for kind, questions in (
            (ProbeKind.SAME_SUBJECT, one.same_subject),
            (ProbeKind.SAME_RELATION, one.same_relation),
        ):
            new += [NewProbe(kind, asked.prompt, asked.answers, one.number) for asked in questions]
    general = [*plan.general.questions, *(q for one in plan.records for q in one.unrelated)]
    new += [NewProbe(ProbeKind.GENERAL, asked.prompt, asked.answers, None) for asked in general]
    return [
        Probe(number, one.kind, one.prompt, one.expected, one.fact_id)
        for number, one in enumerate(new, 1)
    ]


def lent_of(plan: Plan) -> list[Probe]:
    """Other records' taught questions, asked about each record's subject.

    They are numbered after `probes_of`.  At most two a record, none of which it is taught or
    judged by, in one form each by turns.
    """
    new: list[NewProbe] = []
    for one in plan.records:
        own = {prompt.text for prompt in (*one.train, *one.held_out)}
        lent = dict.fromkeys(
            other.train[0].text.replace(other.subject, one.subject)
            for other in plan.records
            if other.subject in other.train[0].text
        )
        texts = [text for text in lent if text not in own]
        Random(f"{plan.seed} {one.subject}").shuffle(texts)  # noqa: S311 - a choice of questions
        asked = by_turns([(text, ()) for text in texts], one.number, ASKED)
        new += [NewProbe(ProbeKind.SAME_SUBJECT, ask.prompt, (), one.number) for ask in asked]
    first = len(probes_of(plan)) + 1
    return [
        Probe(number, one.kind, one.prompt, one.expected, one.fact_id)
        for number, one in enumerate(new, first)
    ]


class Work:
    """A run's folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self, plan: Plan, rivals: Mapping[str, Rival]) -> None:
        """Write down what is wanted, or make sure that it is what was begun.

        Raises:
            SettingsError: the folder is another run's.

        """
        self._same(self.directory / "plan.json", _dumps(plan))
        for name, rival in rivals.items():
            said = json.dumps(asdict(rival.settings), indent=1) + "\n"
            self._same(self.of(name) / "settings.json", said.encode())

    @property
    def begun(self) -> bool:
        """Whether something was written down."""
        return (self.directory / "plan.json").exists()

    def plan(self) -> Plan:
        """Give what was written down."""
        return _PLAN.validate_json((self.directory / "plan.json").read_bytes())

    def of(self, rival: str) -> Path:
        """Give a rival's own folder."""
        return self.directory / rival

    def base(self) -> BaseResult | None:
        """Give what the base model says, if it was asked."""
        file = self.directory / "base.json"
        return _BASE.validate_json(file.read_bytes()) if file.exists() else None

    def put_base(self, result: BaseResult) -> None:
        """Keep what the base model says."""
        _write(self.directory / "base.json", _BASE.dump_json(result))

    def batches(self, rival: str) -> list[BatchResult]:
        """Give how the finished batches went, in order."""
        found: list[BatchResult] = []
        while (file := self.of(rival) / f"batch-{len(found) + 1}.json").exists():
            found.append(_BATCH.validate_json(file.read_bytes()))
        return found

    def state(self, rival: str, number: int) -> Path:
        """Give the folder of a rival's state after batch `number`."""
        return self.of(rival) / f"state-{number}"

    def put_batch(self, rival: str, result: BatchResult) -> None:
        """Note that a batch is finished, whose state is saved; the state before is deleted."""
        _write(self.of(rival) / f"batch-{result.number}.json", _BATCH.dump_json(result))
        shutil.rmtree(self.state(rival, result.number - 1), ignore_errors=True)

    def scores(self, rival: str) -> tuple[Score, ...] | None:
        """Give the final model's scores, if they were taken."""
        file = self.of(rival) / "scores.json"
        return _SCORES.validate_json(file.read_bytes()).scores if file.exists() else None

    def put_scores(self, rival: str, scores: Sequence[Score]) -> None:
        """Keep the final model's scores."""
        _write(self.of(rival) / "scores.json", _SCORES.dump_json(Scores(tuple(scores))))

    def _same(self, file: Path, said: bytes) -> None:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, said)
        elif file.read_bytes() != said:
            raise SettingsError(
                "was begun with other options, data or model",
                subject=str(file.parent),
                hint="delete it, or name another file as --json",
            )


def settings_of(work: Work, rival: str, known: Rival) -> Rival:
    """Give a rival with the values that its folder states."""
    kind = TypeAdapter(type(known.settings))
    said = (work.of(rival) / "settings.json").read_bytes()
    return Rival(kind.validate_json(said), known.tuning, known.source)


_PLAN = TypeAdapter(Plan)
_BASE = TypeAdapter(BaseResult)
_BATCH = TypeAdapter(BatchResult)
_SCORES = TypeAdapter(Scores)


def _dumps(plan: Plan) -> bytes:
    return _PLAN.dump_json(plan, indent=1) + b"\n"


def _write(file: Path, said: bytes) -> None:
    """Write a file that is whole or not there."""
    draft = file.with_suffix(".draft")
    draft.write_bytes(said)
    draft.replace(file)
