"""A real vLLM server for tests, one per test session, and adapters that change its answers.

Registered as a pytest plugin in tests/conftest.py.  Needs a model directory (KDPO_TEST_MODEL, or
where `make demo` keeps its own) and an environment with vLLM (KDPO_SERVE_PYTHON, or .venv-serve
beside the repository's files); tests fail where these are missing.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from kdpo_daemon.local_vllm import LocalServer, LocalVllm, free_port, start
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving import Access, Replica, ServingPolicy

ROOT = Path(__file__).parents[1]
CACHE = Path("~/.cache/kdpo-daemon/models/SmolLM2-135M-Instruct-roomy")

#: What the shared server is started with: as many slots as a mixed batch of the tests fills.
MAX_LORAS, MAX_CPU_LORAS, MAX_RANK = 2, 4, 16


def model_dir() -> Path:
    path = Path(os.environ.get("KDPO_TEST_MODEL", CACHE)).expanduser()
    if not (path / "config.json").exists():
        pytest.fail(f"no model in {path}: `make test` unpacks it, or set KDPO_TEST_MODEL")
    return path


def serve_python() -> Path:
    path = Path(os.environ.get("KDPO_SERVE_PYTHON", ROOT / ".venv-serve/bin/python"))
    if not path.exists():
        pytest.fail(f"no vLLM at {path}: `make test` installs it, or set KDPO_SERVE_PYTHON")
    return path


@dataclass
class RealVllm:
    """A running server and how it was started."""

    settings: LocalVllm
    server: LocalServer

    def replica(self, attempts: int = 1) -> Replica:
        policy = ServingPolicy(attempts=attempts)
        return Replica("real", self.settings.url, self.settings.served_name, Access(), policy)

    def restart(self) -> None:
        self.server.stop()
        self.server = start(self.settings)


def settings_for(directory: Path) -> LocalVllm:
    return LocalVllm(
        python=serve_python(),
        model_dir=model_dir(),
        served_name="base",
        port=free_port(),
        adapters_dir=directory / "adapters",
        log_path=directory / "vllm.log",
        max_loras=MAX_LORAS,
        max_cpu_loras=MAX_CPU_LORAS,
        max_lora_rank=MAX_RANK,
    )


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVllm]:
    """One vLLM with our plugin for all tests that ask for it; about 40 s to start on two cores."""
    settings = settings_for(tmp_path_factory.mktemp("vllm"))
    running = RealVllm(settings, start(settings))
    yield running
    running.server.stop()


def random_adapter(
    adapters_dir: Path, number: int, rank: int = 8, strength: float = 2.0
) -> Adapter:
    """An adapter of random weights on a few layers, strong enough to change every answer."""
    config = json.loads((model_dir() / "config.json").read_text())
    inner, outer, middle = (
        config[key] for key in ("intermediate_size", "hidden_size", "num_hidden_layers")
    )
    chance = np.random.default_rng(number)
    weights = {}
    for layer in range(middle // 3, middle // 3 + 3):
        name = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        into = chance.standard_normal((rank, inner)) / inner**0.5
        weights[f"{name}.lora_A.weight"] = into.astype(np.float32)
        out = chance.standard_normal((outer, rank)) * strength
        weights[f"{name}.lora_B.weight"] = out.astype(np.float32)
    path = adapters_dir / f"kdpo-{number:06d}"
    path.mkdir(parents=True)
    save_file(weights, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(
        json.dumps({"r": rank, "lora_alpha": rank, "target_modules": ["down_proj"]})
    )
    files = {one.name: sha256(one.read_bytes()).hexdigest() for one in path.iterdir()}
    manifest = json.dumps({"number": number, "files": files}).encode()
    (path / "manifest.json").write_bytes(manifest)
    return Adapter(number, path.name, str(path), sha256(manifest).hexdigest(), number, None)
