"""A rejected batch -> the groups in which its facts are tried again.  Pure.

Where facts' own answers are beyond a bound that the batch broke, these are set apart; where that
tells nothing, the batch is halved.  It ends: a batch becomes two smaller groups that nothing
joins, which n facts can n - 1 times at most, or each of its facts has failed once more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kdpo_daemon.edits.gate import GatePolicy, broken
from kdpo_daemon.edits.scores import LOCALITY, candidate_scores, unchanged
from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Probe


@dataclass(frozen=True)
class Said:
    """What was asked about the facts of a batch, and answered."""

    probes: Sequence[Probe]
    base: Mapping[int, Sequence[str]]  #: every different answer of the base model, by probe id
    candidate: Mapping[int, str]  #: by probe id


@dataclass(frozen=True)
class Split:
    """What becomes of the facts of a rejected batch."""

    groups: tuple[tuple[int, ...], ...]  #: one group: the batch cannot be told apart further
    suspects: Mapping[int, tuple[str, ...]]  #: what speaks against facts, by their own answers

    @property
    def failed(self) -> bool:
        """Whether this counts as a failed attempt of each fact."""
        return len(self.groups) == 1

    def why(self, fact_id: int) -> str:
        """Say why a fact is tried again with those of its group."""
        lines = "; ".join(self.suspects.get(fact_id, ()))
        if len(self.suspects) == sum(map(len, self.groups)):
            return f"the batch is halved, for all its facts are suspects; its own {lines}"
        if lines:
            return f"set apart, for its own {lines}"
        if self.suspects:
            return "its own answers do not speak against it, suspects are set apart"
        return "the batch is halved, for no fact's own answers tell what did it"


def own_scores(fact: Fact, said: Said) -> list[Score]:
    """Score a candidate by what was asked about one fact; what rests on no answers is left out."""

    def tells(probe: Probe) -> bool:
        if probe.fact_id != fact.id or probe.id not in said.candidate:
            return False
        return probe.kind not in LOCALITY or _steady(said.base.get(probe.id, ()))

    asked = [probe for probe in said.probes if tells(probe)]
    before = {probe_id: texts[-1] for probe_id, texts in said.base.items()}
    old = {fact.id: fact.old_object}
    return [one for one in candidate_scores(asked, before, said.candidate, old) if one.n]


def split(
    own: Mapping[int, Sequence[Score]], scores: Sequence[Score], policy: GatePolicy
) -> Split:
    """Decide which facts of a rejected batch are tried again together.

    Bounds that the batch holds as a whole make no suspects: single facts are often beyond them,
    and would go on to fail for what the gate has nothing against.

    Args:
        own: each new fact's scores by its own answers.
        scores: those of the batch.
        policy: the bounds.

    """
    ids = sorted(own)
    broke = broken(scores, policy)
    if not broke:  # rejected without a measurement: nothing is known about any fact
        return Split((tuple(ids),), {})
    against = {fact_id: _against(own[fact_id], broke, policy) for fact_id in ids}
    suspects = {fact_id: lines for fact_id, lines in against.items() if lines}
    return Split(_parts(ids, suspects), suspects)


def companions(facts: Sequence[Fact]) -> list[Fact]:
    """Give the first fact, and those of the others that may be taught with it."""
    return [one for one in facts if one.together == facts[0].together]


def _against(own: Sequence[Score], broke: Collection[str], policy: GatePolicy) -> tuple[str, ...]:
    return tuple(line for name, line in broken(own, policy).items() if name in broke)


def _parts(ids: Sequence[int], suspects: Collection[int]) -> tuple[tuple[int, ...], ...]:
    if not 0 < len(suspects) < len(ids):
        suspects = ids[: len(ids) // 2]
    apart = tuple(one for one in ids if one in suspects)
    rest = tuple(one for one in ids if one not in suspects)
    return tuple(part for part in (apart, rest) if part)


def _steady(texts: Sequence[str]) -> bool:
    """Tell whether the base model was asked, and always answered alike."""
    return bool(texts) and all(unchanged(texts[0], text) for text in texts)
