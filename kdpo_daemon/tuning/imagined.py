"""Places of a fact that nobody has seen: the same asked of others, and in other words.

A fact that is taught in one phrasing shows a gate two places, one in each form, and a regression
takes every trait of theirs for the question.  Two things tell what belongs to it: the same prompts
with other subjects put in, since marks say who is asked about and the gate need not; and how
places move when the shipped relations are asked about in other words, which differs little from
one question to the next.  What does not belong to it is imagined likewise: text as it reads once a
subject was named, and what is said of a subject as if it were said of another.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from kdpo_daemon import packs
from kdpo_daemon.facts.asking import taught
from kdpo_daemon.facts.relations import read_pack
from kdpo_daemon.records.teaching import Pair, Prompt
from kdpo_daemon.tuning.gates import numbered
from kdpo_daemon.tuning.given import Decode
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Ids, Texts, each
from kdpo_daemon.tuning.tokens import spans, words_of

_OTHERS = 8  #: prompts of a fact with another subject put in
_EVERY = 2  #: so many tokens of text are one that is read as if a subject had been named
_SAME = 0.8  #: how alike codes are, from which on they are one subject's
_HEARD = 0.1  #: share of a flag that is as good as none


def imagine(
    model: EditedModel,
    pairs: Sequence[Pair],
    facts: Collection[int],
    decode: Decode,
    seed: int,
) -> dict[int, list[Tensor]]:
    """Look at where facts' questions are asked of other subjects; the model wears its marks.

    Args:
        model: what looks.
        pairs: those of the facts, and others whose subjects are put in.
        facts: whose places are wanted.
        decode: tokens to text.
        seed: of the choice of other subjects.

    Gives what the edited MLPs read there by fact, (N, d) per MLP.

    """
    asked = asked_of_others(pairs, facts, decode, seed)
    read = ends(model, model.edited, [prompt for _, prompt in asked])
    owners = torch.tensor([fact for fact, _ in asked])
    return {fact: [one[owners == fact] for one in read] for fact in facts}


def asked_of_others(
    pairs: Sequence[Pair], facts: Collection[int], decode: Decode, seed: int
) -> list[tuple[int, Ids]]:
    """Give prompts of facts with other pairs' subjects in place of their own."""
    rng = random.Random(seed)  # noqa: S311 - a choice of prompts, not a secret
    words = words_of(pairs, decode)
    found: list[tuple[int, Ids]] = []
    for fact in facts:
        mine = [pair for pair in pairs if pair.fact_id == fact]
        both = [
            (one, said) for one in mine for whose, said in words.items() if whose != one.subject
        ]
        for pair, said in rng.sample(both, min(_OTHERS, len(both))):
            found.append((fact, _put(pair.prompt_ids, spans(pair, decode), said)))
    return found


@dataclass(frozen=True)
class Reworded:
    """The shipped relations, each asked of a subject in all of its training phrasings."""

    asked: list[Ids]  #: one question after the other, each in all of its words
    counts: list[int]  #: of each question, how many


def reworded(ask: Callable[[Prompt], Ids]) -> Reworded:
    """Give questions that tell how places move with the words."""
    pack = read_pack([packs.text(name) for name in packs.RELATIONS])
    groups = []
    for relation in pack.relations.values():
        subject = pack.subject_types[relation.subject_type].keep_subjects[0]
        prompts = sorted(taught(relation, subject, ""), key=lambda one: one.form)
        groups += [list(some) for _, some in groupby(prompts, lambda one: one.form)]
    asked = [ask(prompt) for some in groups for prompt in some]
    return Reworded(asked, [len(some) for some in groups])


def moves(read: Tensor, counts: Sequence[int]) -> Tensor:
    """Give what other words add to where an answer begins, (N, d).

    Of each question's places, (N, d) in all, how each differs from their mean, as far as a
    phrasing differs from another one.
    """
    return torch.cat([_apart(some) for some in torch.split(read.float(), list(counts))])


def in_passing(text: Tensor, places: Sequence[Tensor], carried: slice) -> Tensor:
    """Give text that names no subject as it reads after one was named, (M, d).

    Marks are put into tokens that carry none, by turns: a gate that has not seen such text opens
    in it, long after a subject was named, or was taken to be.

    Args:
        text: (N, d).
        places: (P, d) of each fact, which carry its subject's mark.
        carried: where marks are read.

    """
    marks = torch.stack([one[:, carried].mean(0) for one in places])
    found = unnamed(text, places, carried)[::_EVERY].clone()
    found[:, carried] = marks[torch.arange(len(found)) % len(marks)]
    return found


def unnamed(text: Tensor, places: Sequence[Tensor], carried: slice) -> Tensor:
    """Give those tokens of text, (N, d), that carry no mark such as places do, (P, d) each."""
    heard = torch.stack([one[:, carried.start].mean() for one in places]).mean()
    return text[text[:, carried.start].abs() < _HEARD * heard.abs()]


def said_of_others(places: Mapping[int, Tensor], carried: slice) -> Tensor:
    """Give facts' places, (P, d) each, as if another subject had been named: (N, d).

    The mark is the one most like its own of those that are another subject's.
    """
    marks = torch.stack([one[:, carried].mean(0) for one in places.values()])
    alike = F.cosine_similarity(marks[:, None, 1:], marks[None, :, 1:], dim=2)
    alike[alike > _SAME] = -torch.inf
    nearest, whose = alike.max(1), numbered(list(places.values()))
    found = torch.cat(list(places.values()))
    found[:, carried] = marks[nearest.indices[whose]]
    return found[nearest.values.isfinite()[whose]]


def ends(model: EditedModel, layers: Sequence[int], texts: Sequence[Ids]) -> list[Tensor]:
    """Give what the MLPs of some layers read at texts' last tokens, (N, d) each."""
    read = dict(each(model, layers, Texts(texts)))
    last = [torch.stack([one[-1] for one in read[index]]) for index in range(len(texts))]
    empty = torch.zeros(len(layers), 0, int(model.model.config.hidden_size))
    return list(torch.stack(last, dim=1) if last else empty)


def _apart(places: Tensor) -> Tensor:
    """Differences from the mean, as large as between two: the mean holds a share of each."""
    count = len(places)
    apart: Tensor = (places - places.mean(0)) * (count / max(1, count - 1)) ** 0.5
    return apart


def _put(prompt: Ids, spans: Sequence[tuple[int, int]], said: Ids) -> Ids:
    for begin, end in reversed(spans):
        prompt = (*prompt[:begin], *said, *prompt[end:])
    return prompt
