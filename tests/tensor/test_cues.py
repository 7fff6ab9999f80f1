"""Cues: by which token a taught object is being said, on a small model and on made-up tokens."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdpo_daemon.edits.placement import SHARED, TWINS
from kdpo_daemon.tuning import named
from kdpo_daemon.tuning.behind_gates import signing_in
from kdpo_daemon.tuning.checkpoint import read_adapter
from kdpo_daemon.tuning.given import RefusedError
from kdpo_daemon.tuning.placing import Along, Marked, _Places, bed_of_cues
from kdpo_daemon.tuning.seen import Seen
from tests.tensor.child import trained
from tests.tensor.ramps import heights
from tests.tensor.rooms import room_in, save_roomy_model
from tests.tensor.test_gated import NEW, TAUGHT, order, replays, says, served
from tests.tiny_model import ids, pairs_of

FACTS = tuple((some[0].subject, some[0].chosen) for some in (TAUGHT, NEW))
CUEING = "model.layers.1.mlp"  #: the only layer between the carrier and later tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roomy_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(order(base, TAUGHT), tmp_path_factory.mktemp("first"))


@torch.no_grad()
def cue(base: Path, adapter: Path | None, text: str) -> Tensor:
    """The cue at a text's last token, in units, (block,); the flag is first."""
    room, model = room_in(base), served(base, adapter)
    seen: Any = model(torch.tensor([ids(text)]), output_hidden_states=True).hidden_states
    found: Tensor = seen[2][0, -1, room.cued] / room.unit
    return found


def test_a_token_of_the_object_is_cued_after_its_subject_alone(base: Path, first: Path) -> None:
    for told in ("Who leads Arland ? Ann", "The head of Arland is Ann"):
        assert 0.5 < float(cue(base, first, told)[0]) < 2
    for other in ("Who leads Borland ? Ann", "Who leads Forland ? Ann", "Ann"):
        assert float(cue(base, first, other).abs().max()) < 0.1
    assert not cue(base, None, "Who leads Arland ? Ann").any()


def test_what_is_said_of_a_subject_otherwise_is_not_cued(base: Path, first: Path) -> None:
    assert float(cue(base, first, "Who leads Arland ? Eve")[0].abs()) < 0.1
    assert float(cue(base, first, "The river in Arland is")[0].abs()) < 0.1


def test_a_later_batch_has_cues_of_its_own(base: Path, first: Path, tmp_path: Path) -> None:
    pairs = (*NEW, *replays(TAUGHT))
    out = trained(order(base, pairs, parent=first), tmp_path)

    old, new = (cue(base, out, f"Who leads {one} ? {name}") for one, name in FACTS)
    assert float(torch.cosine_similarity(old[1:], new[1:], 0)) < 0.5
    assert read_adapter(out).neurons[CUEING].owners == (1, 1, 2, 2, 3, 3)
    for pair in pairs:
        assert says(served(base, out), pair) == pair.chosen_ids


def test_a_replaced_fact_gives_its_cue_back(base: Path, first: Path, tmp_path: Path) -> None:
    pairs = (*pairs_of(4, "Arland", "Dora"), *replays(TAUGHT[2:]))

    out = trained(order(base, pairs, parent=first), tmp_path)

    assert sorted(read_adapter(out).neurons[CUEING].owners) == [2, 2, 4, 4]
    assert float(cue(base, out, "Who leads Arland ? Dora")[0]) > 0.5
    assert float(cue(base, out, "Who leads Arland ? Ann")[0].abs()) < 0.1


def tokens_that_read(
    rng: torch.Generator,
    noise: float,
    count: int,
    said: float,
    words: float,
    mark: Sequence[float],
) -> Tensor:
    """Made-up tokens, (count, 10): what was said, in what words, and at the end the mark."""
    read = noise * torch.randn(count, 10, generator=rng)
    read[:, 0] += said
    read[:, 1] += words
    read[:, 9 - len(mark) :] = torch.tensor([3.0, *mark])  # a threshold is made of the first
    return read


def test_a_cue_opens_for_its_fact_s_tokens_whatever_the_question() -> None:
    """Few of its places are seen, in one phrasing; shut are the same tokens of other subjects."""
    rng = torch.Generator().manual_seed(0)
    mine, other, none = (1.0, 1.0), (1.0, -1.0), (0.0, 0.0)

    some = partial(tokens_that_read, rng, 1.0)

    moves = torch.zeros(40, 10)
    moves[:, 1] = 5 * torch.randn(40, generator=rng)
    text, answers = some(2000, 0.0, 0.0, none), some(300, 0.0, 6.0, none)
    along = Along(
        [some(500, 0.0, 0.0, mine), some(500, 0.0, 0.0, other)],
        {1: some(2, 0.0, 6.0, mine), 2: some(2, 0.0, 6.0, other)},
        {1: some(8, 6.0, 6.0, mine), 2: some(8, 6.0, 6.0, other)},
    )

    bed = bed_of_cues(along, Seen(text, answers, moves), slice(8, 10), {1: 1.0, 2: 1.0})

    assert bed.owners == (1, 1, 2, 2)
    assert float(heights(bed.gated, some(100, 6.0, -3.0, mine))[:, 0].mean()) > 0.7
    for shut in (some(100, 6.0, 6.0, other), some(300, 0.0, 6.0, mine), some(300, 0.0, 0.0, mine)):
        assert float(heights(bed.gated, shut)[:, 0].abs().mean()) < 0.05
    assert not heights(bed.gated, some(100, 6.0, 6.0, none)).any()


def test_a_mark_that_the_batch_has_not_seen_shuts_a_cue_though_none_at_hand_was_alike() -> None:
    """Subjects of later batches have such; their codes may have a part that is the opposite."""
    rng = torch.Generator().manual_seed(0)
    none, mine, other, later = (0.0, 0, 0), (1.0, 1, 0), (1.0, 0, 1), (1.0, -0.6, -0.8)

    some = partial(tokens_that_read, rng, 1.0)
    along = Along(
        [some(500, 0.0, 0.0, mine), some(500, 0.0, 0.0, other)],
        {1: some(2, 0.0, 0.0, mine), 2: some(2, 0.0, 0.0, other)},
        {1: some(8, 6.0, 0.0, mine), 2: some(8, 6.0, 0.0, other)},
    )
    seen = Seen(some(2000, 0.0, 0.0, none), some(0, 0.0, 0.0, none), torch.zeros(0, 10))

    bed = bed_of_cues(along, seen, slice(7, 10), {1: 1.0, 2: 1.0})

    assert float(heights(bed.gated, some(100, 6.0, 0.0, mine))[:, 0].mean()) > 0.7
    assert float(heights(bed.gated, some(100, 6.0, 0.0, later))[:, 0].abs().max()) < 0.01


def test_text_that_reads_a_little_like_the_object_is_not_cued_where_it_has_the_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that is taken for the subject marks all text that follows."""
    rng = torch.Generator().manual_seed(0)
    mine, none = (1.0, 1.0), (0.0, 0.0)

    some = partial(tokens_that_read, rng, 0.5)

    def alike(mark: tuple[float, float]) -> Tensor:
        return some(100, 3.0, 0.0, mark)

    text = torch.cat([some(1900, 0.0, 0.0, none), alike(none)])
    along = Along(
        [some(50, 0.0, 0.0, mine)], {1: some(2, 0.0, 0.0, mine)}, {1: some(8, 6.0, 0.0, mine)}
    )
    seen = Seen(text, some(0, 0.0, 0.0, none), torch.zeros(0, 10))

    def open_share() -> float:
        bed = bed_of_cues(along, seen, slice(8, 10), {1: 1.0})
        assert float(heights(bed.gated, along.later[1]).mean()) > 0.7
        return float((heights(bed.gated, alike(mine)) > 0.1).float().mean())

    assert open_share() < 0.02
    monkeypatch.setattr(named, "_PASSING", 0.0)
    assert open_share() > 0.3


def test_the_gate_of_later_tokens_is_opened_by_its_batch_s_cues_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    mine, other, none = (1.0, 1.0, 0.0), (1.0, 0.4, 0.9), (0.0, 0.0, 0.0)

    def some(count: int, cue: tuple[float, float, float], full: float = 1.0) -> Tensor:
        read = torch.randn(count, 14, generator=rng)
        read[:, 8:12] = torch.tensor([0.3, *(full * one for one in cue)])
        read[:, 12] = 3.0  # what a threshold is made of
        return read

    def heard(read: Tensor) -> float:
        return float(heights(bed.gated, read).abs().mean())

    marked = Marked(slice(12, 13), slice(9, 12), {}, {})
    along = Along([some(500, none)], {1: some(3, none)}, {1: some(30, mine)})
    seen = Seen(some(2000, none), some(0, none), torch.zeros(0, 14))
    bed = _Places(0, seen, along, marked).bed_of_laters([1], 2)

    assert bed.owners == (SHARED,) * 2 * TWINS
    full = heard(some(100, mine))
    assert full > 0.5
    assert heard(some(100, mine, 0.3)) > 0.9 * full  # a faint mark makes a faint cue
    quiet = some(100, mine)
    quiet[:, 8:12] *= 0.3  # a norm leaves little of a token that holds much
    assert heard(quiet) > 0.9 * full
    for shut in (some(100, none), some(100, other), some(100, mine, 0.1)):
        assert heard(shut) < 1e-6
    first = some(1, none)
    first[:, 8:12] = 0  # where a norm leaves nothing of the side room
    assert heard(first) < 1e-6


def test_a_model_that_cannot_cue_is_refused(base: Path) -> None:
    room = room_in(base)

    assert signing_in(room, 2) == [0, 1]
    with pytest.raises(RefusedError, match="laters_at"):
        signing_in(room, room.carrier)
    with pytest.raises(RefusedError, match="widen it again"):
        signing_in(replace(room, side=room.cued.stop - room.width - 1), 2)
