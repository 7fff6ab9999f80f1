"""Changes of office holders in the World Factbook -> records.

They are read and put into phrasings by the product's own rules and packs, so that a fact is
taught here as the daemon would teach it.  Reads `changes.jsonl`; draws no subset.
"""

from datetime import UTC, date, datetime
from pathlib import Path

from kdpo_daemon import packs
from kdpo_daemon.bench.edits.forms import ASKED, DataForm, Line, read_lines
from kdpo_daemon.bench.edits.records import Question, Record
from kdpo_daemon.edits.scores import normalise
from kdpo_daemon.facts import asking
from kdpo_daemon.facts.claims import claim_of
from kdpo_daemon.facts.relations import Pack, read_pack
from kdpo_daemon.records.intake import RawFact

#: field of the file -> relation
_OFFICES = {"chief_of_state": "head_of_state", "head_of_government": "head_of_government"}


def read_offices(file: Path) -> list[Record]:
    """Give the last change of each office, where old and new holder can be told apart."""
    pack = read_pack([packs.text(name) for name in packs.RELATIONS])
    last: dict[tuple[str, str], tuple[str, Record]] = {}
    for line in read_lines(file, DataForm.FACTBOOK):
        if line.text("field") not in _OFFICES:
            continue
        day, record = line.text("date"), _read(line, pack)
        slot = (line.text("path"), line.text("field"))
        if record and (slot not in last or last[slot][0] <= day):
            last[slot] = day, record
    return sorted((record for _, record in last.values()), key=lambda one: one.number)


def _read(line: Line, pack: Pack) -> Record | None:
    """Read one change; None if it names nobody for sure, or only spells a name otherwise."""
    try:
        day = date.fromisoformat(line.text("date"))
    except ValueError as error:
        line.refuse(f"`date` is not a day ({error})")
    raw = RawFact(
        subject=line.text("country"),
        relation=_OFFICES[line.text("field")],
        new=" ".join(line.texts("new")),
        old=" ".join(line.texts("old")),
    )
    claim = claim_of(raw, datetime(day.year, day.month, day.day, tzinfo=UTC), pack)
    sure = claim.object and claim.old_object and not claim.note
    if not sure or normalise(claim.object) == normalise(claim.old_object):
        return None
    relation = pack.relations[claim.relation]
    subject, role = claim.subject, claim.role
    other = asking.same_subject(pack, relation, subject, role, ASKED)
    near = asking.neighbours(pack, relation, subject, role, ASKED, ())
    return Record(
        number=line.number,
        subject=subject,
        relation=relation.name,
        role=role,
        new=claim.object,
        old=claim.old_object,
        train=tuple(asking.taught(relation, subject, role)),
        held_out=tuple(asking.held_out(relation, subject, role)),
        same_subject=tuple(Question(prompt) for prompt in other),
        same_relation=tuple(Question(prompt) for prompt in near),
        keep=tuple(asking.keep_prompts(pack, relation, subject, role)),
    )
