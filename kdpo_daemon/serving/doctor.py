"""Whether a server can do what we need, found out by trying.

vLLM tells neither its greatest rank nor whether it sees our directory.  So we offer it a draft
adapter that has a configuration but no weights: whatever it objects to first is the answer, and
nothing is ever loaded.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kdpo_daemon.errors import AdapterError, ReplicaError, UnfitError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.records.teaching import Form, Prompt
from kdpo_daemon.serving import aliases, fitness
from kdpo_daemon.serving.aliases import AliasMode
from kdpo_daemon.serving.remedies import enough_rank
from kdpo_daemon.serving.replica import Replica

#: The vLLM releases that our tests were run against.
TESTED_VERSIONS = ("0.32.0",)

_TRIAL = "kdpo-trial"  #: alias and file prefix
_TRIAL_VERSION = "kdpo-000000"
_ANY = Prompt(Form.COMPLETION, "A")


@dataclass(frozen=True)
class Problem:
    """Something that stands in the way, and what to do about it."""

    subject: str
    message: str
    hint: str


def check(
    replica: Replica, required_rank: int, adapters_dir: Path, mode: AliasMode
) -> list[Problem]:
    """What keeps this server from serving our adapters; empty when nothing does.

    Writes a draft adapter into `adapters_dir` for the time of the check.
    """
    try:
        found = _about_the_base(replica)
        with _draft_adapter(adapters_dir, required_rank) as draft:
            found += _about_lora(replica, draft, required_rank)
            if found:
                return found  # what follows can only be asked of a server that serves
            found += _about_the_engine(replica, mode)
            if mode is AliasMode.PLUGIN:
                found += _about_the_plugin(replica, draft, adapters_dir)
    except (ReplicaError, AdapterError) as error:
        return [Problem(error.subject or replica.name, error.message, error.hint)]
    return found


def _about_the_base(replica: Replica) -> list[Problem]:
    try:
        fitness.check_base(replica, replica.models())
        found = []
    except UnfitError as error:
        found = [Problem(replica.name, error.message, error.hint)]
    version = replica.version()
    if version not in TESTED_VERSIONS:
        said = f"vLLM {version} is not a tested version ({', '.join(TESTED_VERSIONS)})"
        hint = "Run the tests marked vllm against it, or install a tested version"
        found.append(Problem(replica.name, said, hint))
    return found


def _about_lora(replica: Replica, draft: Adapter, rank: int) -> list[Problem]:
    try:
        replica.load(_TRIAL, draft.path)
    except ReplicaError as error:
        if _objects_to_missing_weights(error):
            return []
        return [Problem(replica.name, error.message, error.hint)]
    replica.unload(_TRIAL)
    said = "it loaded an adapter that has no weights"
    return [
        Problem(replica.name, said, f"Use a tested vLLM with --max-lora-rank {enough_rank(rank)}")
    ]


def _about_the_engine(replica: Replica, mode: AliasMode) -> list[Problem]:
    replica.answer(replica.base_model, [_ANY], 1)  # vLLM tells its slots after a first request
    engine = replica.engine()
    found = []
    try:
        fitness.check_slots(engine.slots, replica.name, mode)
    except UnfitError as error:
        found = [Problem(replica.name, error.message, error.hint)]
    if engine.cpu and not engine.own_operators:
        said = (
            "vLLM's own LoRA operators run on its CPU: after as many loads as it has slots "
            f"({engine.slots or 'unknown'}), requests for the base model get an adapter's answers"
        )
        hint = "Install kdpo-daemon beside vLLM, and unset KDPO_STOCK_LORA_OPS (docs/serving.md)"
        found.append(Problem(replica.name, said, hint))
    return found


def _about_the_plugin(replica: Replica, draft: Adapter, adapters_dir: Path) -> list[Problem]:
    aliases.point(adapters_dir, _TRIAL, draft)
    try:
        replica.served_by(_TRIAL)
    except ReplicaError as error:
        if error.status == 400:  # found by the plugin, refused by the engine: as it should be
            return []
        raise
    finally:
        aliases.forget(adapters_dir, _TRIAL)
    said = "the alias plugin does not answer"
    return [Problem(replica.name, said, aliases.REMEDY[AliasMode.PLUGIN])]


def _objects_to_missing_weights(error: ReplicaError) -> bool:
    return "contain tensors" in error.message


@contextmanager
def _draft_adapter(adapters_dir: Path, rank: int) -> Iterator[Adapter]:
    config = {"r": rank, "lora_alpha": rank, "target_modules": ["down_proj"]}
    try:
        with tempfile.TemporaryDirectory(prefix=f"{_TRIAL}-", dir=adapters_dir) as name:
            path = Path(name)
            path.chmod(0o755)
            written = json.dumps(config).encode()
            (path / "adapter_config.json").write_bytes(written)
            files = {"adapter_config.json": sha256(written).hexdigest()}
            manifest = json.dumps({"files": files}).encode()
            (path / "manifest.json").write_bytes(manifest)
            yield Adapter(0, _TRIAL_VERSION, str(path), sha256(manifest).hexdigest(), None, None)
    except OSError as error:
        raise AdapterError(
            f"nothing can be written there ({error.strerror})",
            subject=str(adapters_dir),
            hint="Create the adapters directory and give it to the daemon's user",
        ) from error
