"""Pending facts -> probes, the model's answers today, preference pairs, a batch.

The served model is asked first: what it already knows is not edited.  A batch teaches again what
the wanted version teaches, but not what was revoked; that alone is reason enough for one.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from kdpo_daemon.edits.pairs import (
    ByPhrasing,
    PlanPolicy,
    Prior,
    Tokens,
    by_phrasing,
    pair,
    prior,
    replayed,
)
from kdpo_daemon.edits.split import companions
from kdpo_daemon.errors import StoreError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import (
    Answer,
    AnswerPurpose,
    KeepPrompt,
    Pair,
    Probe,
    ProbeKind,
    Prompt,
)
from kdpo_daemon.serving import Replica
from kdpo_daemon.stages import Clock, Progress, Report, revoke
from kdpo_daemon.stages.questions import Curriculum, Slots, few_taught, keep_prompts, probes_for
from kdpo_daemon.stages.ranks import Ranks
from kdpo_daemon.store import (
    adapters,
    audit,
    batches,
    claims,
    deployments,
    facts,
    probes,
    revocations,
)
from kdpo_daemon.store.db import Database

A = TypeVar("A")
B = TypeVar("B")

#: Requests to the server under way at once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Plan:
    """The stage with what it works on."""

    db: Database
    replica: Replica
    alias: str  #: the model name that clients use; asked what it says today
    end_token: int  #: ends a plain completion
    curriculum: Curriculum
    policy: PlanPolicy
    ranks: Ranks
    clock: Clock
    progress: Progress

    def run(self) -> Report:
        """Plan the next batch, unless one is under way or there is no reason for one."""
        now = self.clock()
        with self.db.begin() as tx:
            under_way = batches.open_batch(tx)
            pending = facts.pending_facts(tx, now, self.policy.batch_size)
            revoked = revocations.due(tx)
        if under_way is not None:
            return Report("plan")
        late = [_late(fact) for fact in revoked if fact.attempts]
        due = [fact for fact in revoked if fact.not_before is None or fact.not_before <= now]
        if any(fact.attempts for fact in due):
            pending = []  # by itself now: it may have been a new fact that was in the way
        if not pending and not due:
            return Report("plan", problems=tuple(late))
        report = self._plan(pending, revoked, due=bool(due))
        return replace(report, problems=(*late, *report.problems))

    def _plan(self, pending: Sequence[Fact], revoked: Sequence[Fact], *, due: bool) -> Report:
        """Plan a batch of pending facts; `due`: one without what was revoked is, even if bare."""
        known_relations = self.curriculum.pack.relations
        teachable = [fact for fact in pending if fact.relation in known_relations]
        problems = [
            f"{fact.subject}: relation {fact.relation} is in no pack any more; add it again"
            for fact in pending
            if fact not in teachable
        ]
        teachable = companions(teachable)
        asked = self._save_probes(teachable)
        unknown = self._drop_known(teachable, asked, _slots(revoked))
        counts = {"known": len(teachable) - len(unknown)}
        if unknown or due:
            made, more = self._make_batch(unknown, asked, due=due)
            problems += more
            counts["batches"] = int(made)
            if due and not made:
                counts["taken back"] = int(revoke.bare(self.db, self.clock))
        return Report("plan", counts, tuple(problems))

    def _save_probes(self, pending: Sequence[Fact]) -> list[Probe]:
        new = [*self.curriculum.general_probes]
        with self.db.begin() as tx:
            taken = facts.slots(tx)
            for fact in pending:
                new += probes_for(fact, self.curriculum.pack, self.policy, taken)
            saved = probes.save_probes(tx, new, self.clock())
        return [probe for probe in saved if probe.kind in (ProbeKind.EDIT, ProbeKind.PARAPHRASE)]

    def _drop_known(
        self, pending: Sequence[Fact], asked: Sequence[Probe], emptied: frozenset[claims.SlotKey]
    ) -> list[Fact]:
        """Ask the served model about each fact; set aside the facts that it knows.

        In slots that are `emptied` it may know them from a revoked fact only, for as long as that
        is served.
        """
        asked = few_taught(asked)

        def tell(done: int) -> None:
            self.progress("asking the served model", done, len(asked))

        tell(0)
        prompts = [probe.prompt for probe in asked]
        texts = self.replica.answer(self.alias, prompts, self.policy.max_tokens, tell)
        said = {probe.id: text for probe, text in zip(asked, texts, strict=True)}
        now = self.clock()
        unknown: list[Fact] = []
        with self.db.begin() as tx:
            wanted = deployments.wanted(tx)
            adapter_id = wanted.adapter.id if wanted else None
            rows = [Answer(probe_id, text) for probe_id, text in said.items()]
            probes.save_answers(tx, rows, adapter_id, self.replica.name, AnswerPurpose.PRIOR, now)
            for fact in pending:
                answers = [said[probe.id] for probe in asked if probe.fact_id == fact.id]
                found = prior(answers, fact, self.policy.known_share)
                detail: dict[str, object] = {"prior": found.value}
                audit.record(tx, "daemon", "fact.probed", f"fact:{fact.id}", detail, now)
                if found is Prior.NEW and not _slots([fact]) <= emptied:
                    reason = "the served model already answers with it"
                    facts.set_fact_status(tx, [fact.id], FactStatus.KNOWN, reason, now)
                else:
                    unknown.append(fact)
        return unknown

    def _make_batch(
        self, unknown: Sequence[Fact], asked: Sequence[Probe], *, due: bool
    ) -> tuple[bool, list[str]]:
        """Save a batch of what is unknown and what must stay; `due`: of the latter alone, too.

        Gives whether there is one, and what cannot be taught.
        """
        with self.db.begin() as tx:
            wanted = deployments.wanted(tx)
            replays = adapters.taught_again(tx, wanted.adapter.id) if wanted else []
            again = probes.probes_of(tx, [fact.id for fact in replays])
            ground = wanted.adapter.batch_id if wanted else None
            before = batches.pairs_of(tx, ground) if ground else []
            taken = facts.slots(tx)
        new_pairs, refused = self._pairs(unknown, asked)
        self._quarantine(refused)
        problems = [
            f"{fact.subject}, {fact.relation}: {refused[fact.id]}"
            for fact in unknown
            if fact.id in refused
        ]
        new_pairs, waiting = self.ranks.hold(self.db, unknown, new_pairs, self.clock)
        problems += waiting
        if new_pairs or (due and replays):
            old_pairs, _ = self._pairs(replays, again, by_phrasing(before))
            goes = {one.fact_id for one in new_pairs}
            keep = self._keep([f for f in unknown if f.id in goes], replays, taken)
            why_not = self._save(
                [*new_pairs, *old_pairs], keep, wanted.adapter if wanted else None
            )
            return not why_not, [*problems, *why_not]
        return False, problems

    def _quarantine(self, refused: Mapping[int, str]) -> None:
        now = self.clock()
        with self.db.begin() as tx:
            for fact_id, why in refused.items():
                facts.set_fact_status(tx, [fact_id], FactStatus.QUARANTINED, why, now)
                detail: dict[str, object] = {"reason": why}
                audit.record(tx, "daemon", "fact.quarantined", f"fact:{fact_id}", detail, now)

    def _save(
        self, pairs: list[Pair], keep: list[KeepPrompt], ground: Adapter | None
    ) -> list[str]:
        """Save the batch.  Gives why not, if what it builds on is no longer wanted."""
        now = self.clock()
        with self.db.begin() as tx:
            standing = deployments.standing(tx)
            if standing and (ground is None or standing.adapter.id != ground.id):
                return [f"{standing.adapter.name} is wanted by now; the batch is planned anew"]
            ids = {one.fact_id for one in pairs}
            if gone := revocations.among(tx, ids):
                return [f"fact:{gone[0]} is revoked by now; the batch is planned anew"]
            parent_id = ground.id if ground and ground.batch_id else None
            batch = batches.save_batch(tx, parent_id, self.policy.seed, pairs, keep, now)
            leaked = batches.overlap(tx, batch.id)
            if leaked:
                raise StoreError(
                    f"held-out probes would enter training: {leaked[:3]}",
                    subject=batch.adapter_name,
                    hint="take these prompts out of the pack's train and keep phrasings",
                )
            new = sorted({one.fact_id for one in pairs if not one.replay})
            replayed = sorted({one.fact_id for one in pairs if one.replay})
            detail: dict[str, object] = {"facts": new, "replayed": replayed}
            audit.record(tx, "daemon", "batch.planned", f"batch:{batch.adapter_name}", detail, now)
        return []

    def _pairs(
        self, taught: Sequence[Fact], asked: Sequence[Probe], before: ByPhrasing | None = None
    ) -> tuple[list[Pair], dict[int, str]]:
        """Give the pairs of every taught phrasing, and the facts that cannot be taught.

        `before` are those of a version that is built on, if the facts are in it.
        """
        by_id = {fact.id: fact for fact in taught}
        wanted = [p for p in asked if p.kind is ProbeKind.EDIT and p.fact_id in by_id]

        def one(probe: Probe) -> Pair:
            return self._pair(by_id[probe.fact_id or 0], probe.prompt, before)

        made = self._each("finding negatives", one, wanted)
        longest = self.policy.max_object_tokens
        refused = {
            one.fact_id: f"the object takes {len(one.chosen_ids) - 1} tokens, at most {longest}"
            for one in made
            if len(one.chosen_ids) - 1 > longest
        }
        return [one for one in made if one.fact_id not in refused], refused

    def _pair(self, fact: Fact, prompt: Prompt, before: ByPhrasing | None) -> Pair:
        def target(text: str) -> tuple[int, ...]:
            return self.replica.tokenize_target(prompt, text, self.end_token)

        tokens = Tokens(
            prompt=self.replica.tokenize(prompt),
            chosen=target(fact.object),
            old=target(fact.old_object) if fact.old_object else (),
        )
        if again := replayed(before or {}, fact, prompt, tokens):
            return again
        forced = self.replica.forced(self.alias, tokens.prompt, tokens.chosen)
        return pair(fact, prompt, tokens, forced, replay=before is not None)

    def _keep(
        self, new: Sequence[Fact], replays: Sequence[Fact], taken: Slots
    ) -> list[KeepPrompt]:
        prompts = keep_prompts(new, replays, taken, self.curriculum, self.policy)

        def one(prompt: Prompt) -> KeepPrompt:
            return KeepPrompt(prompt, self.replica.tokenize(prompt))

        return self._each("collecting prompts to keep", one, prompts)

    def _each(self, what: str, act: Callable[[A], B], over: Sequence[A]) -> list[B]:
        """Act on each through several connections, in order, telling the progress."""
        done: list[B] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for result in pool.map(act, over):
                done.append(result)
                self.progress(what, len(done), len(over))
        return done


def _slots(some: Sequence[Fact]) -> frozenset[claims.SlotKey]:
    """Give the slots of some facts."""
    return frozenset(claims.slot_key(fact.subject, fact.relation) for fact in some)


def _late(fact: Fact) -> str:
    again = f"{fact.not_before:%Y-%m-%d %H:%M} UTC" if fact.not_before else "now"
    return (
        f"fact:{fact.id} ({fact.subject}, {fact.relation}) is revoked and served still;"
        f" failed tries to make a version without it: {fact.attempts}, next: {again}"
    )
