"""Codes of subjects and batches: far from each other."""

import torch

from kdpo_daemon.tuning.codes import new_marks
from kdpo_daemon.tuning.room import Room

ROOM = Room(width=576, side=96, head=64, carrier=10, heads=9, groups=3, power=1.0)


def batches(count: int, size: int) -> list[torch.Tensor]:
    """Marks of so many batches, one after the other, as a model's weights hold them."""
    found: list[torch.Tensor] = []
    for _ in range(count):
        found.append(new_marks(ROOM, size, [0.2 * one for one in found]))
    return found


def test_no_two_of_five_hundred_subjects_have_codes_that_are_much_alike() -> None:
    codes = torch.cat(batches(10, 50), dim=1)[1:]

    assert torch.allclose(codes.norm(dim=0), torch.ones(500))
    assert float((codes.T @ codes - 2 * torch.eye(500)).max()) < 0.7


def test_what_the_second_neuron_of_a_ramp_takes_back_is_no_code() -> None:
    made = new_marks(ROOM, 40, [])
    as_twins_write_them = torch.stack([made, -made], dim=2).flatten(1)

    assert torch.equal(new_marks(ROOM, 1, [as_twins_write_them]), new_marks(ROOM, 1, [made]))


def test_each_mark_has_a_flag() -> None:
    assert torch.equal(new_marks(ROOM, 3, [])[0], torch.ones(3))
    assert new_marks(ROOM, 3, []).shape == (ROOM.block, 3)
