"""What becomes of a fact whose edit did not hold: another try later, or quarantine.  Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kdpo_daemon.records.facts import FactStatus


@dataclass(frozen=True)
class RetryPolicy:
    """How often a fact is tried."""

    max_attempts: int = 3  #: failed edits before a fact is quarantined
    wait_s: int = 600  #: before the first other try; doubled for each further one


def after_failure(
    attempts: int, policy: RetryPolicy, now: datetime
) -> tuple[FactStatus, datetime | None]:
    """Say what a fact becomes after its edit failed for the `attempts + 1`st time."""
    if attempts + 1 >= policy.max_attempts:
        return FactStatus.QUARANTINED, None
    return FactStatus.PENDING, next_try(attempts, policy, now)


def next_try(attempts: int, policy: RetryPolicy, now: datetime) -> datetime:
    """Say when there is another try after the `attempts + 1`st failure, however many there were.

    What must come to pass is tried for ever; from `max_attempts` on the wait grows no more.
    """
    return now + timedelta(seconds=policy.wait_s * 2 ** min(attempts, policy.max_attempts))
