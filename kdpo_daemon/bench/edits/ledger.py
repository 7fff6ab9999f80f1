"""Accepted facts of the operator's own database -> records.  Pure.

Each is taught and asked as the daemon does it: in the phrasings of its relation, and by the probes
that the gate would ask.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256

from kdpo_daemon.bench.edits.general import General
from kdpo_daemon.bench.edits.records import Question, Record
from kdpo_daemon.bench.edits.run import Source
from kdpo_daemon.edits.pairs import PlanPolicy
from kdpo_daemon.facts.relations import Pack
from kdpo_daemon.records.facts import Fact, FactStatus
from kdpo_daemon.records.teaching import ProbeKind, Prompt
from kdpo_daemon.stages.questions import Curriculum, Slots, left_by, probes_for

LEDGER = "ledger"  #: the form of a run about them
#: Facts that stand and that the base model does not know, as far as it was asked.
STANDING = (FactStatus.PENDING, FactStatus.PLANNED, FactStatus.LIVE, FactStatus.ROLLED_BACK)


def source_of(facts: Sequence[Fact], pack: Pack, policy: PlanPolicy, taken: Slots) -> Source:
    """Give facts whose relation is in the pack as what a run is about.

    `taken` are slots with facts of their own, whose answers may change.
    """
    known = [fact for fact in facts if fact.relation in pack.relations]
    records = [_record(fact, pack, policy, taken) for fact in known]
    said = json.dumps([asdict(one) for one in records], sort_keys=True)
    return Source(LEDGER, "accepted facts", sha256(said.encode()).hexdigest(), records)


def general_of(curriculum: Curriculum, text: str) -> General:
    """Give what the gate asks and reads besides facts."""
    asked = tuple(Question(one.prompt, one.expected) for one in curriculum.general_probes)
    return General(asked, keep=curriculum.general_keep, text=text, pairs=(), known=())


def _record(fact: Fact, pack: Pack, policy: PlanPolicy, taken: Slots) -> Record:
    probes = probes_for(fact, pack, policy, taken)

    def asked(kind: ProbeKind) -> tuple[Prompt, ...]:
        return tuple(one.prompt for one in probes if one.kind is kind)

    return Record(
        number=fact.id,
        subject=fact.subject,
        relation=fact.relation,
        role=fact.role,
        new=fact.object,
        old=fact.old_object,
        train=asked(ProbeKind.EDIT),
        held_out=asked(ProbeKind.PARAPHRASE),
        same_subject=tuple(map(Question, asked(ProbeKind.SAME_SUBJECT))),
        same_relation=tuple(map(Question, asked(ProbeKind.SAME_RELATION))),
        keep=tuple(left_by(fact, pack, taken)),
    )
