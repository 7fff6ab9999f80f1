"""The product with the vocabulary's matrix, which is half of a training step on CPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn


def quicken_head(model: Any) -> None:
    """On CPUs let oneDNN compute a model's head, where torch would take MKL.

    MKL shares so wide and shallow a product out badly: 128 places by 49,152 tokens take 126 ms on
    two AVX2 cores, with oneDNN 66; its gradient takes as long with either (torch 2.13).
    """
    head = model.get_output_embeddings()
    plain = isinstance(head, nn.Linear) and head.weight.device.type == "cpu"
    has = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (has and plain and head.weight.dtype is torch.float32):
        return

    def forward(hidden: Tensor) -> Tensor:
        if not hidden.numel():  # which oneDNN does not take
            return F.linear(hidden, head.weight, head.bias)
        return F.linear(hidden.to_mkldnn(), head.weight, head.bias).to_dense()

    head.forward = forward


@contextmanager
def speaking(model: Any, words: Tensor) -> Iterator[None]:
    """Within, a model's head gives the logits of some tokens alone, (V,) ids, in their order."""
    head = model.get_output_embeddings()
    plain, few = head.forward, words.to(head.weight.device)
    weight, bias = head.weight[few], None if head.bias is None else head.bias[few]
    head.forward = lambda hidden: F.linear(hidden, weight, bias)
    try:
        yield
    finally:
        head.forward = plain
