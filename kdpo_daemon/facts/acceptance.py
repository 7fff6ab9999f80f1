"""Is a claim to be believed?  Claims + what is known of their slot -> decisions, with reasons.

Pure.  A held claim is looked at again in each cycle; a rejected one never.  Each rule is a
question that answers with a reason, or "" if it has nothing to say; `decide` asks them in order.
The rules that compare sources are in `sources`.  Does not ask any model.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fnmatch import fnmatch

from kdpo_daemon.facts.names import read_holder
from kdpo_daemon.facts.relations import Pack, Relation, ValueKind
from kdpo_daemon.facts.sources import (
    SourcePolicy,
    believes_text,
    contradicted,
    is_one,
    returns_to_old,
    revoked,
    same_as,
    too_few,
    too_fresh,
    wavering,
)
from kdpo_daemon.facts.spelling import same_spelling, shares_words
from kdpo_daemon.facts.versions import is_earlier
from kdpo_daemon.records.facts import Decision, Fact, Slot, Standing
from kdpo_daemon.records.intake import Claim, OpenClaim, Ruling, Trust


@dataclass(frozen=True)
class AcceptancePolicy(SourcePolicy):
    """What a believable claim looks like."""

    max_subject_chars: int = 60  #: a longer subject is taken for an error of the publisher
    max_days_ahead: int = 1  #: a fact that begins later than this after it was seen is held
    only_relations: tuple[str, ...] = ()  #: patterns such as `head_*`; if given, no others
    deny_relations: tuple[str, ...] = ()  #: relations that are never believed
    only_subjects: tuple[str, ...] = ()  #: patterns; case does not matter
    deny_subjects: tuple[str, ...] = ()  #: `*election*`
    #: Changes of one relation that one source may bring in a day.  A source that brings more has
    #: reformatted, is broken or lies: all that wait are held.
    max_source_relation_day: int = 50
    max_source_day: int = 200  #: the same over all relations of a source
    max_relation_day: int = 200  #: the same over all sources of a relation


@dataclass(frozen=True)
class Load:
    """How many changes wait, by the day they were seen, and how many passed of late."""

    waiting: Counter[tuple[str, str, date]] = field(default_factory=Counter)  #: source, relation
    accepted: Counter[tuple[str, str]] = field(default_factory=Counter)  #: source, relation


def decide(
    waiting: OpenClaim, slot: Slot, load: Load, pack: Pack, policy: AcceptancePolicy, now: datetime
) -> Decision:
    """Decide on one claim, given what is known of its slot and how much else there is."""
    claim = waiting.claim
    relation = pack.relations.get(claim.relation)
    if relation is None:
        return _held(
            f"no templates for relation {claim.relation!r};"
            f" add [relations.{claim.relation}] to a pack named in kdpo.toml"
        )
    if waiting.held_by:
        return _held(f"held by {waiting.held_by}")
    why = _denied(claim, policy) or _reworded(waiting, slot)
    if why:
        return Decision(Ruling.REJECTED, why)
    if not claim.object:
        return _held(f"names nobody or nothing for sure: {claim.note or 'empty'}")
    why = _absurd(claim, relation, policy) or _stale(waiting, relation, slot)
    if why:
        return Decision(Ruling.REJECTED, why)
    why = "" if waiting.approved_by else _wait(waiting, relation, slot, load, policy, now)
    return _held(why) if why else _accepted(waiting, relation, slot)


def is_change(waiting: OpenClaim, slot: Slot, pack: Pack, policy: AcceptancePolicy) -> bool:
    """Tell whether a claim would change what is believed, if it were believed: it counts then."""
    claim, relation = waiting.claim, pack.relations.get(waiting.claim.relation)
    if relation is None or not claim.object or waiting.by_hand or waiting.approved_by:
        return False
    if claim.extractor and not believes_text(policy):
        return False  # it waits for a person anyway, and must not keep stated facts out
    never = _denied(claim, policy) or _reworded(waiting, slot) or _absurd(claim, relation, policy)
    return not (never or _stale(waiting, relation, slot))


# ---------------------------------------------------------------- never


def _denied(claim: Claim, policy: AcceptancePolicy) -> str:
    """Say which list of the operator's rules the claim out."""
    for what, name, only, deny in (
        ("relation", claim.relation, policy.only_relations, policy.deny_relations),
        ("subject", claim.subject, policy.only_subjects, policy.deny_subjects),
    ):
        if _matches(name, deny):
            return f"{what} {name!r} is in [acceptance] deny_{what}s"
        if only and not _matches(name, only):
            return f"{what} {name!r} is not in [acceptance] only_{what}s"
    return ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name.casefold(), pattern.casefold()) for pattern in patterns)


def _reworded(waiting: OpenClaim, slot: Slot) -> str:
    current = all(said.current for said in slot.said if said.id == waiting.id)
    return "" if current or waiting.approved_by else "its entry says otherwise by now"


# what no name or value has: web addresses, braces and markup, character references
_FOREIGN = re.compile(r"https?:|www\.|[<>{}\[\]|\\]|&#?\w+;", re.IGNORECASE)


def _absurd(claim: Claim, relation: Relation, policy: AcceptancePolicy) -> str:
    """Say why the words of a claim can be no fact."""
    for name, text, longest in (
        ("subject", claim.subject, policy.max_subject_chars),
        ("object", claim.object, relation.max_object_chars),
    ):
        if len(text) > longest:
            return f"{name} has {len(text)} characters, at most {longest} are believable"
        if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in text):
            return f"{name} has control characters or line breaks"
        if not any(c.isalnum() for c in text):
            return f"{name} has no letter or digit"
        if _FOREIGN.search(text):
            return f"{name} has an address, braces or markup in it"
    if same_spelling(claim.object, claim.subject):
        return "object is the subject"
    return ""


def _stale(waiting: OpenClaim, relation: Relation, slot: Slot) -> str:
    """Say why a claim brings nothing new."""
    claim, same = waiting.claim, same_as(relation)
    if claim.old_object and same(claim.object, claim.old_object):
        return f"same value: {claim.old_object!r} is only spelled otherwise"
    for one in slot.standing:
        # a source that names what it replaces knows the two apart
        told_apart = claim.old_object and same(claim.old_object, one.fact.object)
        new = (claim.object, *(() if told_apart else claim.aliases))
        if is_one(relation, new, (one.fact.object, *(() if told_apart else one.aliases))):
            return f"same value as fact {one.fact.id}: {one.fact.object!r}"
    return _older(waiting, relation, slot, ahead=False)


def _older(waiting: OpenClaim, relation: Relation, slot: Slot, *, ahead: bool) -> str:
    """Say which fact begins later than the claim; `ahead`: it was known and had not begun.

    Such a date may be false, 2204 for 2024, and must not close the slot for good.
    """
    mine = waiting.claim.valid_from
    for one in slot.standing if relation.functional else ():
        since, known = one.fact.valid_from, one.fact.observed_at
        later = mine and since and mine < since and not _replaces(waiting, one)
        if since and later and ahead == (since > waiting.observed_at >= known):
            which = "begins only on" if ahead else "is valid from"
            why = f"older than fact {one.fact.id}, which {which} {since:%Y-%m-%d}"
            return f"{why}; approve it if it holds now" if ahead else why
    return ""


def _replaces(waiting: OpenClaim, standing: Standing) -> bool:
    """Tell whether an entry says otherwise than it did: it corrects itself, whatever its date."""
    mine = (standing.source, standing.key) == (waiting.source, waiting.key)
    return mine and waiting.observed_at >= standing.fact.observed_at


# ---------------------------------------------------------------- not yet


def _wait(
    waiting: OpenClaim,
    relation: Relation,
    slot: Slot,
    load: Load,
    policy: AcceptancePolicy,
    now: datetime,
) -> str:
    """Say what a person has to look at first, or what has to happen."""
    return (
        _unclear(waiting, relation, policy)
        or _older(waiting, relation, slot, ahead=True)
        or _rewording(waiting, relation, slot)
        or _going_back(waiting, relation, slot)
        or _too_many(waiting, load, policy)
        or revoked(waiting, relation, slot)
        or wavering(waiting, relation, slot, policy)
        or contradicted(waiting, relation, slot, policy)
        or too_few(waiting, relation, slot, policy)
        or too_fresh(waiting, relation, slot, policy, now)
    )


# `administered from London`; `the Hague`, `al-Khobar` and `eThekwini` begin otherwise
_REMARK = re.compile(r"(?!the |d\w{1,2} |l[aeo]s? )[a-z]{2,} ")


def _unclear(waiting: OpenClaim, relation: Relation, policy: AcceptancePolicy) -> str:
    claim = waiting.claim
    if relation.value is ValueKind.HOLDER and read_holder(claim.object).object != claim.object:
        return f"{claim.object!r} does not read like a name; approve it if it is one"
    if relation.object_type == "place" and _REMARK.match(claim.object):
        return f"{claim.object!r} reads like a remark on a place; approve it if it is a name"
    ahead = timedelta(days=policy.max_days_ahead)
    if claim.valid_from and claim.valid_from > waiting.observed_at + ahead:
        return f"begins only on {claim.valid_from:%Y-%m-%d}; approve it then"
    if waiting.trust is Trust.MANUAL:
        return "its feed needs a person's approval"
    return ""


def _going_back(waiting: OpenClaim, relation: Relation, slot: Slot) -> str:
    """Say which later version stands: feeds announce repairs of earlier ones too."""
    if relation.value is not ValueKind.VERSION:
        return ""
    for old in (waiting.claim.old_object, *(one.fact.object for one in slot.standing)):
        if old and is_earlier(waiting.claim.object, old):
            return f"is earlier than {old!r}; approve it if it is the latest nevertheless"
    return ""


def _rewording(waiting: OpenClaim, relation: Relation, slot: Slot) -> str:
    """Say which description may be meant by these words too: `state` and `state of a kind`."""
    if relation.value is not ValueKind.PHRASE:
        return ""
    for old in (waiting.claim.old_object, *(one.fact.object for one in slot.standing)):
        if old and shares_words(waiting.claim.object, old):
            return f"may only reword {old!r}; approve it if it is another value"
    return ""


def _too_many(waiting: OpenClaim, load: Load, policy: AcceptancePolicy) -> str:
    """Say which limit the changes of a day are over: those that passed and those that wait."""
    if waiting.by_hand:
        return ""
    source, relation = waiting.source, waiting.claim.relation
    day = _of_day(load, waiting.observed_at.date())
    by_source = {key: n for key, n in day.items() if key[0] == source}
    # a flood is held already, and must not keep the other sources out
    believable = {key: n for key, n in day.items() if n <= policy.max_source_relation_day}
    for what, counted, limit in (
        (f"{source} changes {relation}", day[source, relation], policy.max_source_relation_day),
        (f"{source} brings changes", sum(by_source.values()), policy.max_source_day),
        (
            f"{relation} is changed",
            sum(n for key, n in believable.items() if key[1] == relation),
            policy.max_relation_day,
        ),
    ):
        if counted > limit:
            return f"{what} {counted} times in a day, at most {limit} are believed unseen"
    return ""


def _of_day(load: Load, day: date) -> Counter[tuple[str, str]]:
    seen = Counter({(s, r): n for (s, r, on), n in load.waiting.items() if on == day})
    return seen + load.accepted


# ---------------------------------------------------------------- yes


def _accepted(waiting: OpenClaim, relation: Relation, slot: Slot) -> Decision:
    by = f"approved by {waiting.approved_by}" if waiting.approved_by else "passed the rules"
    back = returns_to_old(waiting, relation, slot)
    reason = f"{by}; {waiting.source} took fact {back.id} back" if back else by
    if waiting.claim.extractor:
        reason += f"; read from free text by {waiting.claim.extractor}"
    replaced = _replaced(waiting.claim, relation, slot)
    return Decision(
        Ruling.ACCEPTED, reason, replaced.id if replaced else None, not relation.functional
    )


def _replaced(claim: Claim, relation: Relation, slot: Slot) -> Fact | None:
    """Give the fact that gives way: of several values only the one that the claim names."""
    old = (claim.old_object, *claim.old_aliases)
    for one in slot.standing:
        names = (one.fact.object, *one.aliases)
        if relation.functional or (claim.old_object and is_one(relation, old, names)):
            return one.fact
    return None


def _held(reason: str) -> Decision:
    return Decision(Ruling.HELD, reason)
