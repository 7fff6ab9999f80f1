"""The rank of the version to come, before it is trained: facts that servers would refuse wait.

No server tells the greatest rank that it takes, so `[serving] max_rank` says it, which `kdpo
doctor` tries out; a server that answers with the version before takes at least that one's.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kdpo_daemon.edits.placement import (
    SHARED,
    Ground,
    Taken,
    cueing_below,
    marking_below,
    rank_in_neurons,
    rank_in_rows,
    too_many,
)
from kdpo_daemon.model_dir import shape_of
from kdpo_daemon.orders import SLOTS, Method, Recipe, neuron_layers
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import Form, Pair
from kdpo_daemon.serving.remedies import MAX_RANKS, enough_rank
from kdpo_daemon.stages import Clock
from kdpo_daemon.store import adapters, audit, batches, deployments, facts
from kdpo_daemon.store.db import Database, Session

#: Until facts that did not fit are looked at again: meanwhile others may go, that take no rank.
_WAIT = timedelta(minutes=10)

_Rank = Callable[[Sequence[Pair]], int]


@dataclass(frozen=True)
class Ranks:
    """What decides the rank of a version, and which is served."""

    most: int  #: the servers' --max-lora-rank
    recipe: Recipe
    model: Path  #: the base model's directory

    def hold(
        self, db: Database, new: Sequence[Fact], pairs: Sequence[Pair], clock: Clock
    ) -> tuple[list[Pair], list[str]]:
        """Let new facts wait that do not fit beside what the wanted version teaches.

        Those that come first go first.  Gives the pairs of those that go, and what to tell.
        """
        with db.begin() as tx:
            ordered = [pair for fact in new for pair in pairs if pair.fact_id == fact.id]
            waits, most = self._too_many(tx, ordered)
            why = {fact_id: _why(rank, most) for fact_id, rank in waits.items()}
            _put(tx, [fact for fact in new if fact.id in why], why, clock())
        told = [f"facts that wait: {len(why)}; {min(why.values())}"] if why else []
        return [pair for pair in pairs if pair.fact_id not in why], told

    def _too_many(self, tx: Session, new: Sequence[Pair]) -> tuple[dict[int, int], int]:
        """Give the facts that do not fit with the rank each would take, and the greatest."""
        wanted = deployments.wanted(tx)
        if wanted is None:
            return {}, self.most
        before = wanted.adapter
        known = batches.pairs_of(tx, before.batch_id) if before.batch_id else []
        again = {fact.id for fact in adapters.taught_again(tx, before.id)}
        rank = self._rank(Path(before.path), adapters.folded(tx, before.id))
        if rank is None:
            return {}, self.most
        most = max(self.most, enough_rank(adapters.manifest_of(tx, before.id)["scores"]["rank"]))
        return too_many(new, [one for one in known if one.fact_id in again], rank, most), most

    def _rank(self, parent: Path, folded: Sequence[Fact]) -> _Rank | None:
        """Give what tells the rank of a version that builds on one; None where nothing does."""
        kept = _kept(parent)
        if kept is None:
            return None
        if self.recipe.method is Method.ROWS:
            slots = {(one["subject"], Form(one["form"])) for one in kept.get("slots", ())}
            return lambda pairs: rank_in_rows(slots, pairs)
        shape = shape_of(self.model)
        if shape is None:
            return None
        layers = tuple(neuron_layers(self.recipe, shape.depth, marked=shape.marked))
        marking, cueing = _below(shape.carrier, layers[0])
        taken = {_layer(name): _taken(one) for name, one in kept.get("neurons", {}).items()}
        ids = {fact.id for fact in folded}
        if taken.keys() <= {*marking, *cueing, *layers}:
            ids |= set(kept.get("facts", ()))
        else:
            taken = {}  # kept in other layers: all is taught anew
        ground = Ground(layers, marking, cueing, taken, frozenset(ids))
        return lambda pairs: rank_in_neurons(ground, pairs)


def _below(carrier: int | None, later: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the layers that mark and that cue; none without a carrier."""
    return ((), ()) if carrier is None else (marking_below(carrier), cueing_below(later, carrier))


def _put(tx: Session, some: Sequence[Fact], why: Mapping[int, str], now: datetime) -> None:
    for fact in some:
        reason, later = why[fact.id], now + _WAIT
        facts.set_fact_status(tx, [fact.id], FactStatus.PENDING, reason, now, not_before=later)
        if fact.reason != reason:
            detail: dict[str, object] = {"reason": reason}
            audit.record(tx, "daemon", "fact.waits", f"fact:{fact.id}", detail, now)


def _why(rank: int, most: int) -> str:
    start = f"start the servers with --max-lora-rank {enough_rank(rank)} and say so there, or "
    more = start if rank <= MAX_RANKS[-1] else ""
    return (
        f"with it a version takes rank {rank}, and servers take {most} as far as is known"
        f" ([serving] max_rank): {more}fold what is taught into the model"
        " (`kdpo fold`, docs/serving.md)"
    )


def _kept(adapter: Path) -> dict[str, Any] | None:
    """Give what a version keeps where; None where it does not say."""
    try:
        found: dict[str, Any] = json.loads((adapter / SLOTS).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _taken(form: Any) -> Taken:
    if isinstance(form, list):  # of an older version, that did not note whose they are
        return Taken((SHARED,) * len(form))
    return Taken(tuple(form["owners"]), form.get("repairs", 0))


def _layer(name: str) -> int:
    """Give the number in a module's name, `model.layers.20.mlp`."""
    return next(int(part) for part in name.split(".") if part.isdigit())
