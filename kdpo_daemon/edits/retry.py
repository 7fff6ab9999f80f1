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
    return FactStatus.PENDING, now + timedelta(seconds=policy.wait_s * 2**attempts)
