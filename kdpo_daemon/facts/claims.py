"""Entries -> claims: what an entry asserts, in clean words.

Pure.  Entries of feeds, lines and posts take the same path.  Reads only what an entry says
explicitly (see docs/feed-format.md); does not extract facts from free text.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from kdpo_daemon.facts.dates import read_date
from kdpo_daemon.facts.names import (
    Reading,
    read_changed_part,
    read_holder,
    read_plain,
    same_holder,
)
from kdpo_daemon.facts.quantities import read_quantity
from kdpo_daemon.facts.relations import Pack, ValueKind
from kdpo_daemon.facts.spelling import same_value
from kdpo_daemon.facts.titles import split_titles
from kdpo_daemon.facts.versions import read_version
from kdpo_daemon.records.intake import Claim, Entry, RawFact

_READERS = {
    ValueKind.HOLDER: read_holder,
    ValueKind.QUANTITY: read_quantity,
    ValueKind.VERSION: read_version,
}


def claims_of(entry: Entry, pack: Pack) -> list[Claim]:
    """Give the claims of an entry: one if it carries a fact, else none."""
    return [claim_of(entry.fact, entry.published_at, pack)] if entry.fact else []


def claim_of(fact: RawFact, published_at: datetime | None, pack: Pack) -> Claim:
    """Give a fact in clean words; without a date of its own it holds since the publication."""
    new, old = _read(fact, pack)
    read = _reader(fact, pack)
    # one holder, so one name: the claim then says that nothing but a spelling changed
    same = read is read_holder and same_holder(new, old)
    before = new.object if same else old.object
    return Claim(
        subject=fact.subject,
        relation=fact.relation,
        role=new.role,
        object=new.object,
        old_object=before,
        valid_from=new.since or read_date(fact.valid_from) or published_at,
        quote=fact.new,
        note=new.note,
        aliases=fact.aliases,
        old_aliases=fact.old_aliases,
    )


def succeed(claims: Sequence[Claim], relation: str, value: str) -> bool:
    """Tell whether claims name a value of a relation as what held until now.

    An entry that does has not taken it back, even if it calls the subject otherwise by now.
    """
    return any(
        claim.relation == relation and same_value(value, claim.old_object) for claim in claims
    )


def _read(fact: RawFact, pack: Pack) -> tuple[Reading, Reading]:
    """Read the new value and the old one."""
    read, known = _reader(fact, pack), pack.relations.get(fact.relation)
    if read is read_holder:
        told = replace(fact, new=_without_subject(fact.new, fact.subject))
        fact = replace(told, old=_without_subject(fact.old, fact.subject))
    new = read(fact.new) if fact.new else Reading("", note="nothing holds any more")
    old = read(fact.old) if fact.old else Reading("")
    if known and known.value is ValueKind.PHRASE and not (new.object or old.object):
        return read_changed_part(fact.new, fact.old) or (new, old)
    return new, old


def _without_subject(value: str, subject: str) -> str:
    """`Mayor of London Sadiq Khan`, `Acme CEO Ada Bell`: whose office it is, is known already."""
    name = re.escape(subject)
    told = re.sub(rf"(?<=\w) of (?:the )?{name}(?=[\s,]+\S)", "", value, flags=re.IGNORECASE)
    begin = re.match(rf"(?:the )?{name}(?:['\u2019]s)? (?=\S)", told, flags=re.IGNORECASE)
    rest = told[begin.end() :] if begin else ""
    return rest if split_titles(rest)[0] else told


def _reader(fact: RawFact, pack: Pack) -> Callable[[str], Reading]:
    known = pack.relations.get(fact.relation)
    if known:
        return _READERS.get(known.value, read_plain)
    # a relation without templates may get some later: until then the value's own form decides
    return read_holder if "(since" in fact.new else read_plain
