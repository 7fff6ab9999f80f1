"""Entries -> claims: what an entry asserts, in clean words.

Pure.  Entries of feeds and imported lines take the same path.  Reads only what an entry says
explicitly (see docs/feed-format.md); does not extract facts from free text.
"""

import json
from collections.abc import Callable
from hashlib import sha256

from kdpo_daemon.errors import SourceError
from kdpo_daemon.facts.names import Reading, read_date, read_holder, read_plain, same_holder
from kdpo_daemon.facts.relations import Pack, ValueKind
from kdpo_daemon.facts.texts import clean, content_hash
from kdpo_daemon.records.intake import Claim, Entry, RawFact

_KEYS = ("subject", "relation", "old", "new", "valid_from", "source")


def claims_of(entry: Entry, pack: Pack) -> list[Claim]:
    """Give the claims of an entry: one if it carries a fact, else none."""
    fact = entry.fact
    if fact is None:
        return []
    read = _reader(fact, pack)
    new, old = read(fact.new), read(fact.old) if fact.old else Reading("")
    # one holder, so one name: the claim then says that nothing but a spelling changed
    same = read is read_holder and same_holder(new, old)
    before = new.object if same else old.object
    return [
        Claim(
            subject=fact.subject,
            relation=fact.relation,
            role=new.role,
            object=new.object,
            old_object=before,
            valid_from=new.since or read_date(fact.valid_from) or entry.published_at,
            quote=fact.new,
            note=new.note,
        )
    ]


def _reader(fact: RawFact, pack: Pack) -> Callable[[str], Reading]:
    known = pack.relations.get(fact.relation)
    # a relation without templates may get some later: until then the value's own form decides
    holder = known.value is ValueKind.HOLDER if known else "(since" in fact.new
    return read_holder if holder else read_plain


def entry_of_line(line: str, number: int) -> Entry:
    """Give the entry that a line of JSONL stands for: {subject, relation, new, old?, ...}.

    Raises:
        SourceError: naming the line and what is wrong with it.

    """
    values = _values(line, number)
    fact = RawFact(
        subject=values["subject"],
        relation=values["relation"],
        new=values["new"],
        old=values.get("old", ""),
        valid_from=values.get("valid_from", ""),
    )
    if fact.valid_from and read_date(fact.valid_from) is None:
        raise _refused(
            number, f"valid_from {fact.valid_from!r} is no date", "write it as 2024-07-02"
        )
    link = values.get("source", "")
    title = f"{fact.subject}, {fact.relation}: {fact.new}"
    slot = json.dumps([fact.subject, fact.relation, fact.new, fact.valid_from])
    key = f"line:{sha256(slot.encode()).hexdigest()[:32]}"
    return Entry(
        key=key,
        title=title,
        link=link,
        published_at=read_date(fact.valid_from),
        summary="",
        fact=fact,
        content_hash=content_hash(key, title, link, "", fact),
    )


def _values(line: str, number: int) -> dict[str, str]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refused(
            number, f"not JSON: {error}", "write one JSON object on each line"
        ) from error
    if not isinstance(read, dict):
        raise _refused(
            number, "not a JSON object", 'write {"subject": ..., "relation": ..., "new": ...}'
        )
    for key, value in read.items():
        if key not in _KEYS:
            raise _refused(number, f"unknown key {key!r}", f"keys are {', '.join(_KEYS)}")
        if not isinstance(value, str):
            raise _refused(number, f"{key} is not a text", "put it in quotes")
    values = {key: clean(value) for key, value in read.items()}
    for key in ("subject", "relation", "new"):
        if not values.get(key):
            raise _refused(number, f"{key} is missing", f'add "{key}"')
    return values


def _refused(number: int, why: str, hint: str) -> SourceError:
    return SourceError(why, subject=f"line {number}", hint=hint)
