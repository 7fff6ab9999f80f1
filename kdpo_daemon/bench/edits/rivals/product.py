"""`kdpo`: the product, through its own training child, as the daemon's stages use it.

A batch becomes an order: pairs of the new facts, pairs of those taught before as replays, and
prompts to keep; the adapter of the batch before is the parent.  What the plan stage asks a vLLM
server, this asks the same model in this process.  Facts that the model may know already are
taught all the same, so that all rivals teach the same.
"""

import json
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel

from kdpo_daemon.app import clock
from kdpo_daemon.bench.edits.plan import lent_of, probes_of
from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench, Editor
from kdpo_daemon.child import TunerPolicy
from kdpo_daemon.edits.pairs import PlanPolicy, Tokens, kept, pair
from kdpo_daemon.orders import Order, Recipe, read_order
from kdpo_daemon.processor import prefers_float32
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import KeepPrompt, Pair, Prompt
from kdpo_daemon.tuner import OrderRefusedError, Published, Tuner
from kdpo_daemon.tuner import Progress as Step

#: No batch of a benchmark takes longer; seconds.
_DEADLINE_S = 24 * 3600.0


class Product(Editor):
    """Has the daemon's training child make an adapter from each batch."""

    def __init__(self, bench: Bench, recipe: Recipe) -> None:
        super().__init__(bench)
        self._recipe, self._policy = recipe, PlanPolicy()
        self._tuner = Tuner(TunerPolicy(deadline_s=_DEADLINE_S, niceness=0))
        self._adapter: Path | None = None
        self._made = 0
        self._refused: set[int] = set()
        self._child_mb = self._child_gpu_mb = 0.0

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Train an adapter; facts that the child refuses are left out, as the daemon does."""
        self._made += 1
        published = self._published(batch, before)
        if published:
            self._wear(published.path)
            self._child_gpu_mb = published.scores.gpu_mb
        kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self._child_mb = kilobytes / 1024
        return tuple(sorted(self._refused & {one.number for one in batch}))

    def save(self, directory: Path) -> None:
        """Name the adapter, which stays where it is."""
        form = {
            "made": self._made,
            "adapter": self._adapter.name if self._adapter else None,
            "refused": sorted(self._refused),
        }
        (directory / "adapter.json").write_text(json.dumps(form), "utf-8")

    def load(self, directory: Path) -> None:
        """Put on the adapter that is named."""
        form = json.loads((directory / "adapter.json").read_text("utf-8"))
        self._made, self._refused = form["made"], set(form["refused"])
        if form["adapter"]:
            self._wear(self._adapters / form["adapter"])

    def peak_mb(self) -> float | None:
        """Give the training child's peak; this process stands in for the server."""
        return self._child_mb

    def peak_gpu_mb(self) -> float | None:
        """Give what the training child told."""
        return self._child_gpu_mb

    @property
    def _adapters(self) -> Path:
        # the child is given whole paths
        return (self.bench.folder / "adapters").resolve()

    @property
    def _orders(self) -> Path:
        return self.bench.folder / "orders"

    def _published(self, batch: Sequence[Record], before: Sequence[Record]) -> Published | None:
        """Train, each time without what was refused; None if nothing is left."""
        while True:
            new = [one for one in batch if one.number not in self._refused]
            old = [one for one in before if one.number not in self._refused]
            order = self._order(new, old)
            if not any(not one.replay for one in order.pairs):
                return None
            try:
                return self._tuner.train(order, self._orders, self._adapters, clock(), self._tell)
            except OrderRefusedError as error:
                if not error.fact_ids:
                    raise
                self._refused |= set(error.fact_ids)

    def _order(self, new: Sequence[Record], old: Sequence[Record]) -> Order:
        pairs = [*self._pairs(new), *self._replays(old)]
        plan = self.bench.plan
        return Order(
            name=f"kdpo-{self._made:06d}",
            base_dir=plan.model_dir,
            base_sha256=plan.model_sha256,
            parent_dir=self._adapter,
            recipe=self._recipe,
            seed=plan.seed + self._made,
            threads=plan.threads,
            pairs=tuple(one for one in pairs if one.fact_id not in self._refused),
            keep=tuple(self._keep(new, old)),
        )

    def _pairs(self, records: Sequence[Record]) -> list[Pair]:
        """Give every taught phrasing against what the model says now; notes what is too long."""
        asked = [(one, prompt) for one in records for prompt in one.train]
        lessons = [self.model.lesson(prompt, one.new) for one, prompt in asked]
        with _as_served():
            forced = self.model.forced(lessons)
        made = []
        for (record, prompt), lesson, seen in zip(asked, lessons, forced, strict=True):
            if len(lesson.target) - 1 > self._policy.max_object_tokens:
                self._refused.add(record.number)
            old = self.model.target(prompt, record.old) if record.old else ()
            tokens = Tokens(lesson.prompt, lesson.target, old)
            made.append(pair(fact_of(record), prompt, tokens, seen, replay=False))
        return made

    def _replays(self, records: Sequence[Record]) -> list[Pair]:
        """Give the pairs by which records were taught."""
        if self._adapter is None:
            return []
        taught = {one.number for one in records}
        before = read_order(self._orders / self._adapter.name).pairs
        return [replace(one, replay=True) for one in before if one.fact_id in taught]

    def _keep(self, new: Sequence[Record], old: Sequence[Record]) -> list[KeepPrompt]:
        """Choose prompts as the plan stage does; none of them judges."""
        plan = self.bench.plan
        judged = {probe.prompt for probe in (*probes_of(plan), *lent_of(plan))}
        special = prompts_of([*new, *old], judged)
        subjects = [one.subject for one in new]
        prompts = kept(special, plan.general.keep, subjects, self._policy, plan.seed)
        return [KeepPrompt(prompt, self.model.ids(prompt)) for prompt in prompts]

    def _wear(self, adapter: Path) -> None:
        """Let the model answer with an adapter in place of the one before."""
        if self._adapter is not None:
            self.model.net = self.model.net.unload()
        self.model.net = PeftModel.from_pretrained(self.model.net, adapter).eval()
        self._adapter = adapter

    def _tell(self, step: Step) -> None:
        self.bench.tell(step.step, step.of)


def _as_served() -> torch.autocast:
    """Within, the model computes in what a server on this CPU would, for who need not compare."""
    return torch.autocast("cpu", torch.bfloat16, enabled=not prefers_float32())


def fact_of(record: Record) -> Fact:
    """Give a record as the fact that the daemon would have accepted."""
    return Fact(
        id=record.number,
        subject=record.subject,
        relation=record.relation,
        role=record.role,
        object=record.new,
        old_object=record.old,
        valid_from=None,
        observed_at=clock(),
        status=FactStatus.PENDING,
        reason="of a benchmark",
    )


def prompts_of(taught: Sequence[Record], judged: set[Prompt]) -> list[Prompt]:
    """Give the prompts that records bring to be left alone, without those that judge."""
    return [one for record in taught for one in record.keep if one not in judged]
