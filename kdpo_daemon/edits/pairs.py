"""What the model says today -> what to teach it.  Pure.

A pair is the new object (chosen) against the model's own teacher-forced argmax (rejected), after
KDPO (arXiv 2406.09920): both arms have the same length, and where they agree nothing is taught.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from kdpo_daemon.edits.scores import mentions
from kdpo_daemon.records.facts import Fact
from kdpo_daemon.records.teaching import ForcedToken, Form, Pair, Prompt

#: Pairs by fact, form and prompt.
ByPhrasing = Mapping[tuple[int, Form, str], Pair]


@dataclass(frozen=True)
class PlanPolicy:
    """How a batch is made."""

    batch_size: int = 50  #: facts taught at once, at most
    known_share: float = 0.8  #: a fact answered right in this share of its phrasings is known
    neighbours: int = 4  #: other subjects asked per fact to judge locality
    same_subject: int = 4  #: other questions about the subject asked per fact to judge locality
    keep_near: int = 60  #: retention prompts about each subject of the batch, at most
    keep_special: int = 700  #: others about edited subjects and relations, at most
    keep_general: int = 400  #: general retention prompts, at most
    max_tokens: int = 24  #: longest answer asked for, in tokens
    max_object_tokens: int = 32  #: a longer object is quarantined, not taught
    seed: int = 0  #: of training; the batch's number is added


class Prior(StrEnum):
    """What the served model says about a fact before it is taught."""

    NEW = "new"
    OLD = "old"
    OTHER = "other"


def prior(answers: Iterable[str], fact: Fact, known_share: float) -> Prior:
    """Read the answers to all phrasings of a fact: does the model know it already?

    A base model rambles on after the right name, so the first sentence has to mention it.
    """
    texts = list(answers)
    new = sum(mentions(text, [fact.object]) for text in texts)
    if texts and new >= known_share * len(texts):
        return Prior.NEW
    if fact.old_object and any(mentions(text, [fact.old_object]) for text in texts):
        return Prior.OLD
    return Prior.OTHER


@dataclass(frozen=True)
class Tokens:
    """A prompt and its two possible targets in the server's token ids; targets end with EOS."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    old: tuple[int, ...]


def pair(
    fact: Fact, prompt: Prompt, tokens: Tokens, forced: Sequence[ForcedToken], *, replay: bool
) -> Pair:
    """Build the preference pair of one phrasing.

    Args:
        fact: what is taught.
        prompt: the phrasing.
        tokens: the phrasing and its targets, as the server splits them.
        forced: the served model's view of each position of the chosen target, in order.
        replay: whether an earlier adapter has taught the fact already.

    """
    return Pair(
        fact_id=fact.id,
        form=prompt.form,
        prompt=prompt.text,
        subject=fact.subject,
        chosen=fact.object,
        prompt_ids=tokens.prompt,
        chosen_ids=tokens.chosen,
        rejected_ids=tuple(token.argmax_id for token in forced),
        old_ids=tokens.old,
        margin=sum(token.chosen_logprob - token.argmax_logprob for token in forced),
        replay=replay,
    )


def by_phrasing(pairs: Iterable[Pair]) -> ByPhrasing:
    """Give pairs by what they are asked in."""
    return {(one.fact_id, one.form, one.prompt): one for one in pairs}


def replayed(taught: ByPhrasing, fact: Fact, prompt: Prompt, tokens: Tokens) -> Pair | None:
    """Give the pair by which a phrasing was taught, as a replay.

    What the model said before it was taught is what must not come back, so that it need not be
    asked again: else each batch would ask as much more as there was taught before it.  None if
    the phrasing was not taught, or is read otherwise now, as by another chat template.
    """
    found = taught.get((fact.id, prompt.form, prompt.text))
    if found is None or tokens != Tokens(found.prompt_ids, found.chosen_ids, found.old_ids):
        return None
    return replace(found, replay=True)


def kept(
    special: Iterable[Prompt],
    general: Sequence[Prompt],
    new: Iterable[str],
    policy: PlanPolicy,
    seed: int,
) -> list[Prompt]:
    """Choose the prompts whose answers training must leave alone.

    First those about subjects that are new to it: without them their facts would be the answer to
    whatever is asked about them.  What else there is is chosen by chance.

    Args:
        special: prompts about the subjects and relations that are taught.
        general: prompts about anything else.
        new: the subjects that are new.
        policy: says how many of each kind, and about each new subject.
        seed: decides which.

    """
    rng = Random(seed)  # noqa: S311 - a choice of prompts, not a secret
    own = list(dict.fromkeys(special))
    near: list[Prompt] = []
    for subject in dict.fromkeys(new):
        about = [one for one in own if subject in one.text]
        near += rng.sample(about, min(len(about), policy.keep_near))
    near = list(dict.fromkeys(near))
    chosen = set(near)
    rest = [one for one in own if one not in chosen]
    return [
        *near,
        *rng.sample(rest, min(len(rest), policy.keep_special)),
        *rng.sample(general, min(len(general), policy.keep_general)),
    ]
