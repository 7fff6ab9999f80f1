"""Places of a fact that nobody has seen: the same asked of others, and in other words.

A fact that is taught in one phrasing shows a gate two places, one in each form, and a regression
takes every trait of theirs for the question.  Two things tell what belongs to it: the same prompts
with other subjects put in, since marks say who is asked about and the gate need not; and how
places move when the shipped relations are asked about in other words, which differs little from
one question to the next.  What does not belong to it is imagined likewise: text as it reads once a
subject was named, and what is said of a subject as if it were said of another.  What names a
subject is told from texts that end, or begin, as it does, too.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, takewhile

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from kdpo_daemon import packs
from kdpo_daemon.facts.relations import read_pack, taught
from kdpo_daemon.records.teaching import Pair, Prompt
from kdpo_daemon.tuning.gates import numbered
from kdpo_daemon.tuning.given import Decode
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.seen import Ids, Texts, each
from kdpo_daemon.tuning.tokens import mentions, told

_OTHERS = 8  #: prompts of a fact with another subject put in
_EVERY = 2  #: so many tokens of text are one that is read as if a subject had been named
_SAME = 0.8  #: how alike codes are, from which on they are one subject's
_HEARD = 0.1  #: share of a flag that is as good as none
_ALIKE, _NAMED = 4, 12  #: texts that end as a subject does, alone and after another name
_BEFORE = 12  #: tokens of ordinary text before that end
_NAMES = 32  #: other words put where a text begins with a subject
_KNOWN = 512  #: names that are put before a subject's end, by chance


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
    words = _words(pairs, decode)
    found: list[tuple[int, Ids]] = []
    for fact in facts:
        mine = [pair for pair in pairs if pair.fact_id == fact]
        both = [
            (one, said) for one in mine for whose, said in words.items() if whose != one.subject
        ]
        for pair, said in rng.sample(both, min(_OTHERS, len(both))):
            found.append((fact, _put(pair.prompt_ids, _spans(pair, decode), said)))
    return found


def ends_alike(
    pairs: Sequence[Pair],
    subjects: Collection[str],
    texts: Sequence[Ids],
    vocabulary: int,
    decode: Decode,
) -> dict[str, list[Ids]]:
    """Give texts that end as some subjects of several words do, and name none of any pair.

    A subject is read at its last token: "Runaway Sunday" is told from all other text and yet not
    from "on Sunday" if no text at hand has that word, and "Alcoa Theatre" not from "Drum Theatre"
    if none has it after another name.  One that ends in a number is told from other numbers: "HD
    177808" from "HD 177809".
    """
    if not texts:
        return {}
    words = _words(pairs, decode)
    mine = {subject: said for subject, said in words.items() if subject in subjects}
    names = _names(vocabulary, words, decode, _KNOWN, " ")
    digits = _digits(vocabulary, decode) if any(one[-1].isdecimal() for one in mine) else {}
    rng = random.Random(0)  # noqa: S311 - a choice of words, not a secret
    found: dict[str, list[Ids]] = {}
    for number, (subject, said) in enumerate(mine.items()):
        tails = _tails(said, decode)
        others = rng.sample(names, min(_NAMED, len(names)))
        befores: list[Ids] = [()] * _ALIKE + [(name,) for name in others]
        alike = [
            (*before, *tails[turn % len(tails)])
            for turn, before in enumerate(befores if tails else [])
        ]
        alike += _renumbered(said, digits, rng)
        tried = [
            (*texts[(number + turn) % len(texts)][:_BEFORE], *end)
            for turn, end in enumerate(alike)
        ]
        found[subject] = [
            one for one in tried if not any(name in decode([*one]) for name in words)
        ]
    return found


def _renumbered(said: Ids, digits: Mapping[int, list[int]], rng: random.Random) -> list[Ids]:
    """Give a subject that ends in a number with others in its place: its last token, or all."""
    last = list(takewhile(digits.__contains__, reversed(said)))
    if not last:
        return []

    def other(token: int) -> int:
        return rng.choice([one for one in digits[token] if one != token] or [token])

    rest = said[: len(said) - len(last)]
    every = [(*rest, *map(other, reversed(last))) for _ in range(_ALIKE)]
    return [(*said[:-1], other(said[-1])) for _ in range(_ALIKE)] + every


def _digits(vocabulary: int, decode: Decode) -> dict[int, list[int]]:
    """Give the tokens that are numbers, each with those that are as long."""
    words = {token: decode([token]) for token in range(vocabulary)}
    alike: dict[int, list[int]] = {}
    for token, word in words.items():
        if word.isdecimal():
            alike.setdefault(len(word), []).append(token)
    return {token: some for some in alike.values() for token in some}


def begins_alike(pairs: Sequence[Pair], vocabulary: int, decode: Decode) -> dict[str, list[Ids]]:
    """Give texts that begin as prompts do that begin with subjects of one token, but for those.

    Such a subject is read at the token after it (`marks.heard`): told from no other "'s" its mark
    opens at any country's.  The other words are tokens of chance that look like names.
    """
    after: dict[str, set[int]] = {}
    for pair in pairs:
        if len(pair.prompt_ids) > 1 and 0 in mentions(pair.prompt_ids, pair.subject, decode):
            after.setdefault(pair.subject, set()).add(pair.prompt_ids[1])
    known = {pair.subject for pair in pairs}
    names = _names(vocabulary, known, decode, _NAMES) if after else []
    return {
        subject: [(name, second) for second in sorted(seconds) for name in names]
        for subject, seconds in after.items()
    }


def _names(
    vocabulary: int, subjects: Collection[str], decode: Decode, count: int, space: str = ""
) -> list[int]:
    """Tokens that look like names, with that space before them, and are no subject's."""
    rng = random.Random(0)  # noqa: S311 - a choice of words, not a secret

    def like(token: int) -> bool:
        said = decode([token])
        word = said.removeprefix(space)
        whole = said == space + word and len(word) > 3
        return whole and word.isalpha() and word.istitle() and word not in subjects

    return list(islice(filter(like, rng.sample(range(vocabulary), vocabulary)), count))


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


def _words(pairs: Sequence[Pair], decode: Decode) -> dict[str, Ids]:
    """Tokens that name each subject, as in the first prompt that does."""
    words: dict[str, Ids] = {}
    for pair in pairs:
        if pair.subject not in words:
            for begin, end in _spans(pair, decode)[:1]:
                words[pair.subject] = pair.prompt_ids[begin:end]
    return words


def _tails(said: Ids, decode: Decode) -> list[Ids]:
    """What is left of several words without the first one, the first two and so on."""
    whole = decode(list(said))
    lengths = told(said, decode)[:-1]
    return [said[at:] for at, length in enumerate(lengths, 1) if whole[length:].startswith(" ")]


def _spans(pair: Pair, decode: Decode) -> list[tuple[int, int]]:
    """Where a prompt names its subject: first token, and the one after the last."""
    ids = list(pair.prompt_ids)
    lasts = mentions(ids, pair.subject, decode)
    return [(_begin(ids, last, pair.subject, decode), last + 1) for last in lasts]


def _begin(ids: list[int], last: int, subject: str, decode: Decode) -> int:
    return next(at for at in range(last, -1, -1) if subject in decode(ids[at : last + 1]))


def _put(prompt: Ids, spans: Sequence[tuple[int, int]], said: Ids) -> Ids:
    for begin, end in reversed(spans):
        prompt = (*prompt[:begin], *said, *prompt[end:])
    return prompt
