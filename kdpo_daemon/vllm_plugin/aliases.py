"""Resolves a stable model name to the adapter version that its pointer file names.

The pointer is `<root>/aliases/<alias>.json` with "adapter", "path" and "manifest_sha256"; the
daemon replaces it by rename.  It is read again for each resolution and believed only if it leads
to a whole version directory under the root, every file of which is what the manifest says.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

#: Our name in vLLM's registry of resolvers.
RESOLVER = "kdpo_alias"

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADAPTER = re.compile(r"kdpo-[0-9]{6,}")
_GREATEST_POINTER = 65_536  #: bytes; a pointer has about 250
_MANIFEST = "manifest.json"
#: Weights that are unpickled, which can run code; vLLM would take them where it finds them.
_PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})

_log = logging.getLogger("vllm.kdpo")


class PointerError(ValueError):
    """A pointer file leads nowhere safe; the message says why."""


@dataclass(frozen=True)
class Pointer:
    """The version that an alias stands for: its name and its absolute directory."""

    adapter: str
    path: str


def read_pointer(root: Path, alias: str) -> Pointer | None:
    """What the alias stands for, or None if it has no pointer; PointerError if that is bad."""
    if not _ALIAS.fullmatch(alias):
        return None
    file = root / "aliases" / f"{alias}.json"
    try:
        with file.open("rb") as stream:
            written = json.loads(stream.read(_GREATEST_POINTER))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise PointerError(f"{file} cannot be read: {error}") from error
    match written:
        case {"adapter": str(adapter), "path": str(path), "manifest_sha256": str(digest)}:
            _check(root, adapter, Path(path), digest)
            return Pointer(adapter, path)
        case _:
            raise PointerError(f"{file} lacks adapter, path or manifest_sha256")


def _check(root: Path, adapter: str, path: Path, digest: str) -> None:
    if not _ADAPTER.fullmatch(adapter):
        raise PointerError(f"{adapter!r} is not the name of a version")
    if not path.is_absolute() or not path.is_relative_to(root) or ".." in path.parts:
        raise PointerError(f"{path} is not an absolute path under {root}")
    if path.resolve() != root.resolve() / path.relative_to(root):
        raise PointerError(f"{path} leads through a symbolic link")
    try:
        manifest = (path / _MANIFEST).read_bytes()
    except OSError as error:
        raise PointerError(f"the manifest of {path} cannot be read: {error}") from error
    if hashlib.sha256(manifest).hexdigest() != digest:
        raise PointerError(f"the manifest of {path} is not the one that was promoted")
    try:
        _check_files(path, json.loads(manifest)["files"])
    except (OSError, ValueError, RecursionError, KeyError, AttributeError) as error:
        raise PointerError(f"the files of {path} cannot be checked: {error!r}") from error


def _check_files(path: Path, files: dict[str, str]) -> None:
    there = {one.name for one in path.iterdir()} - {_MANIFEST}
    if there != files.keys():
        odd = min(there ^ files.keys())
        raise PointerError(f"{path / odd} is missing, or not in the manifest")
    for name, digest in files.items():
        if Path(name).suffix in _PICKLED:
            raise PointerError(f"{path / name} may carry code; only safetensors are served")
        if _sha256(path / name) != digest:
            raise PointerError(f"{path / name} is not what the manifest says")


def _sha256(path: Path) -> str:
    if path.is_symlink():
        raise PointerError(f"{path} is a symbolic link")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class AliasResolver:
    """What vLLM asks when a request names a model that is neither the base nor loaded."""

    def __init__(self, root: Path, make_request: Callable[..., Any]) -> None:
        self._root = root
        self._make_request = make_request

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:  # noqa: ARG002
        """Give the LoRARequest of the alias's version, or None."""
        # In a thread: the files are hashed, and vLLM streams its answers from this event loop.
        return await asyncio.to_thread(self.resolve, lora_name)

    def resolve(self, alias: str) -> Any:
        """Give the LoRARequest of the alias's version, or None."""
        try:
            pointer = read_pointer(self._root, alias)
        except PointerError as error:
            _log.error("kdpo: alias %s resolves to nothing: %s", alias, error)
            return None
        if pointer is None:
            return None
        # The alias is part of the name: the version under its own name is another request to
        # vLLM, and two ids must never share a name.  vLLM replaces the id.
        name = f"{pointer.adapter}.{alias}"
        return self._make_request(lora_name=name, lora_int_id=1, lora_path=pointer.path)


def install(root: Path, *, move_on_unload: bool) -> None:
    """Register the resolver with vLLM, once."""
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolverRegistry

    if RESOLVER in LoRAResolverRegistry.get_supported_resolvers():
        return
    resolver = AliasResolver(root, LoRARequest)
    LoRAResolverRegistry.register_resolver(RESOLVER, resolver)
    if move_on_unload:
        _move_on_unload(OpenAIServingModels, resolver)
    _log.info("kdpo: aliases are read from %s", root / "aliases")


def _move_on_unload(models: Any, resolver: AliasResolver) -> None:
    """Make unloading an alias follow its pointer in one step.

    vLLM looks a model name up twice per request, with the tokenizer's work in between; a name
    unloaded there is a 404 for that request.  So while an alias has a good pointer, unloading it
    loads the new version first and then replaces the old one, which is never absent.
    """
    from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

    stock = models.unload_lora_adapter

    @wraps(stock)
    async def unload_lora_adapter(self: Any, request: Any) -> Any:
        alias = request.lora_name
        new = await resolver.resolve_lora("", alias)
        old = self.lora_requests.get(alias)
        if old is None or new is None:
            return await stock(self, request)
        if old.lora_path == new.lora_path:
            return f"Success: alias '{alias}' already stands for '{new.lora_name}'."
        load = LoadLoRAAdapterRequest(lora_name=new.lora_name, lora_path=new.lora_path)
        reply = await self.load_lora_adapter(load)
        if new.lora_name not in self.lora_requests:
            return reply
        self.lora_requests[alias] = self.lora_requests.pop(new.lora_name)
        return f"Success: alias '{alias}' now stands for '{new.lora_name}'."

    models.unload_lora_adapter = unload_lora_adapter
