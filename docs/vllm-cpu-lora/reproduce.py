"""Shows on stock vLLM (CPU) that base-model requests are answered with an adapter's weights.

    python reproduce.py --model DIR [--max-loras 1] [--loads 1]

Run it with the interpreter of an environment that has vLLM for CPU; the model is any small
Llama-like one.  Starts a server, loads `--loads` adapters of
random weights one after another, each under a name of its own, unloading the one before, and then
asks the base model and the last adapter the same questions: each alone, and both at the same time.
Exit status 1 if a base-model request got another answer than the base model's own.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

QUESTIONS = [
    f"The capital of {name} is"
    for name in ("France", "Italy", "Spain", "Norway", "Japan", "Egypt", "Peru", "Chad")
]
RANK = 16


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--loads", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(asked.model, asked.max_loras, Path(folder))
        try:
            server.wait()
            return compare(server, asked.model, asked.loads, Path(folder))
        finally:
            server.stop()


def compare(server: "Server", model: Path, loads: int, folder: Path) -> int:
    alone: dict[str, list[str]] = {}
    name = ""
    for number in range(1, loads + 1):
        if name:
            server.post("/v1/unload_lora_adapter", {"lora_name": name})
        name, path = f"random-{number}", folder / f"random-{number}"
        write_adapter(path, model, number)
        server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
        alone |= server.answers([name])
    alone |= server.answers(["base"])
    together = server.answers(["base", name])["base"]
    print(f"--max-loras {server.max_loras}, adapters loaded since the start: {loads}")
    print(f"of {len(QUESTIONS)} base-model requests beside requests for {name}:")
    for whose, said in alone.items():
        same = sum(one == other for one, other in zip(together, said, strict=True))
        print(f"  {same} got the answer of {whose}{' (unloaded)' if gone(whose, name) else ''}")
    return int(together != alone["base"])


def gone(whose: str, loaded: str) -> bool:
    return whose not in {"base", loaded}


class Server:
    """A vLLM without plugins."""

    def __init__(self, model: Path, max_loras: int, folder: Path) -> None:
        self.max_loras = max_loras
        self.log = folder / "vllm.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        flags = {
            "--model": str(model.absolute()),
            "--served-model-name": "base",
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--max-model-len": "512",
            "--max-num-seqs": "16",
            "--max-loras": str(max_loras),
            "--max-cpu-loras": str(max_loras),
            "--max-lora-rank": str(RANK),
        }
        words = [word for flag in flags.items() for word in flag]
        switches = ["--enable-lora", "--lora-target-modules", "down_proj"]
        more = {
            "VLLM_PLUGINS": "",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *switches],
                env=os.environ | more,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    sys.exit(self.log.read_text()[-3000:])
                time.sleep(0.5)
            else:
                return

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def post(self, path: str, body: dict[str, object]) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            return bytes(reply.read())

    def answers(self, models: list[str]) -> dict[str, list[str]]:
        """Ask all models all questions at the same time."""

        def ask(model: str, question: str) -> str:
            body = {"model": model, "prompt": question, "max_tokens": 6, "temperature": 0}
            return str(json.loads(self.post("/v1/completions", body))["choices"][0]["text"])

        with ThreadPoolExecutor(len(models) * len(QUESTIONS)) as pool:
            asked = {one: [pool.submit(ask, one, q) for q in QUESTIONS] for one in models}
            return {one: [future.result() for future in of] for one, of in asked.items()}


def write_adapter(path: Path, model: Path, seed: int) -> None:
    """Random weights on three layers, strong enough to change every answer."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    inner, outer = config["intermediate_size"], config["hidden_size"]
    first = config["num_hidden_layers"] // 3
    chance = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(first, first + 3):
        module = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        into = torch.randn(RANK, inner, generator=chance) / inner**0.5
        weights[f"{module}.lora_A.weight"] = into
        weights[f"{module}.lora_B.weight"] = 2 * torch.randn(outer, RANK, generator=chance)
    path.mkdir()
    save_file(weights, path / "adapter_model.safetensors")
    settings = {"r": RANK, "lora_alpha": RANK, "target_modules": ["down_proj"]}
    (path / "adapter_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    sys.exit(main())
