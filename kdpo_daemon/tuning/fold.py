"""`python -m kdpo_daemon.tuning.fold MODEL ADAPTER OUT`: a version in the weights.

OUT is a copy of the model that says by itself what it says with the version: B A is added to each
edited module's weights.  What keeps facts there is the base's own then and takes no rank, so that
later versions begin anew.  Texts to compare on are read from standard input, token ids in JSON;
`kdpo fold` is this.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from kdpo_daemon.checkpoints import draft_of
from kdpo_daemon.errors import KdpoError, SettingsError
from kdpo_daemon.model_dir import FOLDED, Folded, model_sha256
from kdpo_daemon.orders import MANIFEST, read_manifest
from kdpo_daemon.tuning.checkpoint import Weights, read_adapter
from kdpo_daemon.tuning.widen import rewrite

#: How far a token's logits may be apart, as a share of the mean norm along the text: sums are in
#: another order, and weights are rounded once more.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}
#: Tokens of a text from all over the vocabulary, on which both are compared besides.
_TOKENS = 64


def fold(model: Path, adapter: Path, out: Path, texts: Sequence[Sequence[int]]) -> float:
    """Write a model's copy with a version folded into it, in one step.

    Gives how far its logits are from those of the model with the version, on some texts.

    Raises:
        SettingsError: the version is another model's or keeps nothing in neurons, `out` is there
            already, or the copy says something else.
        AdapterError: the version cannot be read.

    """
    if out.exists():
        raise SettingsError("is there already", subject=str(out), hint="name another directory")
    weights, record = read_adapter(adapter), _record(model, adapter)
    if not weights.neurons:
        raise SettingsError(
            "keeps no facts in neurons: there is nothing to fold",
            subject=str(adapter),
            hint='name a version that was trained with [recipe] method = "neurons"',
        )
    with draft_of(out) as draft:
        rewrite(model, draft, _Added(weights))
        (draft / FOLDED).write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
        apart = _compared(model, weights, draft, texts)
        draft.rename(out)
    return apart


class _Added:
    """Adds to a parameter what a version adds to it."""

    def __init__(self, weights: Weights) -> None:
        parts = zip(weights.modules, weights.rows, weights.columns, strict=True)
        self._parts = {f"{name}.weight": (rows, columns) for name, rows, columns in parts}

    def __call__(self, name: str, weight: Tensor) -> Tensor:
        if name not in self._parts:
            return weight
        rows, columns = self._parts[name]
        return (weight.float() + columns @ rows).to(weight.dtype)


def _record(model: Path, adapter: Path) -> Folded:
    manifest, digest = read_manifest(adapter), model_sha256(model)
    if manifest.base_sha256 != digest:
        raise SettingsError(
            f"was made for another model ({manifest.base_name}) than {model}",
            subject=manifest.adapter,
            hint="set [model] path to that one, or name a version that was made for this one",
        )
    own = hashlib.sha256((adapter / MANIFEST).read_bytes()).hexdigest()
    return Folded(manifest.adapter, own, manifest.base_name, digest, manifest.fact_ids)


def _compared(
    model: Path, weights: Weights, folded: Path, texts: Sequence[Sequence[int]]
) -> float:
    """Give how far logits are apart at most; SettingsError if that is too far."""
    before, dtype = _said(model, weights, texts)
    after, _ = _said(folded, None, texts)
    apart = max(
        float((one - other).norm(dim=-1).max() / one.norm(dim=-1).mean())
        for one, other in zip(before, after, strict=True)
    )
    if not apart <= TOLERANCE[dtype]:  # nor if it is no number
        raise SettingsError(
            f"logits of the folded model are {apart:.2g} apart, at most {TOLERANCE[dtype]:g} may"
            f" be in {str(dtype).removeprefix('torch.')}",
            subject=str(model),
            hint="this is a defect, unless files were changed meanwhile; nothing was written",
        )
    return apart


@torch.no_grad()
def _said(
    directory: Path, weights: Weights | None, texts: Sequence[Sequence[int]]
) -> tuple[list[Tensor], torch.dtype]:
    """Give a model's logits along texts, with a version if there is one, and its precision."""
    net: Any = AutoModelForCausalLM.from_pretrained(directory, dtype="auto", local_files_only=True)
    parts = zip(weights.modules, weights.rows, weights.columns, strict=True) if weights else ()
    for name, rows, columns in parts:
        net.get_submodule(name).register_forward_hook(_adding(rows, columns))
    own = torch.linspace(0, net.config.vocab_size - 1, _TOKENS).long().tolist()
    said = [net(torch.tensor([text])).logits[0].float() for text in (own, *texts)]
    return said, net.dtype


def _adding(rows: Tensor, columns: Tensor) -> Any:
    """Add as a server does: with the version in the model's own precision."""

    def add(_: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
        a, b = (one.to(output.dtype).float() for one in (rows, columns))
        return output + (arguments[0].float() @ a.T @ b.T).to(output.dtype)

    return add


def main(arguments: Sequence[str]) -> int:
    """Fold as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kdpo_daemon.tuning.fold")
    for name in ("model", "adapter", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args(arguments)
    try:
        texts = json.load(sys.stdin)
        apart = fold(given.model.resolve(), given.adapter.resolve(), given.out.resolve(), texts)
    except KdpoError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a person started it
        return 1
    print(f"Logits are {apart:.2g} apart on {len(texts)} texts.")  # noqa: T201 - likewise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
