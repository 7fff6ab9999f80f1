"""The World Factbook's history, polled week by week over HTTP, and what intake made of it.

Runs the daemon's own Ingest and Accept on an empty database, and compares with random samples
of the changes that were labelled by hand (`data/`).  Trains nothing.
"""

import statistics
import time
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from kdpo_daemon import packs
from kdpo_daemon.bench.factbook import History, Week, document, read_history
from kdpo_daemon.bench.labels import Change, agreement, by_change, outcome_of, read_labels
from kdpo_daemon.bench.server import Site
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.records.intake import FeedKind, Ruling, Trust
from kdpo_daemon.records.stories import Evidence
from kdpo_daemon.stages import Progress
from kdpo_daemon.stages.accept import Accept
from kdpo_daemon.stages.ingest import Ingest
from kdpo_daemon.store import feeds, stories
from kdpo_daemon.store.db import Database

_FEED = "factbook"
#: Weeks at the start and at the end whose median cost is compared.
_WEEKS = 20


@dataclass(frozen=True)
class WeekCost:
    """What one week's poll of all documents cost."""

    day: str
    requests: int
    changed: int  #: documents that were not answered with 304
    ingest_s: float
    accept_s: float


def run(
    folder: Path, database: Path, progress: Progress, further: Path | None = None
) -> dict[str, object]:
    """Replay `folder`/factbook and give the numbers, ready for JSON.

    Args:
        folder: laid out as docs/intake.md says.
        database: the SQLite file to make; it must not exist yet.
        progress: told where the replay is.
        further: labels besides the shipped ones.

    """
    history = read_history(folder / "factbook")
    pack = read_pack([packs.text(name) for name in packs.RELATIONS])
    db = Database(f"sqlite:///{database}")
    db.upgrade()
    try:
        costs = _replay(db, history, pack, progress)
        with db.begin() as tx:
            claims = stories.claims_with_evidence(tx)
    finally:
        db.dispose()
    labels = [
        one
        for one in read_labels(further)
        if (one.date, one.path, one.relation) in history.recorded
    ]
    found = by_change(claims)
    outcomes = [outcome_of(label, found, pack) for label in labels]
    return {
        "replay": {
            "documents": len(history.paths),
            "weeks": len(costs),
            "changes": len(history.recorded),
            "labelled": len(labels),
            "claims": dict(Counter(ruling.value for ruling, _ in claims)),
        },
        "samples": {
            name: asdict(agreement(outcomes, name))
            for name in dict.fromkeys(label.sample for label in labels)
        },
        "not_right": [asdict(one) for one in outcomes if one.verdict in ("missed", "wrong")],
        "cost": {
            "start": _cost(costs[:_WEEKS]),
            "end": _cost(costs[-_WEEKS:]),
            "growth_ms_per_week": _growth(costs),
        },
        "weeks": [asdict(cost) for cost in costs],
        "claims": [_told(change, *ruled) for change, ruled in found.items()],
        "unseen": sorted(history.recorded - found.keys()),
    }


def _told(change: Change, ruling: Ruling, said: Evidence) -> dict[str, str]:
    return {
        "day": change[0],
        "path": change[1],
        "subject": said.claim.subject,
        "relation": said.claim.relation,
        "old": said.claim.old_object,
        "new": said.claim.object,
        "quote": said.claim.quote,
        "ruling": ruling.value,
        "reason": said.reason,
    }


# ---------------------------------------------------------------- the replay


def _replay(db: Database, history: History, pack: Pack, progress: Progress) -> list[WeekCost]:
    texts = dict(history.first)
    with Site() as site:
        _add_feed(db, history, site.url("{value}.json"))
        _publish(site, history.paths, texts)
        baseline = Week(history.weeks[0].day, {})
        costs = []
        for place, week in enumerate((baseline, *history.weeks)):
            texts.update(week.texts)
            _publish(site, {path.removesuffix(".json") for path, _ in week.texts}, texts)
            progress(f"week of {week.day}", place, len(history.weeks) + 1)
            costs.append(_poll(db, site, week, pack))
    return costs[1:]


def _add_feed(db: Database, history: History, url: str) -> None:
    mapping = tomllib.loads(packs.text("mappings/factbook.toml"))
    options = {key: mapping[key] for key in ("subject", "relations")}
    with db.begin() as tx:
        feeds.add_feed(
            tx,
            _FEED,
            url,
            Trust.AUTO,
            3600,
            True,
            history.weeks[0].at,
            FeedKind.SNAPSHOT,
            options | {"values": history.paths},
        )


def _publish(site: Site, names: Collection[str], texts: Mapping[tuple[str, str], str]) -> None:
    for name in names:
        site.publish(f"{name}.json", document(f"{name}.json", texts))


def _poll(db: Database, site: Site, week: Week, pack: Pack) -> WeekCost:
    asked, sent = site.asked, site.sent
    ingest = Ingest(
        db=db,
        policy=FetchPolicy(),
        pack=pack,
        clock=lambda: week.at,
        rng=Random(0),  # noqa: S311 - jitter of a poll
        progress=lambda _what, _done, _of: None,
    )
    began = time.monotonic()
    report = ingest.run(_FEED)
    between = time.monotonic()
    Accept(db, pack, AcceptancePolicy(), lambda: week.at).run()
    if report.problems:
        raise RuntimeError(report.problems[0])
    return WeekCost(
        day=str(week.day),
        requests=site.asked - asked,
        changed=site.sent - sent,
        ingest_s=between - began,
        accept_s=time.monotonic() - between,
    )


# ---------------------------------------------------------------- the numbers


def _growth(weeks: Sequence[WeekCost]) -> float | None:
    """Give by how many milliseconds a week costs more than the one before (least squares)."""
    if len(weeks) < _WEEKS:
        return None
    seconds = [week.ingest_s + week.accept_s for week in weeks]
    return 1000 * statistics.linear_regression(range(len(weeks)), seconds).slope


def _cost(weeks: Sequence[WeekCost]) -> dict[str, float]:
    return {
        "weeks": len(weeks),
        "requests": statistics.median(week.requests for week in weeks),
        "changed": statistics.median(week.changed for week in weeks),
        "ingest_s": statistics.median(week.ingest_s for week in weeks),
        "accept_s": statistics.median(week.accept_s for week in weeks),
    }
