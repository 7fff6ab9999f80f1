"""Nothing served yet -> version 0, an adapter that changes nothing.

It gives clients the alias from the first day and a rollback its last resort: the model as it was.
"""

from collections.abc import Callable
from pathlib import Path

from kdpo_daemon.orders import MANIFEST
from kdpo_daemon.stages import Clock, Report
from kdpo_daemon.stages.train import BaseModel
from kdpo_daemon.store import adapters, audit, deployments
from kdpo_daemon.store.db import Database
from kdpo_daemon.tuner import Tuner


def run(
    db: Database,
    tuner: Tuner,
    base: Callable[[], BaseModel],
    adapters_dir: Path,
    fencing: int,
    clock: Clock,
) -> Report:
    """Make and want version 0, unless some version is wanted already."""
    with db.begin() as tx:
        if deployments.wanted(tx) is not None:
            return Report("baseline")
    model = base()
    published = tuner.baseline(model.directory, model.sha256, adapters_dir, clock())
    name = published.path.name
    manifest = (published.path / MANIFEST).read_text("utf-8")
    now = clock()
    with db.begin() as tx:
        adapter = adapters.save_adapter(
            tx, name, str(published.path), manifest, published.manifest_sha256, None, None, [], now
        )
        reason = "first start: the model as it is"
        deployments.deploy(tx, adapter.id, "daemon", reason, fencing, now)
        audit.record(tx, "daemon", "deployment.wanted", f"adapter:{name}", {"why": reason}, now)
    return Report("baseline", {"adapters": 1})
