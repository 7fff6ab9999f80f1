"""What the MLPs that mark read where subjects are named, and where something like them is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdpo_daemon.records.teaching import Form, Pair, Prompt
from kdpo_daemon.tuning.deep import named_after_text
from kdpo_daemon.tuning.given import Decode, Speech
from kdpo_daemon.tuning.imagined import ends
from kdpo_daemon.tuning.likenesses import asked_alike, begins_alike, ends_alike
from kdpo_daemon.tuning.model import EditedModel
from kdpo_daemon.tuning.room import Room
from kdpo_daemon.tuning.seen import Around, Ids, Texts, each
from kdpo_daemon.tuning.tokens import mentions


@dataclass(frozen=True)
class Reading:
    """What an MLP reads along texts, and where they name subjects."""

    others: Tensor  #: (N, d) tokens that are no subject's last
    places: dict[str, Tensor]  #: (P, d) of each subject
    #: (P, d) where a text ends, or begins, as each subject does, and names none
    alike: dict[str, Tensor] = field(default_factory=dict)
    #: (P, d) where a name is almost each subject's, in the same words
    almost: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """Which subjects are taught now, and what names them and others."""

    pairs: Sequence[Pair]  #: all facts', with some that were taught before
    taught: Collection[str]
    speech: Speech  #: the model's
    asked: Texts  #: pairs' sequences and answers that must not change, in which they may be named

    @property
    def subjects(self) -> list[str]:
        """All of them, in the pairs' order."""
        return list(dict.fromkeys(pair.subject for pair in self.pairs))

    @property
    def mine(self) -> list[Pair]:
        """The pairs about subjects that are taught now."""
        return [pair for pair in self.pairs if pair.subject in self.taught]


def read_names(model: EditedModel, room: Room, named: Named, around: Around) -> list[Reading]:
    """Look at where all subjects are named, and at what those of `taught` are told from.

    Args:
        model: with the marks that there are.
        room: the model's.
        named: the subjects.
        around: the texts that are said besides, in which subjects may be named too.

    Gives what the MLP of each layer that marks reads.

    """
    return _with_likenesses(model, room, named, around, _along(model, room, named, around))


def heard(at: Sequence[int], text: Sequence[int], *, asked: bool) -> list[int]:
    """Give the places of marks that are heard.

    No head hears one at a text's first token, which all attend to anyhow: a prompt that begins
    with a subject of one token is marked at the second.  In what the model says by itself that
    may be any token.
    """
    if not asked:
        return [place for place in at if place]
    return sorted({max(1, place) for place in at if place or len(text) > 1})


def _with_likenesses(
    model: EditedModel,
    room: Room,
    named: Named,
    around: Around,
    readings: Sequence[Reading],
) -> list[Reading]:
    """Add where else the taught subjects are named, and where names are like theirs."""
    speech, pairs, texts = named.speech, named.pairs, around.texts
    vocabulary = [speech.decode([one]) for one in range(model.model.config.vocab_size)]
    asked = asked_alike(pairs, named.taught, vocabulary, speech)
    begins = speech.ask(Prompt(Form.COMPLETION, ""))
    own = _merged(named_after_text(named.mine, texts, begins, speech.decode), asked.own)
    alike = _merged(
        ends_alike(pairs, named.taught, texts, vocabulary, speech.decode),
        begins_alike(named.mine, vocabulary, speech.decode),
    )
    looked = (_read_ends(model, room, some) for some in (own, alike, asked.almost))
    return [
        Reading(one.others, _added(one.places, more), like, almost)
        for one, more, like, almost in zip(readings, *looked, strict=True)
    ]


def _merged(*parts: Mapping[str, Sequence[Ids]]) -> dict[str, list[Ids]]:
    subjects = dict.fromkeys(subject for part in parts for subject in part)
    return {one: [ids for part in parts for ids in part.get(one, ())] for one in subjects}


def _along(model: EditedModel, room: Room, named: Named, around: Around) -> list[Reading]:
    subjects = named.subjects
    others: list[list[Tensor]] = [[] for _ in room.layers]
    places: list[dict[str, list[Tensor]]] = [{one: [] for one in subjects} for _ in room.layers]

    def note(text: Ids, inputs: Sequence[Tensor], *, asked: bool) -> None:
        states = _named(text, subjects, named.speech.decode)
        free = torch.ones(len(text), dtype=torch.bool)
        free[[place for at in states.values() for place in at]] = False
        states = {one: heard(at, text, asked=asked) for one, at in states.items()}
        free[[place for at in states.values() for place in at]] = False
        for layer, read in enumerate(inputs):
            others[layer].append(read[free])
            for subject, at in states.items():
                places[layer][subject].append(read[at])

    for number, inputs in each(model, room.layers, named.asked):
        note(named.asked.ids[number], inputs, asked=True)
    along = zip(*(around.by_text(layer) for layer in room.layers if around.texts), strict=True)
    for text, said in zip(around.texts, along, strict=True):
        note(text, said, asked=False)
    return [
        Reading(torch.cat(rest), {one: torch.cat(at) for one, at in states.items() if at})
        for rest, states in zip(others, places, strict=True)
    ]


def _read_ends(
    model: EditedModel, room: Room, texts: Mapping[str, Sequence[Ids]]
) -> list[dict[str, Tensor]]:
    """What each layer reads at the last tokens of some texts, (P, d) by subject."""
    read = ends(model, room.layers, [text for some in texts.values() for text in some])
    counts = [len(some) for some in texts.values()]
    each_layer = [zip(texts, torch.split(one, counts), strict=True) for one in read]
    return [{subject: some for subject, some in one if len(some)} for one in each_layer]


def _added(some: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add more places, (P, d), to some subjects' ones."""
    return {
        one: torch.cat([places, more[one]]) if one in more else places
        for one, places in some.items()
    }


def _named(text: Sequence[int], subjects: Sequence[str], decode: Decode) -> dict[str, list[int]]:
    """Where subjects are named."""
    whole = decode(list(text))
    found = {one: mentions(text, one, decode) for one in subjects if one in whole}
    return {one: at for one, at in found.items() if at}
