"""Adapter directories: whole or not there, immutable, and what their manifest says.

Written beside, synced, renamed; the manifest comes last, so its presence means complete.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kdpo_daemon.errors import AdapterError
from kdpo_daemon.orders import MANIFEST, Manifest, TrainingScores, read_manifest, write_manifest
from kdpo_daemon.records.adapters import Adapter

# vLLM often runs as another user of the same group, on the same machine or over a shared volume;
# nobody, we included, has a reason to write into a version once it stands.
_FILE_MODE, _DIRECTORY_MODE = 0o444, 0o555

#: The one file of weights that is served.
WEIGHTS = "adapter_model.safetensors"
#: Forms that torch unpickles, which can run code; vLLM takes the first three where it finds them.
_PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


@dataclass(frozen=True)
class Checkpoint:
    """A directory that was checked against its manifest."""

    manifest: Manifest
    sha256: str  #: of the manifest's own bytes


def publish(draft: Path, final: Path, manifest: Manifest, scores: TrainingScores) -> str:
    """Turn a draft directory into a version that appears in one step.

    Gives the manifest's sha256.

    Raises:
        OSError: the disk is full, or the directory cannot be written.

    """
    files = {path.name: _sha256(path) for path in sorted(draft.iterdir())}
    write_manifest(replace(manifest, scores=scores, files=files), draft)
    for path in draft.iterdir():
        path.chmod(_FILE_MODE)
        _sync(path)
    _sync(draft)
    digest = _sha256(draft / MANIFEST)
    draft.rename(final)
    final.chmod(_DIRECTORY_MODE)
    _sync(final.parent)
    return digest


def verify(directory: Path) -> Checkpoint:
    """Check every file of a version against its manifest.

    Raises:
        AdapterError: naming the file that is missing, changed, not in the manifest or unreadable.

    """
    try:
        return _verified(directory)
    except OSError as error:
        raise _damaged(directory, f"it cannot be read ({error})") from error


def _verified(directory: Path) -> Checkpoint:
    manifest = read_manifest(directory)
    paths = list(directory.iterdir())
    odd = sorted(path.name for path in paths if path.is_symlink() or not path.is_file())
    if odd:
        raise _damaged(directory, f"{odd[0]} is not a plain file")
    there = {path.name for path in paths} - {MANIFEST}
    for name in sorted(there | manifest.files.keys()):
        if name not in there:
            raise _damaged(directory, f"{name} is missing")
        if manifest.files.get(name) != _sha256(directory / name):
            raise _damaged(directory, f"{name} is not what the manifest says")
    return Checkpoint(manifest, _sha256(directory / MANIFEST))


def checked(adapter: Adapter, base_sha256: str | None = None) -> None:
    """Check a version's files before a server is told to load them, or they are read.

    Raises:
        AdapterError: a file is missing, changed or not in the manifest; the manifest is not the
            one on record; there are weights in a form that can carry code; or it was made for
            another model than this.

    """
    directory = Path(adapter.path)
    there = verify(directory)
    if there.sha256 != adapter.manifest_sha256:
        raise _damaged(directory, "its manifest is not the one on record")
    if WEIGHTS not in there.manifest.files:
        raise _damaged(directory, f"{WEIGHTS} is missing")
    unsafe = sorted(name for name in there.manifest.files if Path(name).suffix in _PICKLED)
    if unsafe:
        raise _damaged(directory, f"{unsafe[0]} may carry code; only safetensors are served")
    if base_sha256 not in (None, there.manifest.base_sha256):
        raise AdapterError(
            f"was made for another model, {there.manifest.base_name}",
            subject=adapter.name,
            hint="the next cycle wants one that was made for [model] path",
        )


def found_whole(directory: Path, order_sha256: str) -> Checkpoint | None:
    """Give the version if it is there and was made from this order.

    Raises:
        AdapterError: it is there, but damaged or made from another order.

    """
    if not directory.exists():
        return None
    there = verify(directory)
    if there.manifest.order_sha256 != order_sha256:
        raise AdapterError(
            "a version of this name was made from another order",
            subject=str(directory),
            hint="move it away: it is of another database, or [model] has changed since",
        )
    return there


@contextlib.contextmanager
def draft_of(final: Path) -> Iterator[Path]:
    """Give an empty hidden directory beside the final one; removed if it was not published."""
    draft = final.with_name(f".{final.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def delete(directory: Path) -> None:
    """Delete a version: it is gone in one step, its files afterwards.

    Finishes a deletion that was cut off.

    Raises:
        OSError: it cannot be deleted.

    """
    trash = _trash_of(directory)
    if directory.exists():
        directory.rename(trash)
        _sync(directory.parent)
    trash.chmod(0o755)
    shutil.rmtree(trash)
    _sync(directory.parent)


def still_there(directory: Path) -> bool:
    """Tell whether anything of a version is left to delete."""
    return directory.exists() or _trash_of(directory).exists()


def _trash_of(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.deleted")


def _damaged(directory: Path, message: str) -> AdapterError:
    hint = "serve another version (`kdpo rollback`) and restore this one from a backup"
    return AdapterError(message, subject=str(directory), hint=hint)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
