"""ROME, MEMIT and AlphaEdit: a wanted change of a layer's output, solved into `mlp.down_proj`.

With C the second moment of the module's inputs over prose, keys k (columns of K), wanted changes r
of the output (columns of R), Kp earlier keys and P the projection on what prose hardly uses:

- ROME (arXiv 2202.05262), one fact at a time: dW = r (C^-1 k)^T / (k^T C^-1 k)
- MEMIT (arXiv 2210.07229), a batch at a time: dW = R K^T (lambda C + K K^T)^-1
- AlphaEdit (arXiv 2410.02355), likewise:      dW = R K^T P (Kp Kp^T P + K K^T P + I)^-1

Here keys and changes are rows, (N, d); all is solved in float64.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdpo_daemon.bench.edits.records import Record
from kdpo_daemon.bench.edits.rivals.editor import Bench, Editor, load_weights, save_weights
from kdpo_daemon.bench.edits.rivals.places import Layer, Spots, spots_of
from kdpo_daemon.bench.edits.settings import LocateSettings
from kdpo_daemon.records.teaching import Form, Prompt


class Located(Editor):
    """What the three have in common: edited layers, and prose that should not be disturbed."""

    def __init__(self, bench: Bench, settings: LocateSettings) -> None:
        super().__init__(bench)
        self.settings = settings
        self.layers = [Layer(self.model, share, settings.module) for share in settings.layers]
        ids = self.model.ids(Prompt(Form.COMPLETION, bench.plan.general.prose))
        self.moments = [layer.moment(ids, settings.ridge) for layer in self.layers]

    def edit(self, batch: Sequence[Record], before: Sequence[Record]) -> tuple[int, ...]:
        """Solve a batch into the weights; refused is whose subject is in none of its prompts."""
        del before
        found = [(one.number, spots_of(self.model, one)) for one in batch]
        spots = [one for _, one in found if one is not None]
        if spots:
            self.solve(spots)
        return tuple(number for number, one in found if one is None)

    def solve(self, spots: Sequence[Spots]) -> None:
        """Change the weights so that each record's object is said.

        MEMIT and AlphaEdit: what the last layer should give is found first; then each layer in
        turn takes an equal share of what is still missing.
        """
        last = self.layers[-1]
        changes = []
        for done, one in enumerate(spots, 1):
            changes.append(last.change(one, self.settings))
            self.bench.tell(done, len(spots))
        wanted = last.states(spots) + torch.stack(changes)
        for number, layer in enumerate(self.layers):
            keys = layer.keys(spots)
            missing = (wanted - last.states(spots)) / (len(self.layers) - number)
            add(layer, self.solved(number, keys.double(), missing.double()))

    def solved(self, number: int, keys: Tensor, missing: Tensor) -> Tensor:
        """Change of the number-th layer's weight.  (N, d_in), (N, d_out) -> (d_out, d_in)."""
        raise NotImplementedError

    def save(self, directory: Path) -> None:
        """Write the matrices."""
        save_weights(self._weights(), directory)

    @torch.no_grad()
    def load(self, directory: Path) -> None:
        """Read the matrices."""
        found = load_weights(directory)
        for name, weight in self._weights().items():
            weight.copy_(found[name])

    def _weights(self) -> dict[str, Tensor]:
        return {str(place): one.module.weight for place, one in enumerate(self.layers)}


class Rome(Located):
    """One layer, one fact after the other."""

    def solve(self, spots: Sequence[Spots]) -> None:
        """Solve the facts in turn, each on the model that the one before left."""
        for done, one in enumerate(spots, 1):
            change = self.layers[0].change(one, self.settings)
            (key,) = self.layers[0].keys([one])
            add(self.layers[0], rome(key.double(), change.double(), self.moments[0]))
            self.bench.tell(done, len(spots))


class Memit(Located):
    """Several layers, a batch at a time."""

    def solved(self, number: int, keys: Tensor, missing: Tensor) -> Tensor:
        """MEMIT's change."""
        return memit(keys, missing, self.settings.moment_weight * self.moments[number])


class AlphaEdit(Located):
    """As MEMIT, along directions that prose hardly uses, and remembering earlier keys."""

    def __init__(self, bench: Bench, settings: LocateSettings) -> None:
        super().__init__(bench, settings)
        self._free = [free_directions(one, settings.free) for one in self.moments]
        self._earlier = [torch.zeros_like(one) for one in self.moments]

    def solved(self, number: int, keys: Tensor, missing: Tensor) -> Tensor:
        """AlphaEdit's change."""
        found = alphaedit(keys, missing, self._free[number], self._earlier[number])
        self._earlier[number] += keys.T @ keys
        return found

    def _weights(self) -> dict[str, Tensor]:
        earlier = {f"earlier-{place}": one for place, one in enumerate(self._earlier)}
        return super()._weights() | earlier


@torch.no_grad()
def add(layer: Layer, change: Tensor) -> None:
    """Add a change to a layer's weight, in place."""
    layer.module.weight += change.to(layer.module.weight.dtype)


def rome(key: Tensor, change: Tensor, moment: Tensor) -> Tensor:
    """ROME's dW.  (d_in,), (d_out,), (d_in, d_in) -> (d_out, d_in)."""
    solved = torch.linalg.solve(moment, key)
    return torch.outer(change, solved) / (key @ solved)


def memit(keys: Tensor, missing: Tensor, moment: Tensor) -> Tensor:
    """MEMIT's dW, with lambda C as `moment`.  (N, d_in), (N, d_out) -> (d_out, d_in)."""
    # the matrix is symmetric: X M^-1 = (M^-1 X^T)^T
    found: Tensor = torch.linalg.solve(moment + keys.T @ keys, keys.T @ missing).T
    return found


def alphaedit(keys: Tensor, missing: Tensor, free: Tensor, earlier: Tensor) -> Tensor:
    """AlphaEdit's dW, with Kp Kp^T as `earlier`.  (N, d_in), (N, d_out) -> (d_out, d_in)."""
    matrix = (earlier + keys.T @ keys) @ free + torch.eye(len(free)).to(free)
    found: Tensor = torch.linalg.solve(matrix.T, (missing.T @ keys @ free).T).T
    return found


def free_directions(moment: Tensor, share: float) -> Tensor:
    """P: projection on the eigenvectors of C with less than a share of its mean eigenvalue."""
    values, vectors = torch.linalg.eigh(moment)
    few = vectors[:, values < share * values.mean()]
    return few @ few.T
