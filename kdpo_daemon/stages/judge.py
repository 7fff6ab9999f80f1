"""A candidate -> scores and a verdict.

The candidate is loaded on one server under its own name, where no client asks for it, and is
asked every held-out probe there: what is judged is what would be served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kdpo_daemon.edits.gate import GatePolicy, judge
from kdpo_daemon.edits.scores import (
    LOCALITY,
    SENTENCE_STOPS,
    candidate_scores,
    cut_short,
    normalise,
    steady,
)
from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.records.adapters import Adapter, Score, Verdict, VerdictRuling
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Answer, AnswerPurpose, BatchStatus, Probe, ProbeKind
from kdpo_daemon.serving import Question, Replica
from kdpo_daemon.stages import Clock, Progress, Report
from kdpo_daemon.store import adapters, audit, batches, probes, revocations
from kdpo_daemon.store.db import Database, Session

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
            asked = judged_probes(tx, taught)
            gone = revoked_probes(probes.probes_of(tx, [f.id for f in revocations.due(tx)]), asked)
        self.check(adapter)
        self.replica.load(adapter.name, adapter.path)
        still = [probe for probe in asked if probe.kind in LOCALITY]
        before, after = self._answers(adapter, [*still, *gone], [*asked, *gone])
        unsteady = self._ask_again(adapter, asked, after)
        if unsteady:
            return self._not_steady(adapter, unsteady)
        old = {fact.id: fact.old_object for fact in taught}
        perplexity = self._perplexity(adapter)
        scores = [*candidate_scores(asked, before, after, old, gone), *perplexity]
        verdict = judge(scores, self.gate)
        if verdict.ruling is VerdictRuling.REJECT:
            # A probe that the base itself answers now so, now so may have spoken against the
            # candidate by chance: looked for only where that may have been decisive, since it
            # takes as long as to judge.  In another order: other questions share the batches.
            again = self._base_answers(still[::-1])
            asked = steady(asked, before, again)
            told = sum(probe.kind in LOCALITY for probe in asked)
            share = Score("steady", told / len(still) if still else 0.0, len(still))
            scores = [*candidate_scores(asked, before, after, old, gone), *perplexity, share]
            verdict = judge(scores, self.gate)
        return self._record(adapter, scores, verdict)

    def _answers(
        self, adapter: Adapter, still: Sequence[Probe], asked: Sequence[Probe]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Give the base's answers to what must be as it was, and the candidate's to all.

        What the base was asked before is known, and not asked again.
        """
        with self.db.begin() as tx:
            known = probes.answers(tx, [p.id for p in still], None, AnswerPurpose.BASE)
        missing = [probe for probe in still if probe.id not in known]
        # both at once: where one ends with a few long answers, the other keeps the server busy
        texts = self._said(
            f"asking {adapter.name}",
            [*_questions(self.base_name, missing), *_questions(adapter.name, asked)],
        )
        before, after = texts[: len(missing)], texts[len(missing) :]
        return (
            known | self._save(missing, before, None, AnswerPurpose.BASE),
            self._save(asked, after, adapter.id, AnswerPurpose.CANARY),
        )

    def _base_answers(self, asked: Sequence[Probe]) -> dict[int, str]:
        texts = self._said(f"asking {self.base_name}", _questions(self.base_name, asked))
        return self._save(asked, texts, None, AnswerPurpose.BASE)

    def _said(self, what: str, questions: Sequence[Question]) -> list[str]:
        def tell(done: int) -> None:
            self.progress(what, done, len(questions))

        tell(0)
        texts = self.replica.ask(questions, self.max_tokens, tell)
        short = [n for n, text in enumerate(texts) if questions[n].stops and cut_short(text)]
        whole = [replace(questions[n], stops=()) for n in short]
        for n, text in zip(short, self.replica.ask(whole, self.max_tokens), strict=True):
            texts[n] = text
        return texts

    def _save(
        self,
        asked: Sequence[Probe],
        texts: Sequence[str],
        adapter_id: int | None,
        purpose: AnswerPurpose,
    ) -> dict[int, str]:
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


def _questions(model: str, asked: Sequence[Probe]) -> list[Question]:
    """Ask for whole answers, or for first sentences where no more is compared."""
    return [
        Question(model, probe.prompt, SENTENCE_STOPS if probe.kind in LOCALITY else ())
        for probe in asked
    ]


def judged_probes(tx: Session, facts: Sequence[Fact]) -> list[Probe]:
    """Give all that is asked of a candidate which answers for these facts.

    Left out is a locality probe that is an edited fact's own question by now.
    """
    asked = [*probes.probes_of(tx, [fact.id for fact in facts]), *probes.general_probes(tx)]
    taught = {p.prompt for p in asked if p.kind not in LOCALITY}
    return [p for p in asked if p.kind not in LOCALITY or p.prompt not in taught]


def revoked_probes(of_revoked: Sequence[Probe], asked: Sequence[Probe]) -> list[Probe]:
    """Give the questions of revoked facts, but for those that are another fact's by now."""
    taught = {p.prompt for p in asked if p.kind not in LOCALITY}
    return [p for p in of_revoked if p.kind not in LOCALITY and p.prompt not in taught]
