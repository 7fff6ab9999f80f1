"""The room of a widened model on disk."""

from pathlib import Path

from transformers import AutoConfig

from kdpo_daemon.tuning.room import Room, room_of


def room_in(directory: Path) -> Room:
    """Give it; there must be one."""
    room = room_of(AutoConfig.from_pretrained(directory))
    assert room is not None
    return room
