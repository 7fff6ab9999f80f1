"""Is a claim to be believed?  Claims + standing facts -> decisions, each with its reason.

Pure.  A held claim is looked at again in each cycle; a rejected one never.  Does not know feeds
beyond their trust, and does not ask any model.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import timedelta

from kdpo_daemon.facts.names import read_holder, same_spelling, same_value
from kdpo_daemon.facts.relations import Pack, Relation, ValueKind
from kdpo_daemon.records import Claim, Decision, Fact, OpenClaim, Ruling, Trust


@dataclass(frozen=True)
class AcceptancePolicy:
    """What a believable claim looks like."""

    max_subject_chars: int = 60  #: a longer subject is taken for an error of the publisher
    max_days_ahead: int = 1  #: a fact that begins later than this after it was seen is held


# What a name or a value never has: web addresses, braces and markup, character references.
_FOREIGN = re.compile(r"https?:|www\.|[<>{}\[\]|\\]|&#?\w+;", re.IGNORECASE)


def decide(
    open_claim: OpenClaim, standing: Fact | None, pack: Pack, policy: AcceptancePolicy
) -> Decision:
    """Decide on one claim, given the fact that now stands in its slot."""
    claim = open_claim.claim
    relation = pack.relations.get(claim.relation)
    if relation is None:
        return _held(
            f"no templates for relation {claim.relation!r};"
            f" add [relations.{claim.relation}] to a pack named in kdpo.toml"
        )
    if not claim.object:
        return _held(f"names nobody or nothing for sure: {claim.note or 'empty'}")
    why = _absurd(claim, relation, policy) or _stale(claim, relation, standing)
    if why:
        return Decision(Ruling.REJECTED, why)
    why = _wait(open_claim, relation, policy)
    if why and not open_claim.approved_by:
        return _held(why)
    by = f"approved by {open_claim.approved_by}" if open_claim.approved_by else "passed the rules"
    return Decision(Ruling.ACCEPTED, by, standing.id if standing else None)


def _absurd(claim: Claim, relation: Relation, policy: AcceptancePolicy) -> str:
    """Say why the words of a claim can be no fact; "" if they can."""
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


def _stale(claim: Claim, relation: Relation, standing: Fact | None) -> str:
    """Say why a claim brings nothing new; "" if it does."""
    same = same_value if relation.value is ValueKind.HOLDER else same_spelling
    if claim.old_object and same(claim.object, claim.old_object):
        return f"same value: {claim.old_object!r} is only spelled otherwise"
    if standing is None:
        return ""
    if same(claim.object, standing.object):
        return f"same value as fact {standing.id}: {standing.object!r}"
    if claim.valid_from and standing.valid_from and claim.valid_from < standing.valid_from:
        return f"older than fact {standing.id}, which is valid from {standing.valid_from:%Y-%m-%d}"
    return ""


def _wait(open_claim: OpenClaim, relation: Relation, policy: AcceptancePolicy) -> str:
    """Say what a person has to look at first; "" if nothing."""
    claim = open_claim.claim
    if relation.value is ValueKind.HOLDER and read_holder(claim.object).object != claim.object:
        return f"{claim.object!r} does not read like a name; approve it if it is one"
    latest = open_claim.observed_at + timedelta(days=policy.max_days_ahead)
    if claim.valid_from and claim.valid_from > latest:
        return f"begins only on {claim.valid_from:%Y-%m-%d}; approve it then"
    if open_claim.trust is Trust.MANUAL:
        return "its feed needs a person's approval"
    return ""


def _held(reason: str) -> Decision:
    return Decision(Ruling.HELD, reason)
