"""What sources say against each other, with each other, and against themselves.

Pure; the part of the rules of acceptance that looks at who speaks.  Time is a claim's validity
where it is known: what is newer does not depend on what arrived first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kdpo_daemon.facts.quantities import same_currency, same_quantity
from kdpo_daemon.facts.relations import Relation, ValueKind
from kdpo_daemon.facts.spelling import same_spelling, same_value
from kdpo_daemon.facts.versions import same_version
from kdpo_daemon.records.facts import Fact, Said, Slot
from kdpo_daemon.records.intake import OpenClaim, Ruling


@dataclass(frozen=True)
class SourcePolicy:
    """What it takes to believe a source."""

    trusted_sources: tuple[str, ...] = ()  #: feeds that are believed alone and against others
    #: Independent publishers that must say the same; feeds of one host are one publisher.
    sources_needed: int = 1
    disagree_days: int = 7  #: other values of two sources that begin so close exclude each other
    settle_s: int = 0  #: seconds that a claim must have stood before it is believed
    flip_days: int = 30  #: for how long a source's changes of mind are remembered
    max_returns: int = 1  #: a source may return to an earlier value so often meanwhile
    #: Independent publishers that must say the same before what was read from free text is
    #: believed without a person; 0 or 1: never.
    text_sources_needed: int = 0


_SAME = {
    ValueKind.HOLDER: same_value,
    ValueKind.QUANTITY: same_quantity,
    ValueKind.VERSION: same_version,
}


def same_as(relation: Relation) -> Callable[[str, str], bool]:
    """Give the test of whether two values of a relation are one."""
    if relation.object_type == "currency":
        return same_currency
    return _SAME.get(relation.value, same_spelling)


def is_one(relation: Relation, one: Sequence[str], other: Sequence[str]) -> bool:
    """True when two values are one; of each the first is its name, the rest are other names.

    Two other names that are alike say nothing: fathers and sons share them.
    """
    return (
        same_as(relation)(one[0], other[0])
        or any(same_spelling(name, other[0]) for name in one[1:])
        or any(same_spelling(one[0], name) for name in other[1:])
    )


def returns_to_old(waiting: OpenClaim, relation: Relation, slot: Slot) -> Fact | None:
    """Give the standing fact that its own entry takes back: the value before it holds again.

    Who returns to an office later has taken nothing back.
    """
    same, since = same_as(relation), waiting.claim.valid_from
    for one in slot.standing:
        mine = (one.source, one.key) == (waiting.source, waiting.key)
        later = since and one.fact.valid_from and since > one.fact.valid_from
        if not mine or later or not one.fact.old_object:
            continue
        if same(waiting.claim.object, one.fact.old_object):
            return one.fact
    return None


def revoked(waiting: OpenClaim, relation: Relation, slot: Slot) -> str:
    """Say that a person took back what the entry says: other words for it do not undo that."""
    mine = (waiting.claim.object, *waiting.claim.aliases)
    for said in () if waiting.by_hand else slot.said:
        same_entry = (said.source, said.key) == (waiting.source, waiting.key)
        theirs = (said.object, *said.aliases)
        if said.revoked and same_entry and is_one(relation, theirs, mine):
            return (
                f"{said.object!r} was revoked and its entry says it again; approve it if it holds"
            )
    return ""


def wavering(waiting: OpenClaim, relation: Relation, slot: Slot, policy: SourcePolicy) -> str:
    """Say how often a source has gone back to a value that it had given up."""
    values: list[str] = []
    returns = 0
    same = same_as(relation)
    for said in _recent(waiting, slot, policy):
        if values and same(said.object, values[-1]):
            continue
        returns += any(same(said.object, value) for value in values)
        values.append(said.object)
    if returns <= policy.max_returns:
        return ""
    return f"{waiting.source} went back to an earlier value {returns} times"


def contradicted(waiting: OpenClaim, relation: Relation, slot: Slot, policy: SourcePolicy) -> str:
    """Say who says something else about the same time, unless more say the same."""
    if _is_trusted(waiting, policy) or not relation.functional:
        return ""
    others = list(_rivals(waiting, relation, slot, policy))
    against = {said.publisher for said in others}
    agree = _agreeing(waiting, relation, slot)
    if not others or (len(agree) > max(len(against), 1) and waiting.publisher not in against):
        return ""
    said = others[-1]
    return f"{waiting.source} says {waiting.claim.object!r}, {said.source} says {said.object!r}"


def too_few(waiting: OpenClaim, relation: Relation, slot: Slot, policy: SourcePolicy) -> str:
    """Say how many independent publishers are missing.

    What was read from free text has to be said by more than one, or approved by a person.
    """
    if _is_trusted(waiting, policy):
        return ""
    needed = policy.sources_needed
    if waiting.claim.extractor:
        if not believes_text(policy):
            return f"read from free text by {waiting.claim.extractor}; approve it if it is so"
        needed = max(needed, policy.text_sources_needed)
    agree = _agreeing(waiting, relation, slot)
    if len(agree) >= needed:
        return ""
    return f"said by {len(agree)} of {needed} publishers: {', '.join(sorted(agree))}"


def believes_text(policy: SourcePolicy) -> bool:
    """Tell whether claims from free text can be believed without a person at all."""
    return policy.text_sources_needed > 1


def too_fresh(
    waiting: OpenClaim, relation: Relation, slot: Slot, policy: SourcePolicy, now: datetime
) -> str:
    """Say until when a claim has to stand."""
    same, since = same_as(relation), waiting.observed_at
    for said in reversed([one for one in slot.said if _by_same(one, waiting)]):
        if not same(said.object, waiting.claim.object):
            break
        since = min(since, said.observed_at)
    until = since + timedelta(seconds=policy.settle_s)
    if waiting.by_hand or now >= until:
        return ""
    return f"believed if it still stands at {until:%Y-%m-%d %H:%M} UTC"


# ---------------------------------------------------------------- who says what


def _is_trusted(waiting: OpenClaim, policy: SourcePolicy) -> bool:
    trusted = waiting.by_hand or waiting.source in policy.trusted_sources
    # a source is trusted for what it states, not for what was made of its headlines
    return trusted and not waiting.claim.extractor


def _time(said: Said | OpenClaim) -> datetime:
    valid_from = said.valid_from if isinstance(said, Said) else said.claim.valid_from
    return valid_from or said.observed_at


def _by_same(said: Said, waiting: OpenClaim) -> bool:
    """Tell whether the source of a claim said this; not counting headlines, if it is stated."""
    return said.source == waiting.source and bool(waiting.claim.extractor or not said.extractor)


def _recent(waiting: OpenClaim, slot: Slot, policy: SourcePolicy) -> Iterator[Said]:
    """Give what the source has said on the slot of late, this claim last.

    An old value that a source repeats beside the new one, as a list of all holders does, is not
    a change of mind: its own time is long past.
    """
    first = waiting.observed_at - timedelta(days=policy.flip_days)
    for said in slot.said:
        mine = _by_same(said, waiting) and said.id <= waiting.id and said.observed_at > first
        if mine and said.object and (said.key == waiting.key or _time(said) > first):
            yield said


def _rivals(
    waiting: OpenClaim, relation: Relation, slot: Slot, policy: SourcePolicy
) -> Iterator[Said]:
    """Give what excludes the claim: another value that is not plainly older or newer."""
    close = timedelta(days=policy.disagree_days)
    claim = waiting.claim
    new, old = (claim.object, *claim.aliases), (claim.old_object, *claim.old_aliases)
    for said in slot.said:
        if said.id == waiting.id or not _counts(said, waiting, relation, slot):
            continue
        theirs = (said.object, *said.aliases)
        if is_one(relation, theirs, new) or (old[0] and is_one(relation, theirs, old)):
            continue
        apart = abs(_time(said) - _time(waiting))
        together = said.source == waiting.source and said.observed_at == waiting.observed_at
        if (apart <= close and said.source != waiting.source) or (together and not apart):
            yield said


def _counts(said: Said, waiting: OpenClaim, relation: Relation, slot: Slot) -> bool:
    """Tell whether a source still says so and might be right.

    What was only read from free text counts neither for nor against what an entry states.
    """
    if not said.object or not said.current or said.ruling is Ruling.REJECTED:
        return False
    if said.ruling is not Ruling.ACCEPTED:
        return bool(waiting.claim.extractor) or not said.extractor
    theirs = (said.object, *said.aliases)
    return any(is_one(relation, theirs, (one.fact.object, *one.aliases)) for one in slot.standing)


def _agreeing(waiting: OpenClaim, relation: Relation, slot: Slot) -> set[str]:
    """Give the publishers that say the same, the claim's own among them."""
    mine = (waiting.claim.object, *waiting.claim.aliases)
    others = {
        said.publisher
        for said in slot.said
        if _counts(said, waiting, relation, slot)
        and is_one(relation, (said.object, *said.aliases), mine)
    }
    return {waiting.publisher, *others}
