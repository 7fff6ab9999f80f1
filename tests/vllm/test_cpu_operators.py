"""Our LoRA operators for CPU against vLLM's own, inside vLLM; starts no server."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.servers import serve_python

pytestmark = pytest.mark.vllm

SCRIPT = Path(__file__).with_name("cpu_operators.py")


@pytest.mark.parametrize("widths", ["576", "1536 1536", "576 192 192"])
def test_a_mixed_batch_gets_what_vllm_computes_and_rows_of_none_stay(widths: str) -> None:
    """For plain, gate_up and qkv layers; an adapter of rank 16 in slots of 64."""
    command = [str(serve_python()), str(SCRIPT), "16", "64", *widths.split()]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=SCRIPT.parent)

    told = json.loads(ended.stdout)

    assert told["largest"] > 1
    assert told["apart"] <= 0.01 * told["largest"]  # bfloat16 has eight bits
    assert not told["ours_changed_rows_of_none"]
    assert told["stock_changed_rows_of_none"]  # the defect; should this fail, vLLM has mended it
