"""Entries that wait -> the claims that a model finds in them.  One transaction per entry.

The waiting is a row that was made with the entry.  An endpoint that is down or slow ends the run:
all entries wait on, the one that was asked about a little longer.  An answer that cannot be used
is the entry's own: it gets a few tries.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.facts import by_model
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.intake import WaitingEntry
from kdpo_daemon.serving.extractor import Extractor, is_about_the_entry
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import audit, extractions
from kdpo_daemon.store.db import Database

#: Unusable answers about one entry before it is given up.
_TRIES = 3
#: Seconds before the next try, after an unusable answer and after an endpoint that failed: the
#: next cycle then asks about another entry, for this one may be what it fails at.
_WAIT_S, _OUTAGE_S = 60, 300


@dataclass(frozen=True)
class ExtractStage:
    """The stage with what it works on."""

    db: Database
    extractor: Extractor
    pack: Pack
    clock: Clock
    progress: Progress

    def run(self) -> Report:
        """Read the entries whose time has come, until the endpoint fails."""
        with self.db.begin() as tx:
            due = extractions.waiting(tx, self.clock(), self.extractor.policy.per_cycle)
        counts: Counter[str] = Counter()
        problems: list[str] = []
        for done, waiting in enumerate(due):
            self.progress(f"reading {waiting.entry.title[:40]!r}", done, len(due))
            try:
                counts += self._read(waiting)
            except ReplicaError as error:
                problems.append(str(error))
                if not self._failed(waiting, error):
                    break
        return Report("extract", dict(counts), tuple(problems))

    def _read(self, waiting: WaitingEntry) -> Counter[str]:
        longest = self.extractor.policy.max_chars
        question = by_model.question(waiting.entry, self.pack, longest)
        answer = self.extractor.ask(question)
        name = self._name()
        claims, refused = by_model.judged(waiting.entry, answer, self.pack, longest, name)
        now = self.clock()
        with self.db.begin() as tx:
            if not extractions.finish(tx, waiting.id, name, claims, refused, now):
                return Counter()
            if claims or refused:
                detail: dict[str, object] = {"claims": len(claims), "refused": refused}
                audit.record(tx, name, "entry.read", f"entry:{waiting.id}", detail, now)
        return Counter(read=1, claims=len(claims), refused=len(refused))

    def _failed(self, waiting: WaitingEntry, error: ReplicaError) -> bool:
        """Put down a failure; tell whether the endpoint may be asked about other entries."""
        now, name = self.clock(), self._name()
        own = is_about_the_entry(error)
        with self.db.begin() as tx:
            if own and waiting.attempts + 1 >= _TRIES:
                extractions.give_up(tx, waiting.id, name, str(error), now)
                why = {"why": error.message}
                audit.record(tx, name, "entry.given_up", f"entry:{waiting.id}", why, now)
            else:
                until = now + timedelta(seconds=_WAIT_S if own else _OUTAGE_S)
                extractions.put_off(tx, waiting.id, str(error), until, failed=own)
        return own

    def _name(self) -> str:
        return by_model.version(self.extractor.model, self.pack)
