"""Small widened models on disk, and their room."""

from pathlib import Path

from transformers import AutoConfig

from kdpo_daemon.tuning.room import Room, room_of
from kdpo_daemon.tuning.widen import widen
from tests.tiny_model import save_tiny_model


def room_in(directory: Path) -> Room:
    """Give it; there must be one."""
    room = room_of(AutoConfig.from_pretrained(directory))
    assert room is not None
    return room


def save_roomy_model(directory: Path, *, marks: bool = True) -> Path:
    """Write one of four layers, as few as have one between the carrier and later tokens."""
    plain = save_tiny_model(directory / "plain", width=96, depth=4)
    widen(plain, directory / "roomy", 64, marks=marks)
    return directory / "roomy"
