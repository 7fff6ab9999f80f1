"""Which adapter is wanted, what the replicas are at, and who answered with what, when."""

from datetime import datetime

from sqlmodel import Session, col, func, select

from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import Deployment, ReplicaState, ReplicaStatus, Served
from kdpo_daemon.store.adapters import facts_in, get_adapter
from kdpo_daemon.store.db import DEPLOY_LOCK, lock
from kdpo_daemon.store.rows import record_of
from kdpo_daemon.store.tables import AdapterRow, DeploymentRow, ReplicaRow, ServedRow


def deploy(  # noqa: PLR0913 one argument per column
    tx: Session,
    adapter_id: int,
    actor: str,
    reason: str,
    fencing: int,
    now: datetime,
    *,
    pinned: bool | None = None,
) -> Deployment:
    """Make an adapter the wanted one; a rollback is the same with an earlier adapter.

    `pinned` None leaves that as it is.  Gives the deployment there is when nothing would change.
    """
    standing = wanted(tx)
    before = bool(standing and standing.pinned)
    after = before if pinned is None else pinned
    if standing and standing.adapter.id == adapter_id and before == after:
        return standing
    adapter = get_adapter(tx, adapter_id)
    row = DeploymentRow(
        adapter_id=adapter.id,
        actor=actor,
        reason=reason,
        fencing=fencing,
        created_at=now,
        pinned=after,
    )
    tx.add(row)
    tx.flush()
    return record_of(Deployment, row, adapter=adapter)


def wanted(tx: Session) -> Deployment | None:
    """Give the newest deployment: what all replicas should answer with."""
    return next(iter(list_deployments(tx, limit=1)), None)


def facts_wanted(tx: Session) -> frozenset[int]:
    """Give the facts that the wanted version teaches."""
    newest = wanted(tx)
    taught = facts_in(tx, newest.adapter.id) if newest else []
    return frozenset(fact.id for fact in taught)


def standing(tx: Session) -> Deployment | None:
    """Give what is wanted; nobody else can want another version until the transaction ends.

    For those who decide by it: the gate must not promote in the moment of a `kdpo freeze`.
    """
    lock(tx, DEPLOY_LOCK)
    return wanted(tx)


def former(tx: Session, deployment: Deployment) -> Adapter | None:
    """Give the version that was wanted before this deployment's."""
    for one in list_deployments(tx):
        if one.id < deployment.id and one.adapter.id != deployment.adapter.id:
            return one.adapter
    return None


def earlier(tx: Session, deployment: Deployment) -> Adapter | None:
    """Give the older version that was wanted last: where a rollback without a name leads."""
    for one in list_deployments(tx):
        if one.adapter.id < deployment.adapter.id and not one.adapter.deleted_at:
            return one.adapter
    return None


def list_deployments(tx: Session, limit: int | None = None) -> list[Deployment]:
    """Give deployments, newest first."""
    rows = tx.exec(select(DeploymentRow).order_by(col(DeploymentRow.id).desc()).limit(limit))
    return [record_of(Deployment, row, adapter=get_adapter(tx, row.adapter_id)) for row in rows]


def set_replica(
    tx: Session, name: str, url: str, state: ReplicaStatus, error: str, now: datetime
) -> None:
    """Put down how far a replica is.  That it takes traffic is put down by `mark_live`."""
    row = _replica_row(tx, name, now)
    row.url, row.state, row.error, row.checked_at = url, state, error, now
    tx.flush()


def replicas(tx: Session) -> list[ReplicaState]:
    """Give all replicas by name."""
    rows = tx.exec(select(ReplicaRow).order_by(ReplicaRow.name))
    return [record_of(ReplicaState, row) for row in rows]


def mark_live(
    tx: Session, replica: str, deployment: Deployment, now: datetime, url: str = ""
) -> bool:
    """Put down that a replica answers with a deployment from now on, and no more with another.

    Tells whether that is news.
    """
    row = _replica_row(tx, replica, now)
    row.state, row.error, row.checked_at = ReplicaStatus.LIVE, "", now
    row.url, row.deployment_id = url or row.url, deployment.id
    standing = _open_interval(tx, replica)
    if standing and standing.adapter_id == deployment.adapter.id:
        return False  # wanted again, pinned or let go: the same answers go on
    if standing:
        standing.live_until = now
        tx.flush()  # first, so that no replica ever has two open intervals
    tx.add(
        ServedRow(
            replica=replica,
            deployment_id=deployment.id,
            adapter_id=deployment.adapter.id,
            live_from=now,
        )
    )
    tx.flush()
    return True


def is_live(tx: Session, deployment: Deployment) -> bool:
    """Tell whether any replica has been brought to a deployment."""
    here = select(ReplicaRow.id).where(ReplicaRow.deployment_id == deployment.id)
    return tx.exec(here.limit(1)).first() is not None


def mark_gone(tx: Session, replica: str, now: datetime) -> None:
    """Put down that a replica is no longer there, and answers with nothing from now on."""
    row = _replica_row(tx, replica, now)
    row.state, row.error, row.checked_at = ReplicaStatus.ABSENT, "", now
    row.deployment_id = None
    standing = _open_interval(tx, replica)
    if standing:
        standing.live_until = now
    tx.flush()


def serving_at(tx: Session, replica: str) -> Adapter | None:
    """Give the version that a replica answers with, as far as is known."""
    standing = _open_interval(tx, replica)
    return get_adapter(tx, standing.adapter_id) if standing else None


def answering(tx: Session) -> Adapter | None:
    """Give the version that a replica was moved to last, of those that any answers with."""
    query = select(ServedRow.adapter_id).where(col(ServedRow.live_until).is_(None))
    newest = query.order_by(col(ServedRow.live_from).desc(), col(ServedRow.id).desc())
    found = tx.exec(newest).first()
    return None if found is None else get_adapter(tx, found)


def served(tx: Session, limit: int | None = None) -> list[Served]:
    """Give the intervals in which replicas answered with adapters, newest first."""
    rows = tx.exec(
        select(ServedRow, AdapterRow.name)
        .join(AdapterRow, col(ServedRow.adapter_id) == AdapterRow.id)
        .order_by(col(ServedRow.live_from).desc(), col(ServedRow.id).desc())
        .limit(limit)
    )
    return [record_of(Served, row, adapter=adapter) for row, adapter in rows]


def serving(tx: Session) -> frozenset[int]:
    """Give the adapters that replicas answer with, as far as is known."""
    rows = select(ServedRow.adapter_id).where(col(ServedRow.live_until).is_(None)).distinct()
    return frozenset(tx.exec(rows))


def served_until(tx: Session, adapter_id: int) -> datetime | None:
    """Give when the last replica that answered with an adapter was moved to another."""
    ends = select(func.max(ServedRow.live_until)).where(ServedRow.adapter_id == adapter_id)
    return tx.exec(ends).one()


def _open_interval(tx: Session, replica: str) -> ServedRow | None:
    standing = select(ServedRow).where(ServedRow.replica == replica)
    return tx.exec(standing.where(col(ServedRow.live_until).is_(None))).first()


def _replica_row(tx: Session, name: str, now: datetime) -> ReplicaRow:
    row = tx.exec(select(ReplicaRow).where(ReplicaRow.name == name)).first()
    if row is None:
        row = ReplicaRow(name=name, url="", state=ReplicaStatus.ABSENT, checked_at=now)
        tx.add(row)
        tx.flush()
    return row
