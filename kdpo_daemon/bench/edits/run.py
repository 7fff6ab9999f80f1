"""A run of `kdpo bench edits`: a process for each rival, one after the other, and its result.

Loads no torch.
"""

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import metadata
from os import cpu_count
from pathlib import Path

from kdpo_daemon import __version__
from kdpo_daemon.bench.edits.draw import draw
from kdpo_daemon.bench.edits.forms import DataForm, read_records
from kdpo_daemon.bench.edits.general import General
from kdpo_daemon.bench.edits.offices import read_offices
from kdpo_daemon.bench.edits.plan import Plan, Work
from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.report import headline, interval
from kdpo_daemon.bench.edits.settings import BASE, Rival
from kdpo_daemon.child import Child, TunerPolicy
from kdpo_daemon.edits.pairs import PlanPolicy
from kdpo_daemon.errors import KdpoError, TuningError
from kdpo_daemon.model_dir import model_sha256
from kdpo_daemon.records.adapters import Score

_COMMAND = (sys.executable, "-m", "kdpo_daemon.bench.edits.rivals")
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy")
#: A rival may take days on a small machine; seconds.
_DEADLINE_S = 30 * 86400.0
#: One fact of a slow rival, or one group of answers, gives a sign of life; seconds.
_HEARTBEAT_S = 3600.0

#: Told which rival does what, and how many of how many are done.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Source:
    """Where the facts of a run are from."""

    form: str
    name: str
    sha256: str
    records: Sequence[Record]


@dataclass(frozen=True)
class Wanted:
    """The options of a run that decide which of the facts are taught, and to what."""

    edits: int
    batch: int
    seed: int
    model: Path
    threads: int


def read_source(data: Path, form: DataForm) -> Source:
    """Read a file of edits.  SettingsError if it cannot be."""
    records = read_offices(data) if form is DataForm.FACTBOOK else read_records(data, form)
    return Source(form, data.name, sha256(data.read_bytes()).hexdigest(), records)


def make_plan(wanted: Wanted, source: Source, general: General) -> Plan:
    """Draw the edits.  SettingsError if there are not so many."""
    return Plan(
        form=source.form,
        data_name=source.name,
        data_sha256=source.sha256,
        model_dir=wanted.model.resolve(),
        model_sha256=model_sha256(wanted.model),
        batch=wanted.batch,
        seed=wanted.seed,
        threads=wanted.threads,
        max_tokens=PlanPolicy().max_tokens,
        records=tuple(draw(source.records, wanted.edits, wanted.seed)),
        general=general,
    )


def run(
    work: Work, plan: Plan, rivals: Mapping[str, Rival], progress: Progress
) -> dict[str, object]:
    """Do what is left of a run, and give its result.

    Raises:
        TuningError: a rival's process failed; what was finished before is kept.
        SettingsError: the work folder is another run's.

    """
    work.begin(plan, rivals)
    if work.base() is None:
        _process(work, BASE, progress)
    for name in rivals:
        if work.scores(name) is None:
            _process(work, name, progress)
    return result(work, plan, rivals)


def result(work: Work, plan: Plan, rivals: Mapping[str, Rival]) -> dict[str, object]:
    """Give everything that a finished run says, ready for JSON."""
    base = work.base()
    return {
        "benchmark": "edits",
        "form": plan.form,
        "data": plan.data_name,
        "data_sha256": plan.data_sha256,
        "model": plan.model_dir.name,
        "model_sha256": plan.model_sha256,
        "edits": len(plan.records),
        "batch": plan.batch,
        "seed": plan.seed,
        "machine": _machine(plan.threads, base.device if base else ""),
        "versions": _versions(),
        "rivals": {name: _rival(work, name, rival) for name, rival in rivals.items()},
    }


def _process(work: Work, name: str, progress: Progress) -> None:
    child = Child(TunerPolicy(deadline_s=_DEADLINE_S, heartbeat_s=_HEARTBEAT_S, niceness=0))

    def on_line(said: dict[str, object]) -> None:
        if "doing" in said:
            progress(name, str(said["doing"]), int(str(said["done"])), int(str(said["of"])))

    log = work.directory / f"{name}.log"
    ended = child.run([*_COMMAND, str(work.directory.resolve()), name], name, log, on_line)
    if ended.code != 0:
        raise TuningError(
            str(ended.last.get("error") or ended.why),
            subject=name,
            hint="the same command goes on after what is finished",
        )
    log.unlink()


def _rival(work: Work, name: str, rival: Rival) -> dict[str, object]:
    batches = work.batches(name)
    scores = work.scores(name) or ()
    edits = sum(one.edits for one in batches)
    return {
        "settings": asdict(rival.settings),
        "tuning": rival.tuning,
        "source": rival.source,
        "seconds_per_edit": sum(one.seconds for one in batches) / edits,
        "peak_mb": max(one.peak_mb for one in batches),
        "peak_gpu_mb": max(one.peak_gpu_mb for one in batches),
        "refused": [number for one in batches for number in one.refused],
        "scores": {one.name: _shown(one) for one in (*scores, *headline(scores, batches))},
        "batches": [asdict(one) for one in batches],
    }


def _shown(score: Score) -> dict[str, object]:
    low, high = interval(score)
    return {"value": score.value, "n": score.n, "low": low, "high": high}


def _machine(threads: int, device: str) -> dict[str, object]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cpu_count(),
        "threads": threads or "as many as torch takes",
        "device": device,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [one.split(":", 1)[1].strip() for one in lines if one.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    found = {"kdpo_daemon": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise KdpoError("is not installed", subject=name) from error
    return found
