"""What makes a server unfit for our versions whatever these hold: it is reported and left out.

Too small a rank, a path that it cannot see and missing flags are told by vLLM's own refusals
(`remedies.is_unfit`); these are the rest.
"""

from collections.abc import Iterable

from kdpo_daemon.errors import UnfitError
from kdpo_daemon.records.serving import ModelCard
from kdpo_daemon.serving.aliases import AliasMode
from kdpo_daemon.serving.replica import Replica

#: Slots below which old and new answers cannot stand side by side.  In `reload` mode both have
#: one name, and vLLM takes two ids of one name in a batch for one: a third slot keeps the older
#: from being evicted under its running requests.
LEAST_SLOTS = {AliasMode.PLUGIN: 2, AliasMode.VERSIONED: 2, AliasMode.RELOAD: 3}


def check_base(replica: Replica, cards: Iterable[ModelCard]) -> None:
    """Raise UnfitError if the server does not serve the base model."""
    bases = [card.id for card in cards if card.parent is None]
    if replica.base_model not in bases:
        raise UnfitError(
            f"it serves {', '.join(bases)}, not {replica.base_model}",
            subject=replica.name,
            hint="Correct base_model in the settings, or start vLLM with that --served-model-name",
        )


def check_slots(slots: int | None, name: str, mode: AliasMode) -> None:
    """Raise UnfitError if a server has too few slots for adapters, as far as it tells."""
    if slots is not None and slots < LEAST_SLOTS[mode]:
        raise UnfitError(
            f"it has room for {slots} adapter{'s' if slots > 1 else ''} at a time",
            subject=name,
            hint="Start vLLM with --max-loras 4",
        )
