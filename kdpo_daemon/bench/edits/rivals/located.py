"""ROME, MEMIT and AlphaEdit: facts are written where their subjects end.

The key k of a fact is what enters one linear module at the subject's last token of a taught
completion.  What should leave there is searched by gradient descent (`wanted`); the change of the
weights that brings it about is solved for (`closed`).  Unlike the papers' code no random texts are
put before the prompts, and C is taken over a few thousand tokens of the model's own answers to
general prompts that do not judge; it is taken once, before the first batch, and not timed.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals import closed
from kdpo_daemon.bench.edits.rivals.editor import (
    Bench,
    Editor,
    load_weights,
    per_lesson_mean,
    save_weights,
)
from kdpo_daemon.bench.edits.rivals.finetune import step
from kdpo_daemon.bench.edits.rivals.model import Model, layer_at
from kdpo_daemon.bench.edits.rivals.spots import Changed, Located, located, read, second_moments
from kdpo_daemon.bench.edits.settings import AlphaEditSettings, MemitSettings, RomeSettings


class Written(Editor):
    """Writes into linear modules of some layers, from the lowest to the highest."""

    def __init__(self, bench: Bench, settings: RomeSettings) -> None:
        super().__init__(bench)
        self.values = settings
        depth = self.model.net.config.num_hidden_layers
        numbers = sorted({min(layer_at(one, depth), depth - 1) for one in settings.layers})
        self.linears = [self.model.module(one / depth, settings.module) for one in numbers]
        self.moments = self._moments()

    def found(self, batch: Sequence[Record]) -> tuple[list[Located], tuple[int, ...]]:
        """Find the subjects of a batch; also gives the records that have none."""
        spots = {one.number: located(self.model, one) for one in batch}
        refused = tuple(number for number, one in spots.items() if one is None)
        return [one for one in spots.values() if one], refused

    @torch.no_grad()
    def add(self, linear: nn.Linear, change: Tensor) -> None:
        """Add a change (O, I) to a module's weight."""
        linear.weight += change.to(linear.weight)

    def save(self, directory: Path) -> None:
        """Write the matrices."""
        save_weights(self.kept(), directory)

    @torch.no_grad()
    def load(self, directory: Path) -> None:
        """Read the matrices."""
        said = load_weights(directory)
        for name, tensor in self.kept().items():
            tensor.copy_(said[name])

    def kept(self) -> dict[str, Tensor]:
        """Give the matrices by name."""
        return {f"weight-{place}": one.weight for place, one in enumerate(self.linears)}

    def _moments(self) -> list[Tensor]:
        """Give C of each module with its ridge; from the file, if an earlier process took it."""
        file = self.bench.folder / "moments.safetensors"
        if not file.exists():
            prompts = self.bench.plan.general.keep[: self.values.texts]
            tokens, tell = self.bench.plan.max_tokens, self.bench.tell
            found = second_moments(self.model, self.linears, prompts, tokens, tell)
            draft = file.with_suffix(".draft")
            # rounded, so that this process goes on with what a later one reads
            save_file({f"{place}": one.float() for place, one in enumerate(found)}, draft)
            draft.replace(file)
        said = load_file(file)
        device = self.model.device
        return [said[f"{place}"].to(device).double() for place in range(len(said))]


class Rome(Written):
    """ROME: facts in turn, each by a change of rank one."""

    def __init__(self, bench: Bench, settings: RomeSettings) -> None:
        super().__init__(bench, settings)
        self.moments = [ridged(one, settings.ridge) for one in self.moments]

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Write the facts of a batch in turn; earlier ones are not looked at again."""
        del before
        facts, refused = self.found(batch)
        for done, fact in enumerate(facts, 1):
            for linear, moment in zip(self.linears, self.moments, strict=True):
                key, value = read(self.model, [fact.key], linear, linear)
                lacks = wanted(self.model, linear, fact, value[0], self.values)
                self.add(linear, closed.rank_one(lacks.double(), key[0].double(), moment))
            self.bench.tell(done, len(facts))
        return refused


class Spread(Written, ABC):
    """What MEMIT and AlphaEdit share: a batch at once, what is lacking shared among layers.

    What should leave the highest layer is searched once; each layer from below brings an equal
    part of what is still lacking there (arXiv 2210.07229, section 4.3).
    """

    def __init__(self, bench: Bench, settings: RomeSettings) -> None:
        super().__init__(bench, settings)
        names = {id(module): name for name, module in self.model.net.named_modules()}
        highest = names[id(self.linears[-1])].removesuffix(f".{settings.module}")
        self._layer: nn.Module = self.model.net.get_submodule(highest)

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Write a batch; earlier ones are not looked at again."""
        del before
        facts, refused = self.found(batch)
        if not facts:
            return refused
        keys = [one.key for one in facts]
        states = read(self.model, keys, self.linears[-1], self._layer)[1]
        goals = []
        for done, (fact, state) in enumerate(zip(facts, states, strict=True), 1):
            goals.append(state + wanted(self.model, self.linears[-1], fact, state, self.values))
            self.bench.tell(done, len(facts))
        for place, linear in enumerate(self.linears):
            into, now = read(self.model, keys, linear, self._layer)
            part = (torch.stack(goals) - now) / (len(self.linears) - place)
            self.add(linear, self.change(place, part.T.double(), into.T.double()))
        return refused

    @abstractmethod
    def change(self, place: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Give the change of one module's weight.  (O, N), (I, N) -> (O, I)."""


class Memit(Spread):
    """MEMIT."""

    def __init__(self, bench: Bench, settings: MemitSettings) -> None:
        super().__init__(bench, settings)
        self.moments = [settings.weight * ridged(one, settings.ridge) for one in self.moments]

    def change(self, place: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Solve least squares against plain text."""
        return closed.least_squares(residuals, keys, self.moments[place])


class AlphaEdit(Spread):
    """AlphaEdit: remembers the keys of earlier batches, and leaves what text uses alone."""

    def __init__(self, bench: Bench, settings: AlphaEditSettings) -> None:
        super().__init__(bench, settings)
        self._damping = settings.damping
        self._projectors = [closed.null_directions(one, settings.null) for one in self.moments]
        # in the model's own precision, as they are saved: a run that goes on has the same
        self._earlier = [one.weight.new_zeros(one.in_features, 0) for one in self.linears]

    def change(self, place: int, residuals: Tensor, keys: Tensor) -> Tensor:
        """Solve within the null directions, and remember the keys."""
        before, projector = self._earlier[place].double(), self._projectors[place]
        # layers below are written already, so that these are the keys of the model to come
        self._earlier[place] = torch.cat([before, keys], dim=1).float()
        return closed.projected(residuals, keys, before, projector, self._damping)

    def save(self, directory: Path) -> None:
        """Write the matrices and the keys so far."""
        keys = {f"keys-{place}": one for place, one in enumerate(self._earlier)}
        save_weights(self.kept() | keys, directory)

    def load(self, directory: Path) -> None:
        """Read the matrices and the keys so far."""
        super().load(directory)
        said = load_weights(directory)
        places = range(len(self._earlier))
        self._earlier = [said[f"keys-{place}"].to(self.model.device) for place in places]


def ridged(moment: Tensor, ridge: float) -> Tensor:
    """C plus a share of its mean diagonal, so that it can be inverted.  (I, I) -> (I, I)."""
    return moment + ridge * moment.diagonal().mean() * torch.eye(len(moment)).to(moment)


def wanted(
    model: Model, module: nn.Module, fact: Located, state: Tensor, values: RomeSettings
) -> Tensor:
    """Search what to add where a subject ends, so that its new object follows; (O,).

    Adam on (arXiv 2202.05262, equation 4, with the weight decay of its code)

        -log p(object, end) + kl * KL(now || before at "{subject} is a") + decay |d| / |s|^2

    the first term a mean over tokens and taught phrasings.  d is held within `clamp` lengths of
    the state s (O,), to which it adds.
    """
    changed = Changed(model, module, [*fact.taught, fact.essence])
    change = torch.zeros_like(state, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=values.rate)
    size = float(state.norm())
    before: Tensor | None = None
    for _ in range(values.steps):
        logprobs, spot, tokens = changed.logprobs(change)
        taught = spot < len(fact.taught)
        essence = logprobs[~taught][0]
        before = essence.detach() if before is None else before
        said = logprobs[taught].gather(1, tokens[taught, None])[:, 0]
        loss = -per_lesson_mean(said, spot[taught], len(fact.taught)).mean()
        loss = loss + values.kl * (essence.exp() * (essence - before)).sum()
        loss = loss + values.decay * change.norm() / size**2
        if float(loss.detach()) < values.stop:
            break
        step(optimizer, loss)
        hold(change, values.clamp * size)
    return change.detach()


@torch.no_grad()
def hold(change: Tensor, most: float) -> None:
    """Shorten a change (O,) to a length, in place, if it is longer."""
    change *= min(1.0, most / max(float(change.norm()), 1e-12))
