"""The pointer file of an alias: which version a stable model name stands for.

Read inside vLLM by `kdpo_daemon.vllm_plugin`, which must not import this package; the form of the
file is therefore written down twice, and a test reads with one what the other wrote.
"""

import json
import os
import threading
from enum import StrEnum
from pathlib import Path

from kdpo_daemon.errors import AdapterError
from kdpo_daemon.records.adapters import Adapter


class AliasMode(StrEnum):
    """How clients' stable model name is moved from one version to the next."""

    PLUGIN = "plugin"  #: our plugin in vLLM follows a pointer file; no gap
    RELOAD = "reload"  #: stock vLLM: the alias is unloaded and loaded again; a short 404 gap
    VERSIONED = "versioned"  #: clients or a gateway name versions; a gateway is told which


#: What to do when an alias does not answer as the version it was moved to.
REMEDY = {
    AliasMode.PLUGIN: (
        "Install kdpo-daemon beside vLLM, start vLLM with KDPO_ADAPTERS set to this adapters "
        "directory, and look for kdpo_alias in its log"
    ),
    AliasMode.RELOAD: "See the server's log; another client may load and unload the same name",
    AliasMode.VERSIONED: "See the server's log; another client may unload the version",
}


#: Servers are moved at the same time, and each move writes the one pointer.
_WRITING = threading.Lock()


def pointer_path(adapters_dir: Path, alias: str) -> Path:
    """Where the pointer of an alias lies."""
    return adapters_dir / "aliases" / f"{alias}.json"


def point(adapters_dir: Path, alias: str, adapter: Adapter) -> None:
    """Let the alias stand for the adapter: readers see the old pointer or the new one, whole."""
    path = pointer_path(adapters_dir, alias)
    replace_whole(path, json.dumps(_pointer(adapter)), f"the pointer of alias {alias}")


def replace_whole(path: Path, text: str, what: str) -> None:
    """Write a file so that readers see what it held or all of the new text, nothing between.

    Raises:
        AdapterError: it cannot be written; it holds what it held.

    """
    try:
        with _WRITING:
            _replace(path, text)
    except OSError as error:
        raise AdapterError(
            f"{what} could not be written ({error.strerror})",
            subject=str(path),
            hint="Check the directory's owner and its free space",
        ) from error


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    path.parent.mkdir(mode=0o755, exist_ok=True)
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o644)
    draft.replace(path)
    _sync_directory(path.parent)


def stands_for(adapters_dir: Path, alias: str, adapter: Adapter) -> bool:
    """Tell whether the alias's pointer is there, whole, and names the adapter."""
    try:
        written = json.loads(pointer_path(adapters_dir, alias).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return bool(written == _pointer(adapter))


def _pointer(adapter: Adapter) -> dict[str, str]:
    return {
        "adapter": adapter.name,
        "path": adapter.path,
        "manifest_sha256": adapter.manifest_sha256,
    }


def forget(adapters_dir: Path, alias: str) -> None:
    """Remove the alias's pointer, if there is one."""
    pointer_path(adapters_dir, alias).unlink(missing_ok=True)


def pointed(adapters_dir: Path) -> frozenset[str]:
    """Give the directories that pointers name, of whatever alias.

    Raises:
        AdapterError: a pointer cannot be read.

    """
    found = set()
    for file in (adapters_dir / "aliases").glob("*.json"):
        try:
            found.add(str(json.loads(file.read_bytes())["path"]))
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise AdapterError(
                f"not a pointer ({error!r})",
                subject=str(file),
                hint="Remove it; the daemon writes its own alias's pointer again",
            ) from error
    return frozenset(found)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
