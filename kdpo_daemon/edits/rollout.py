"""From what a server reports to what is wanted, in steps.

A rollback, a restart and a half-finished roll-out are all the same case: something else is
reported than is wanted.  Pure; `serving` performs the steps.
"""

import re
from dataclasses import dataclass

from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.serving import ModelCard

_VERSION_NAME = re.compile(r"kdpo-\d{6,}")


@dataclass(frozen=True)
class Reported:
    """What one server says of itself: its list of models, and which version the alias is."""

    cards: tuple[ModelCard, ...]
    served: str | None  #: the version that answers for the alias; None: nobody does


@dataclass(frozen=True)
class Load:
    """Have the adapter loaded under its own version name."""

    adapter: Adapter


@dataclass(frozen=True)
class Promote:
    """Let the alias stand for the adapter."""

    adapter: Adapter


@dataclass(frozen=True)
class Unload:
    """Have a version name forgotten; its files stay."""

    name: str


Step = Load | Promote | Unload


def steps(wanted: Adapter, reported: Reported, keep: frozenset[str] = frozenset()) -> list[Step]:
    """What is left to do on one server, in this order; nothing when it serves what is wanted.

    The wanted version is loaded under its own name before the alias moves, so that a directory
    that the server cannot read leaves the alias where it was.  Other versions go last, but those
    in `keep`: candidates that wait for their verdict.
    """
    loaded = {card.id: card.root for card in reported.cards if _VERSION_NAME.fullmatch(card.id)}
    misplaced = loaded.get(wanted.name, wanted.path) != wanted.path
    todo: list[Step] = []
    if reported.served != wanted.name:
        if misplaced:
            todo.append(Unload(wanted.name))
        if misplaced or wanted.name not in loaded:
            todo.append(Load(wanted))
        todo.append(Promote(wanted))
    return todo + [Unload(name) for name in sorted(loaded) if name not in {wanted.name, *keep}]
