"""Facts that a person revoked, and what teaches them still."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.facts import TAUGHT, Fact, FactStatus
from kdpo_daemon.store import adapters, deployments
from kdpo_daemon.store.facts import facts_with, stand_again
from kdpo_daemon.store.rows import found, record_of
from kdpo_daemon.store.tables import AdapterFactRow, AdapterRow, FactRow


def revoke(tx: Session, fact_id: int, reason: str, now: datetime) -> Fact:
    """End a fact that versions teach; what it had replaced stands again.

    Raises:
        StoreError: nothing teaches it, or it has ended already.

    """
    kept = tx.get(FactRow, fact_id, populate_existing=True, with_for_update=True)
    row = found(kept, f"fact:{fact_id}")
    # one that failed, or waits for another try, may be taught by a version nevertheless
    _refuse_folded(tx, fact_id)
    ended = row.status in (FactStatus.SUPERSEDED, FactStatus.REVOKED)
    if ended or (row.status not in TAUGHT and fact_id not in deployments.facts_wanted(tx)):
        raise StoreError(
            f"is {row.status.value}; a fact can be revoked while a version teaches it",
            subject=f"fact:{fact_id}",
            hint=_remedy(row),
        )
    row.status, row.reason, row.changed_at = FactStatus.REVOKED, reason, now
    row.attempts, row.not_before = 0, None
    stand_again(tx, fact_id, now)
    return record_of(Fact, row)


def _refuse_folded(tx: Session, fact_id: int) -> None:
    """Refuse a fact that is in the model's own weights: no version takes it out of them."""
    wanted = deployments.wanted(tx)
    if wanted and any(fact.id == fact_id for fact in adapters.folded(tx, wanted.adapter.id)):
        raise StoreError(
            "is folded into the model",
            subject=f"fact:{fact_id}",
            hint="set [model] path and [serving] adapters to what they were before the fold"
            " (docs/serving.md); then revoke it, and fold again",
        )


def due(tx: Session) -> list[Fact]:
    """Give the revoked facts that the wanted version teaches still, oldest first."""
    wanted = deployments.facts_wanted(tx)
    return [fact for fact in facts_with(tx, FactStatus.REVOKED) if fact.id in wanted]


def postpone(tx: Session, not_before: Mapping[int, datetime]) -> None:
    """Put down that a version without some revoked facts failed, and when it is tried again."""
    for row in tx.exec(select(FactRow).where(col(FactRow.id).in_(not_before))):
        row.not_before = not_before[row.id]
        row.attempts += 1
    tx.flush()


def among(tx: Session, fact_ids: Collection[int]) -> list[int]:
    """Give those of some facts that are revoked."""
    return [fact.id for fact in facts_with(tx, FactStatus.REVOKED) if fact.id in fact_ids]


def taught_by(tx: Session) -> dict[int, list[str]]:
    """Name, by revoked fact, the versions that teach it and are wanted or answer somewhere."""
    wanted = deployments.wanted(tx)
    in_use = {*deployments.serving(tx), *([wanted.adapter.id] if wanted else [])}
    rows = tx.exec(
        select(AdapterFactRow.fact_id, AdapterRow.name)
        .join(AdapterRow, col(AdapterRow.id) == AdapterFactRow.adapter_id)
        .join(FactRow, col(FactRow.id) == AdapterFactRow.fact_id)
        .where(FactRow.status == FactStatus.REVOKED, col(AdapterRow.id).in_(in_use))
        .order_by(col(AdapterRow.id))
    )
    names: dict[int, list[str]] = defaultdict(list)
    for fact_id, name in rows:
        names[fact_id].append(name)
    return dict(names)


def told(fact: Fact, taught: Mapping[int, Sequence[str]]) -> str:
    """Give a fact's reason, and what teaches it still; `taught` is what `taught_by` gave."""
    if fact.id not in taught:
        return fact.reason
    tries = f", failed tries without it: {fact.attempts}" if fact.attempts else ""
    return f"{fact.reason}; taught still by {', '.join(taught[fact.id])}{tries}"


def _remedy(row: FactRow) -> str:
    if row.status is FactStatus.REVOKED:
        return "It stays so; `kdpo facts list` says which version teaches it still"
    if row.status is FactStatus.SUPERSEDED and row.superseded_by:
        return (
            f"fact:{row.superseded_by} takes its place; end that first if neither holds,"
            f" with `kdpo facts revoke` or `kdpo facts reject`"
        )
    if row.status is FactStatus.SUPERSEDED:
        return "It has ended already; see `kdpo facts show`"
    return f"No version that is wanted teaches it: `kdpo facts reject fact:{row.id}` ends it"
