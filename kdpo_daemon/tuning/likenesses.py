"""Names like a subject's: what its mark is told from.

A subject is read at its last token, and its mark opens wherever that is read alike.  So it is told
from texts that end as it does, or begin as it does where that is all there is of it; and from
names that are almost its own, asked about in the same words.  Those have to stand where the
subject does: with such names after ordinary text alone the regression told the text, not the
name, and one in four real names that share the last word opened the mark
(docs/editing-findings.md, "Almost the same name").  For the same reason subjects are asked about
in other facts' words, too.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from kdpo_daemon.records.teaching import Pair, Prompt
from kdpo_daemon.tuning.given import Decode, Speech
from kdpo_daemon.tuning.seen import Ids
from kdpo_daemon.tuning.tokens import mentions, told, words_of

_ALIKE, _NAMED = 4, 12  #: texts that end as a subject does, alone and after another name
_BEFORE = 12  #: tokens of ordinary text before that end
_NAMES = 32  #: other words put where a text begins with a subject
_KNOWN = 512  #: names that are put before a subject's end, by chance
_LENT, _ALMOST = 8, 12  #: prompts in other facts' words; about names that are almost its own

#: What each token of a vocabulary says.
Vocabulary = Sequence[str]


@dataclass(frozen=True)
class Asked:
    """Prompts up to where they name someone, by the subject whose mark is told by them."""

    own: dict[str, list[Ids]]  #: about the subject, in other facts' words
    almost: dict[str, list[Ids]]  #: about names that are almost its own


def asked_alike(
    pairs: Sequence[Pair], subjects: Collection[str], vocabulary: Vocabulary, speech: Speech
) -> Asked:
    """Ask about subjects, and about names that are almost theirs, in the same words.

    Almost "Lochton House" are "Rickarton House", with another name before its last words, and
    "Lochhead House", with another piece in one place.

    Args:
        pairs: whose prompts they are; prompts that name one of their subjects are left out.
        subjects: which are wanted.
        vocabulary: the model's.
        speech: likewise.

    """
    words = words_of(pairs, speech.decode)
    pool = _Pool(_names(vocabulary, words, _KNOWN, " "), _kinds(vocabulary))
    rng = random.Random(0)  # noqa: S311 - a choice of words, not a secret
    found = Asked({}, {})
    for subject in filter(subjects.__contains__, words):
        own, lent = _prompts(subject, pairs, rng)
        found.own[subject] = [ids for one in lent for ids in _up_to(subject, one, speech)]
        almost: list[Ids] = []
        for name in _almost(words[subject], pool, speech.decode, rng):
            one = rng.choice(lent if lent and rng.random() < 1 / 3 else own)
            about = replace(one, text=one.text.replace(subject, name))
            almost += _up_to(name, about, speech)
        found.almost[subject] = _of_nobody(almost, words, speech.decode)
    return found


def ends_alike(
    pairs: Sequence[Pair],
    subjects: Collection[str],
    texts: Sequence[Ids],
    vocabulary: Vocabulary,
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
    words = words_of(pairs, decode)
    names, kinds = _names(vocabulary, words, _KNOWN, " "), _kinds(vocabulary)
    digits = {token: some for token, some in kinds.items() if vocabulary[token].isdecimal()}
    rng = random.Random(0)  # noqa: S311 - a choice of words, not a secret
    found: dict[str, list[Ids]] = {}
    for number, subject in enumerate(filter(subjects.__contains__, words)):
        tails = _tails(words[subject], decode)
        others = rng.sample(names, min(_NAMED, len(names)))
        befores: list[Ids] = [()] * _ALIKE + [(name,) for name in others]
        alike = [
            (*before, *tails[turn % len(tails)])
            for turn, before in enumerate(befores if tails else [])
        ]
        alike += _renumbered(words[subject], digits, rng)
        tried = [
            (*texts[(number + turn) % len(texts)][:_BEFORE], *end)
            for turn, end in enumerate(alike)
        ]
        found[subject] = _of_nobody(tried, words, decode)
    return found


def begins_alike(
    pairs: Sequence[Pair], vocabulary: Vocabulary, decode: Decode
) -> dict[str, list[Ids]]:
    """Give texts that begin as prompts do that begin with subjects of one token, but for those.

    Such a subject is read at the token after it (`readings.heard`): told from no other "'s" its
    mark opens at any country's.  The other words are tokens of chance that look like names.
    """
    after: dict[str, set[int]] = {}
    for pair in pairs:
        if len(pair.prompt_ids) > 1 and 0 in mentions(pair.prompt_ids, pair.subject, decode):
            after.setdefault(pair.subject, set()).add(pair.prompt_ids[1])
    known = {pair.subject for pair in pairs}
    names = _names(vocabulary, known, _NAMES) if after else []
    return {
        subject: [(name, second) for second in sorted(seconds) for name in names]
        for subject, seconds in after.items()
    }


@dataclass(frozen=True)
class _Pool:
    """What other names are made of."""

    names: Sequence[int]  #: tokens
    kinds: Mapping[int, Sequence[int]]  #: tokens that look like each other


def _prompts(
    subject: str, pairs: Sequence[Pair], rng: random.Random
) -> tuple[list[Prompt], list[Prompt]]:
    """Give the prompts that teach a subject, and some of other facts with it put in."""
    own = [Prompt(one.form, one.prompt) for one in pairs if one.subject == subject]
    lent = dict.fromkeys(
        Prompt(one.form, one.prompt.replace(one.subject, subject))
        for one in pairs
        if one.subject != subject
    )
    others = [one for one in lent if one not in own]
    return own, rng.sample(others, min(_LENT, len(others)))


def _almost(said: Ids, pool: _Pool, decode: Decode, rng: random.Random) -> list[str]:
    """Give names that are almost the one which those tokens say."""
    tails = _tails(said, decode) if pool.names else []
    found: list[str] = []
    for turn in range(_ALMOST):
        if turn % 2 and tails:
            name: Ids = (rng.choice(pool.names), *rng.choice(tails))
        else:
            name = _respelled(said, pool.kinds, rng)
        found.append(decode([*name]).strip())
    return found


def _respelled(said: Ids, kinds: Mapping[int, Sequence[int]], rng: random.Random) -> Ids:
    """Put another piece in one place: not the last, which differs by itself, if there are more."""
    places = [at for at, token in enumerate(said) if token in kinds]
    places = [at for at in places if at < len(said) - 1] or places
    if not places:
        return said
    at = rng.choice(places)
    return (*said[:at], rng.choice(kinds[said[at]]), *said[at + 1 :])


def _up_to(name: str, prompt: Prompt, speech: Speech) -> list[Ids]:
    """Cut a prompt where its mark would be heard (`readings.heard`); none if it names nobody."""
    ids = speech.ask(prompt)
    named = mentions(ids, name, speech.decode)
    return [ids[: max(1, named[-1]) + 1]] if named and len(ids) > 1 else []


def _of_nobody(texts: Sequence[Ids], subjects: Collection[str], decode: Decode) -> list[Ids]:
    """Give those texts that name none of the subjects."""
    return [one for one in texts if not any(name in decode([*one]) for name in subjects)]


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


def _kinds(vocabulary: Vocabulary) -> dict[int, list[int]]:
    """Give the tokens that names are made of, each with those that could stand for it.

    They are how words that are names begin, how such words go on, and numbers as long as each
    other.
    """
    alike: dict[str, list[int]] = {}
    for token, says in enumerate(vocabulary):
        word = says.removeprefix(" ")
        if word.isdecimal():
            alike.setdefault(f"{len(says)} digits", []).append(token)
        elif len(word) > 1 and word.isalpha() and word.istitle():
            alike.setdefault("begins" if says == word else "begins after a space", []).append(
                token
            )
        elif len(word) > 1 and word.isalpha() and says.islower() and says == word:
            alike.setdefault("goes on", []).append(token)
    return {token: some for some in alike.values() for token in some}


def _names(
    vocabulary: Vocabulary, subjects: Collection[str], count: int, space: str = ""
) -> list[int]:
    """Tokens that look like names, with that space before them, and are no subject's."""
    rng = random.Random(0)  # noqa: S311 - a choice of words, not a secret

    def like(token: int) -> bool:
        word = vocabulary[token].removeprefix(space)
        whole = vocabulary[token] == space + word and len(word) > 3
        return whole and word.isalpha() and word.istitle() and word not in subjects

    return list(islice(filter(like, rng.sample(range(len(vocabulary)), len(vocabulary))), count))


def _tails(said: Ids, decode: Decode) -> list[Ids]:
    """What is left of several words without the first one, the first two and so on."""
    whole = decode(list(said))
    lengths = told(said, decode)[:-1]
    return [said[at:] for at, length in enumerate(lengths, 1) if whole[length:].startswith(" ")]
