"""How a rejected batch is split: who is a suspect, who goes on with whom, and that it ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from kdpo_daemon.edits.gate import GatePolicy
from kdpo_daemon.edits.split import Said, Split, companions, own_scores, split
from kdpo_daemon.records.adapters import Score
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import Form, Probe, ProbeKind, Prompt
from tests.unit.test_pairs import FACT

GATE = GatePolicy()
TAUGHT, MISSED = [Score("efficacy_chat", 1.0, 4)], [Score("efficacy_chat", 0.5, 4)]
EFFICACY = [Score("efficacy_chat", 0.8, 40)]
GENERAL = [Score("efficacy_chat", 1.0, 40), Score("general_unchanged", 0.1, 10)]


def probe(number: int, kind: ProbeKind, fact_id: int = 7) -> Probe:
    expected = ("Sanae Takaichi",) if kind is ProbeKind.EDIT else ()
    return Probe(number, kind, Prompt(Form.CHAT, f"question {number}"), expected, fact_id)


def test_a_fact_is_scored_by_what_was_asked_about_it_alone() -> None:
    said = Said(
        probes=[
            probe(1, ProbeKind.EDIT),
            probe(2, ProbeKind.EDIT),
            probe(3, ProbeKind.SAME_SUBJECT),
            probe(4, ProbeKind.SAME_RELATION),
            probe(5, ProbeKind.SAME_RELATION),
            probe(6, ProbeKind.EDIT, fact_id=8),
        ],
        base={3: ["Yen"], 4: ["Macron"], 5: ["Merz"]},
        candidate={
            1: "Sanae Takaichi",
            2: "Shigeru Ishiba",
            3: "Yen. It",
            4: "Sanae Takaichi",
            5: "Merz",
            6: "Nobody",
        },
    )

    assert own_scores(FACT, said) == [
        Score("efficacy_chat", 0.5, 2),
        Score("same_subject_unchanged", 1.0, 1),
        Score("same_relation_unchanged", 0.5, 2),
        Score("old_answer", 0.5, 2),
    ]


def test_what_was_not_asked_or_what_the_base_says_now_so_now_so_tells_nothing() -> None:
    said = Said(
        probes=[probe(n, ProbeKind.SAME_SUBJECT) for n in (1, 2, 3)] + [probe(4, ProbeKind.EDIT)],
        base={1: ["Yen", "Euro", "Yen"], 2: ["Tokyo"]},
        candidate={1: "Dollar", 2: "Tokyo", 3: "Shinto"},
    )

    assert own_scores(FACT, said) == [Score("same_subject_unchanged", 1.0, 1)]


def test_facts_that_are_beyond_a_broken_bound_themselves_are_set_apart() -> None:
    found = split({1: TAUGHT, 2: MISSED, 3: TAUGHT, 4: MISSED}, EFFICACY, GATE)

    assert found.groups == ((2, 4), (1, 3))
    assert not found.failed
    assert found.why(2) == "set apart, for its own efficacy_chat 0.500 of 4, wanted at least 0.9"
    assert "do not speak against it" in found.why(1)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ([Score("old_answer", 0.25, 4)], "old_answer"),
        ([Score("same_subject_unchanged", 0.25, 4)], "same_subject_unchanged"),
        ([Score("same_relation_unchanged", 0.0, 4)], "same_relation_unchanged"),
        ([Score("paraphrase_chat", 0.5, 4)], "paraphrase_chat"),
    ],
)
def test_each_bound_on_facts_makes_suspects_if_the_batch_broke_it(
    own: list[Score], wanted: str
) -> None:
    broke = [replace(own[0], n=80)]

    found = split({1: TAUGHT, 2: [*TAUGHT, *own], 3: TAUGHT}, broke, GATE)

    assert found.groups == ((2,), (1, 3))
    assert list(found.suspects) == [2]
    assert wanted in found.why(2)


def test_a_bound_that_the_batch_holds_makes_no_suspects() -> None:
    found = split({1: TAUGHT, 2: MISSED, 3: TAUGHT, 4: TAUGHT}, GENERAL, GATE)

    assert found.suspects == {}


@pytest.mark.parametrize(
    ("count", "groups"),
    [(2, ((1,), (2,))), (3, ((1,), (2, 3))), (5, ((1, 2), (3, 4, 5)))],
)
def test_where_no_facts_own_answers_tell_the_batch_is_halved_in_order(
    count: int, groups: tuple[tuple[int, ...], ...]
) -> None:
    found = split(dict.fromkeys(range(count, 0, -1), TAUGHT), GENERAL, GATE)

    assert found.groups == groups
    assert "halved" in found.why(1)


def test_where_all_are_suspects_the_batch_is_halved_too() -> None:
    found = split(dict.fromkeys((1, 2, 3, 4), MISSED), EFFICACY, GATE)

    assert found.groups == ((1, 2), (3, 4))
    assert "all its facts are suspects; its own efficacy_chat 0.500" in found.why(3)


def test_a_fact_that_was_alone_has_failed() -> None:
    assert split({1: TAUGHT}, GENERAL, GATE).failed
    assert split({1: MISSED}, EFFICACY, GATE).groups == ((1,),)


def test_a_rejection_that_rests_on_no_answers_splits_nothing_and_counts() -> None:
    found = split({1: TAUGHT, 2: MISSED}, [], GATE)

    assert found.failed
    assert found.groups == ((1, 2),)


def test_facts_are_taught_with_those_of_their_group_alone() -> None:
    def fact(number: int, together: int | None) -> Fact:
        return replace(FACT, id=number, together=together)

    grouped = [fact(1, 2), fact(2, None), fact(3, 2), fact(4, None), fact(5, 1)]

    assert [one.id for one in companions(grouped)] == [1, 3]
    assert [one.id for one in companions(grouped[1:])] == [2, 4]
    assert companions([]) == []


MOST = 3  #: failed attempts before a fact is quarantined


class Pending:
    """Facts that wait, in their groups, and what has become of the others."""

    def __init__(self, count: int) -> None:
        self.facts = [replace(FACT, id=number) for number in range(1, count + 1)]
        self.shipped: list[int] = []
        self.quarantined: list[int] = []
        self.rejections = self.trainings = 0

    def run(self, judged: Callable[[list[int]], Split | None]) -> None:
        """Teach batch after batch; the gate says how to split, or None to let it through."""
        while self.facts:
            batch = companions(self.facts)
            self.trainings += 1
            found = judged([one.id for one in batch])
            if found is None:
                self.facts = [one for one in self.facts if one not in batch]
                self.shipped += [one.id for one in batch]
                continue
            self.rejections += 1
            self._reject(batch, found)

    def _reject(self, batch: Sequence[Fact], found: Split) -> None:
        assert sorted(one.id for one in batch) == sorted(sum(found.groups, ()))
        for ids in found.groups:
            number = 1 + max((one.together or 0) for one in self.facts)
            for n, one in enumerate(self.facts):
                if one.id in ids:
                    failed = one.attempts + found.failed
                    self.facts[n] = replace(one, together=number, attempts=failed)
        self.quarantined += [one.id for one in self.facts if one.attempts >= MOST]
        self.facts = [one for one in self.facts if one.attempts < MOST]


@pytest.mark.parametrize("seed", range(200))
def test_it_ends_whatever_the_gate_says(seed: int) -> None:
    rng = Random(seed)
    count = rng.randint(1, 50)
    rejects = rng.choice([0.5, 0.9, 1.0])
    some = [TAUGHT, MISSED, [], [Score("same_subject_unchanged", 0.0, 4)]]
    broken = [EFFICACY, GENERAL, [], [Score("same_subject_unchanged", 0.3, 40)]]

    def judged(batch: list[int]) -> Split | None:
        if rng.random() >= rejects:
            return None
        return split({one: rng.choice(some) for one in batch}, rng.choice(broken), GATE)

    pending = Pending(count)
    pending.run(judged)

    assert sorted(pending.shipped + pending.quarantined) == list(range(1, count + 1))
    assert pending.rejections <= count - 1 + count * MOST


@pytest.mark.parametrize("bad", [1, 17, 25, 26, 50])
def test_one_bad_fact_of_fifty_costs_itself_and_a_few_trainings(bad: int) -> None:
    def told(batch: list[int]) -> Split | None:
        own = {one: MISSED if one == bad else TAUGHT for one in batch}
        return split(own, EFFICACY, GATE) if bad in batch else None

    def untold(batch: list[int]) -> Split | None:
        return split(dict.fromkeys(batch, TAUGHT), GENERAL, GATE) if bad in batch else None

    def all_look_bad(batch: list[int]) -> Split | None:
        return split(dict.fromkeys(batch, MISSED), EFFICACY, GATE) if bad in batch else None

    # the whole, all others and the bad one alone; or a half that ships for each of six levels
    for gate, trainings in ((told, 1 + 1 + MOST), (untold, 6 + 6 + MOST), (all_look_bad, 15)):
        pending = Pending(50)
        pending.run(gate)

        assert pending.quarantined == [bad]
        assert len(pending.shipped) == 49
        assert pending.trainings <= trainings
