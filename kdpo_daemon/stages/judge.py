"""A candidate -> scores and a verdict.

The candidate is loaded on one server under its own name, where no client asks for it, and is
asked every held-out probe there: what is judged is what would be served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdpo_daemon.edits.gate import GatePolicy, judge
from kdpo_daemon.edits.scores import LOCALITY, candidate_scores, normalise, steady
from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.records.adapters import Adapter, Score, Verdict, VerdictRuling
from kdpo_daemon.records.teaching import Answer, AnswerPurpose, BatchStatus, Probe, ProbeKind
from kdpo_daemon.serving import Replica
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import adapters, audit, batches, probes
from kdpo_daemon.store.db import Database

#: Taught questions that are asked a second time, and the share that must be answered alike: where
#: two words are as good as equal, an answer depends on what shares the batch.
_AGAIN, _AGREE = 24, 0.9
#: Times that a candidate may be asked twice and answer otherwise before it is rejected.
_UNSTEADY = "adapter.unsteady"
_MOST_UNSTEADY = 3


@dataclass(frozen=True)
class Judge:
    """The stage with what it works on."""

    db: Database
    replica: Replica  #: the canary: the first server
    base_name: str  #: the base model's name on the server
    check: Callable[[Adapter], None]  #: of a version's files, before it is loaded
    gate: GatePolicy
    text: str  #: for perplexity
    max_tokens: int
    clock: Clock
    progress: Progress

    def run(self) -> Report:
        """Judge the open batch's adapter, if it has one without a verdict."""
        with self.db.begin() as tx:
            batch = batches.open_batch(tx)
            if batch is None or batch.status is not BatchStatus.TRAINED:
                return Report("judge")
            adapter = adapters.adapter_of_batch(tx, batch.id)
            if adapter is None or adapters.verdict_of(tx, adapter.id) is not None:
                return Report("judge")
            taught = adapters.facts_in(tx, adapter.id)
            asked = judged_probes(
                [*probes.probes_of(tx, [f.id for f in taught]), *probes.general_probes(tx)]
            )
        self.check(adapter)
        self.replica.load(adapter.name, adapter.path)
        still = [probe for probe in asked if probe.kind in LOCALITY]
        before = self._base_answers(still)
        after = self._answers(adapter.name, adapter.id, asked, AnswerPurpose.CANARY)
        unsteady = self._ask_again(adapter, asked, after)
        if unsteady:
            return self._not_steady(adapter, unsteady)
        old = {fact.id: fact.old_object for fact in taught}
        perplexity = self._perplexity(adapter)
        scores = [*candidate_scores(asked, before, after, old), *perplexity]
        verdict = judge(scores, self.gate)
        if verdict.ruling is VerdictRuling.REJECT:
            # A probe that the base itself answers now so, now so may have spoken against the
            # candidate by chance: looked for only where that may have been decisive, since it
            # takes as long as to judge.  In another order: other questions share the batches.
            again = self._answers(self.base_name, None, still[::-1], AnswerPurpose.BASE)
            asked = steady(asked, before, again)
            told = sum(probe.kind in LOCALITY for probe in asked)
            share = Score("steady", told / len(still) if still else 0.0, len(still))
            scores = [*candidate_scores(asked, before, after, old), *perplexity, share]
            verdict = judge(scores, self.gate)
        return self._record(adapter, scores, verdict)

    def _base_answers(self, asked: Sequence[Probe]) -> dict[int, str]:
        """Give the base model's answers as they are known, asking for those that are not."""
        with self.db.begin() as tx:
            known = probes.answers(tx, [p.id for p in asked], None, AnswerPurpose.BASE)
        missing = [probe for probe in asked if probe.id not in known]
        return known | self._answers(self.base_name, None, missing, AnswerPurpose.BASE)

    def _answers(
        self, model: str, adapter_id: int | None, asked: Sequence[Probe], purpose: AnswerPurpose
    ) -> dict[int, str]:
        def tell(done: int) -> None:
            self.progress(f"asking {model}", done, len(asked))

        tell(0)
        texts = self.replica.answer(model, [p.prompt for p in asked], self.max_tokens, tell)
        said = {probe.id: text for probe, text in zip(asked, texts, strict=True)}
        rows = [Answer(probe_id, text) for probe_id, text in said.items()]
        with self.db.begin() as tx:
            probes.save_answers(tx, rows, adapter_id, self.replica.name, purpose, self.clock())
        return said

    def _ask_again(self, adapter: Adapter, asked: Sequence[Probe], said: dict[int, str]) -> str:
        """Ask taught questions a second time: a cache must not hold another version's answers.

        Gives what speaks against the candidate, or "".
        """
        taught = [probe for probe in asked if probe.kind is ProbeKind.EDIT]
        taught = taught[:: max(1, len(taught) // _AGAIN)][:_AGAIN]
        texts = self.replica.answer(adapter.name, [p.prompt for p in taught], self.max_tokens)
        same = sum(
            normalise(t) == normalise(said[p.id]) for p, t in zip(taught, texts, strict=True)
        )
        if same >= _AGREE * len(taught):
            return ""
        otherwise = f"{len(taught) - same} of {len(taught)} questions otherwise"
        return f"asked again, {adapter.name} answers {otherwise}"

    def _not_steady(self, adapter: Adapter, why: str) -> Report:
        """Have the candidate judged again, or reject it if it was never steady."""
        subject = f"adapter:{adapter.name}"
        with self.db.begin() as tx:
            before = sum(one.event == _UNSTEADY for one in audit.events(tx, subject=subject))
            audit.record(tx, "gate", _UNSTEADY, subject, {"reason": why}, self.clock())
        if before + 1 >= _MOST_UNSTEADY:
            return self._record(adapter, [], Verdict(VerdictRuling.REJECT, (why,)))
        raise ReplicaError(
            why,
            subject=self.replica.name,
            hint="its cache may mix versions up; it is judged again at the next cycle",
        )

    def _perplexity(self, adapter: Adapter) -> list[Score]:
        base = self.replica.perplexity(self.base_name, self.text)
        now = self.replica.perplexity(adapter.name, self.text)
        words = len(self.text.split())
        return [Score("perplexity_ratio", now / base, words), Score("perplexity", now, words)]

    def _record(self, adapter: Adapter, scores: list[Score], verdict: Verdict) -> Report:
        now = self.clock()
        policy = {name: float(value) for name, value in vars(self.gate).items()}
        with self.db.begin() as tx:
            adapters.save_scores(tx, adapter.id, scores)
            adapters.save_verdict(tx, adapter.id, verdict, "gate", policy, now)
            detail: dict[str, object] = {
                "ruling": verdict.ruling.value,
                "reasons": list(verdict.reasons),
            }
            audit.record(tx, "gate", "adapter.judged", f"adapter:{adapter.name}", detail, now)
        return Report("judge", {verdict.ruling.value: 1})


def judged_probes(asked: Sequence[Probe]) -> list[Probe]:
    """Leave out a locality probe that is an edited fact's own question by now."""
    taught = {p.prompt for p in asked if p.kind not in LOCALITY}
    return [p for p in asked if p.kind not in LOCALITY or p.prompt not in taught]
