"""Run by the interpreter beside vLLM: its own LoRA product of a layer, and ours, in one process.

Prints JSON: how far they are apart on rows with an adapter, what each did to rows without, and the
time that each took.  Arguments: rank of the adapters, rank of the slots, widths of the slices.
"""

import json
import sys
import time

import torch
from vllm.lora.layers.utils import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from kdpo_daemon.vllm_plugin import lora_linear, lora_ops

SLOTS, INNER = 4, 576
IDS = [11, 12, 13, 14]  # of the adapters in the slots: all are filled
BATCH = [11, 0, 13, 13, 0, 14, 12, 0]  # an adapter's id for each row, 0 for none


def main(rank: int, widest: int, widths: list[int]) -> None:
    chance = torch.Generator().manual_seed(0)
    into = tuple(torch.zeros(SLOTS, 1, widest, INNER).bfloat16() for _ in widths)
    out = tuple(torch.zeros(SLOTS, 1, width, widest).bfloat16() for width in widths)
    for a, b in zip(into, out, strict=True):
        a[:, :, :rank] = torch.randn(SLOTS, 1, rank, INNER, generator=chance) / INNER**0.5
        b[..., :rank] = torch.randn(*b.shape[:3], rank, generator=chance) / rank**0.5
    inputs = torch.randn(len(BATCH), INNER, generator=chance).bfloat16()
    results: dict[str, torch.Tensor] = {}
    times: dict[str, float] = {}
    for whose in ("stock", "ours"):
        if whose == "ours":
            lora_ops.install()
            lora_linear.install()
        wrapper = PunicaWrapperCPU(64, 16, "cpu")
        # as vLLM's runner does on CPU, in prefill and decode alike
        mapping = LoRAMapping(tuple(BATCH), tuple(BATCH), is_prefill=True)
        wrapper.update_metadata(mapping, [*IDS], SLOTS, 1000)

        def product(wrapper: PunicaWrapperCPU = wrapper) -> torch.Tensor:
            output = torch.ones(len(BATCH), sum(widths), dtype=torch.bfloat16)
            wrapper.add_lora_linear(output, inputs, into, out, 1.0, tuple(widths))
            return output.float()

        results[whose] = product()
        began = time.perf_counter()
        for _ in range(5):
            product()
        times[whose] = (time.perf_counter() - began) / 5
    none = torch.tensor(BATCH) == 0
    apart = (results["ours"] - results["stock"])[~none].abs().max()
    told = {
        "apart": float(apart),
        "largest": float(results["stock"][~none].abs().max()),
        "stock_changed_rows_of_none": bool((results["stock"][none] != 1).any()),
        "ours_changed_rows_of_none": bool((results["ours"][none] != 1).any()),
        "stock_s": times["stock"],
        "ours_s": times["ours"],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]])
