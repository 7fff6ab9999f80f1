"""The pipe, one verb each; every stage reads, decides, acts outside any transaction, and writes.

    feeds      | ingest | entries, claims
    entries    | extract | claims, by a model
    claims     | accept | facts
    facts      | plan   | probes, answers, pairs, a batch
    batch      | train  | an adapter
    adapter    | judge  | scores, a verdict
    verdict    | deploy | a deployment, or facts for another try
    deployment | sync   | what every server serves

Each stage is idempotent: killed anywhere and run again, it goes on where it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

#: Reads the clock; handed to stages because they take long.
Clock = Callable[[], datetime]

#: Told of progress in a long step: what, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Report:
    """What one run of a stage did, as counts, and what went wrong with single things."""

    stage: str
    counts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not any(self.counts.values()) and not self.problems
