"""Nothing served yet, or another base model -> a version that belongs to this one is wanted.

Version 0 changes nothing: it gives clients the alias from the first day and a rollback its last
resort, the model as it was.  A model into which a version was folded has a version 0 of its own,
which answers for the folded facts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.model_dir import folded_in
from kdpo_daemon.orders import MANIFEST
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import FactStatus
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.stages.rollback import give_up_open_batch
from kdpo_daemon.stages.train import BaseModel
from kdpo_daemon.store import adapters, audit, deployments, facts, revocations
from kdpo_daemon.store.db import Database, Session
from kdpo_daemon.tuner import Tuner


@dataclass(frozen=True)
class _New:
    """A version 0 that is to be made."""

    name: str
    facts: Sequence[int]  #: that the model says by itself
    reason: str


def run(
    db: Database,
    tuner: Tuner,
    base: Callable[[], BaseModel],
    adapters_dir: Path,
    fencing: int,
    clock: Clock,
) -> Report:
    """Want a version that was made for this model, unless one is wanted already.

    Raises:
        SettingsError: the versions on record are of another model, and none is folded into this.

    """
    model = base()
    with db.begin() as tx:
        wanted = deployments.wanted(tx)
        if wanted and adapters.base_of(tx, wanted.adapter.id) == model.sha256:
            return Report("baseline")
        there = _wanted_last(tx, model.sha256)
        new = None if there else _new(tx, model)
        _refuse_revoked(tx, new.facts if new else _folded(tx, there), model)
    published = (
        tuner.baseline(model.directory, model.sha256, adapters_dir, clock(), new.name)
        if new
        else None
    )
    with db.begin() as tx:
        if new and published:
            path, now = published.path, clock()
            manifest = (path / MANIFEST).read_text("utf-8")
            digest, ids = published.manifest_sha256, new.facts
            there = adapters.save_adapter(
                tx, new.name, str(path), manifest, digest, None, None, ids, now
            )
        reason = new.reason if new else "the model is again the one that it was made for"
        if there:
            _want(tx, there, reason, fencing, clock)
    return Report("baseline", {"adapters": 1})


def _wanted_last(tx: Session, sha256: str) -> Adapter | None:
    """Give the version for a model that was wanted last."""
    for one in deployments.list_deployments(tx):
        if not one.adapter.deleted_at and adapters.base_of(tx, one.adapter.id) == sha256:
            return one.adapter
    return None


def _new(tx: Session, model: BaseModel) -> _New:
    known = adapters.list_adapters(tx)
    if not known:
        return _New("kdpo-000000", (), "first start: the model as it is")
    folded = folded_in(model.directory)
    ours = [one for one in known if folded and one.manifest_sha256 == folded.manifest_sha256]
    if not ours:
        raise SettingsError(
            "is another model than the versions here were made for",
            subject=f"model.path = {model.directory}",
            hint="name that one, or one that a version was folded into (`kdpo fold`); any other"
            " wants a new database and a new adapters directory",
        )
    zeros = 6 + sum(one.batch_id is None for one in known)  # names stay short, and differ
    told = [fact.id for fact in adapters.facts_in(tx, ours[0].id)]
    return _New(f"kdpo-{0:0{zeros}}", told, f"{ours[0].name} is folded into the model")


def _folded(tx: Session, version: Adapter | None) -> list[int]:
    return [fact.id for fact in adapters.folded(tx, version.id)] if version else []


def _refuse_revoked(tx: Session, folded: Sequence[int], model: BaseModel) -> None:
    if gone := revocations.among(tx, folded):
        raise SettingsError(
            f"says fact:{gone[0]} by itself, which was revoked",
            subject=f"model.path = {model.directory}",
            hint="name the model before the fold, and fold a version without it (docs/serving.md)",
        )


def _want(tx: Session, target: Adapter, reason: str, fencing: int, clock: Clock) -> None:
    """Want a version; what was taught for another model and is not in it is taught again."""
    now, before = clock(), deployments.facts_wanted(tx)
    give_up_open_batch(tx, reason, clock)
    deployments.deploy(tx, target.id, "daemon", reason, fencing, now)
    lost = [
        fact.id
        for status in (FactStatus.LIVE, FactStatus.PLANNED)
        for fact in facts.facts_with(tx, status)
        if fact.id in before - deployments.facts_wanted(tx)
    ]
    why = f"{target.name}, of another model, does not teach it"
    facts.set_fact_status(tx, lost, FactStatus.PENDING, why, now)
    detail: dict[str, object] = {"why": reason, "taught again": lost}
    audit.record(tx, "daemon", "deployment.wanted", f"adapter:{target.name}", detail, now)
