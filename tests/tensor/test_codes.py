"""Codes of subjects: far from each other, and farther from other batches' in what tells those."""

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


def test_subjects_of_a_batch_have_a_part_in_common_that_is_far_from_other_batches() -> None:
    made = batches(10, 50)

    families = [one[1 : 1 + ROOM.family] for one in made]
    for one in families:
        assert torch.equal(one, one[:, :1].expand_as(one))
    first = torch.stack([one[:, 0] / one[:, 0].norm() for one in families])
    assert float((first @ first.T - 2 * torch.eye(10)).max()) < 0.6


def test_no_two_of_five_hundred_subjects_have_codes_that_are_much_alike() -> None:
    codes = torch.cat(batches(10, 50), dim=1)[1:]

    assert torch.allclose(codes.norm(dim=0), torch.ones(500))
    assert float((codes.T @ codes - 2 * torch.eye(500)).max()) < 0.7


def test_each_mark_has_a_flag() -> None:
    assert torch.equal(new_marks(ROOM, 3, [])[0], torch.ones(3))
    assert new_marks(ROOM, 3, []).shape == (ROOM.block, 3)
