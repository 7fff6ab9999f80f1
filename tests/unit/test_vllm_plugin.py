"""The plugin outside vLLM: its imports, and the pointers it believes."""

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import kdpo_daemon.vllm_plugin
from kdpo_daemon.vllm_plugin import register
from kdpo_daemon.vllm_plugin.aliases import AliasResolver, Pointer, PointerError, read_pointer

WEIGHTS = b"weights"
MANIFEST = json.dumps(
    {"files": {"adapter_model.safetensors": sha256(WEIGHTS).hexdigest()}}
).encode()


def point(root: Path, **changes: object) -> Path:
    """A version directory and an alias `prod` that points at it, with some changes."""
    path = root / "small" / "kdpo-000124"
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_bytes(MANIFEST)
    (path / "adapter_model.safetensors").write_bytes(WEIGHTS)
    pointer = {
        "adapter": "kdpo-000124",
        "path": str(path),
        "manifest_sha256": sha256(MANIFEST).hexdigest(),
    }
    (root / "aliases").mkdir(exist_ok=True)
    (root / "aliases" / "prod.json").write_text(json.dumps(pointer | changes))
    return path


def test_it_imports_with_the_standard_library_alone(tmp_path: Path) -> None:
    package = tmp_path / "kdpo_daemon"
    package.mkdir()
    (package / "__init__.py").touch()
    source = Path(kdpo_daemon.vllm_plugin.__file__).parent
    shutil.copytree(source, package / "vllm_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    bare = [sys.executable, "-I", "-S", "-c"]  # neither our packages nor anybody's
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import kdpo_daemon.vllm_plugin"

    done = subprocess.run([*bare, program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_registering_where_vllm_is_missing_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    register()
    register()

    assert "goes on without" in caplog.text


def test_a_pointer_leads_to_its_version(tmp_path: Path) -> None:
    path = point(tmp_path)

    assert read_pointer(tmp_path, "prod") == Pointer("kdpo-000124", str(path))


def test_the_resolver_names_the_version_and_the_alias(tmp_path: Path) -> None:
    path = point(tmp_path)

    request = asyncio.run(AliasResolver(tmp_path, dict).resolve_lora("base", "prod"))

    assert request == {
        "lora_name": "kdpo-000124.prod",
        "lora_int_id": 1,
        "lora_path": str(path),
    }


@pytest.mark.parametrize("name", ["nobody", "../prod", "aliases/prod", "", ".prod", "x" * 65])
def test_other_names_are_nobodys(tmp_path: Path, name: str) -> None:
    point(tmp_path)

    assert read_pointer(tmp_path, name) is None


def outside(root: Path) -> object:
    return str(root.parent)


def dotted(root: Path) -> object:
    return f"{root}/small/../small/kdpo-000124"


def linked(root: Path) -> object:
    (root / "link").symlink_to(root / "small")
    return f"{root}/link/kdpo-000124"


def absent(root: Path) -> object:
    return str(root / "small" / "kdpo-000125")


@pytest.mark.parametrize(
    ("field", "make", "reason"),
    [
        ("path", outside, "not an absolute path under"),
        ("path", dotted, "not an absolute path under"),
        ("path", lambda _: "small/kdpo-000124", "not an absolute path under"),
        ("path", linked, "symbolic link"),
        ("path", absent, "manifest .* cannot be read"),
        ("path", lambda _: 7, "lacks"),
        ("manifest_sha256", lambda _: "0" * 64, "not the one that was promoted"),
        ("adapter", lambda _: "../kdpo-000124", "not the name of a version"),
    ],
)
def test_a_hostile_pointer_is_refused_with_its_reason(
    tmp_path: Path, field: str, make: Callable[[Path], object], reason: str
) -> None:
    point(tmp_path)
    point(tmp_path, **{field: make(tmp_path)})

    with pytest.raises(PointerError, match=reason):
        read_pointer(tmp_path, "prod")


def changed(path: Path) -> None:
    (path / "adapter_model.safetensors").write_bytes(b"other weights")


def added(path: Path) -> None:
    (path / "adapter_model.bin").write_bytes(b"a pickle")


def removed(path: Path) -> None:
    (path / "adapter_model.safetensors").unlink()


def linked_weights(path: Path) -> None:
    weights = path / "adapter_model.safetensors"
    weights.rename(path.parent / "elsewhere")
    weights.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (changed, "adapter_model.safetensors is not what the manifest says"),
        (added, "adapter_model.bin is missing, or not in the manifest"),
        (removed, "adapter_model.safetensors is missing, or not in the manifest"),
        (linked_weights, "adapter_model.safetensors is a symbolic link"),
    ],
)
def test_files_that_are_not_the_manifests_are_refused(
    tmp_path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(point(tmp_path))

    with pytest.raises(PointerError, match=reason):
        read_pointer(tmp_path, "prod")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"{}", "cannot be checked"),
        (b'{"files": []}', "cannot be checked"),
        (b"not json", "cannot be checked"),
        (
            json.dumps({"files": {"adapter_model.bin": sha256(WEIGHTS).hexdigest()}}).encode(),
            "only safetensors are served",
        ),
    ],
)
def test_a_manifest_of_another_form_or_of_pickles_is_refused(
    tmp_path: Path, manifest: bytes, reason: str
) -> None:
    path = point(tmp_path, manifest_sha256=sha256(manifest).hexdigest())
    (path / "manifest.json").write_bytes(manifest)
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    if b"bin" not in manifest:
        (path / "adapter_model.bin").unlink()

    with pytest.raises(PointerError, match=reason):
        read_pointer(tmp_path, "prod")


@pytest.mark.parametrize("text", ["", '{"adapter": "kdpo-', "[]", "null", "\udcff"])
def test_a_half_written_pointer_is_refused(tmp_path: Path, text: str) -> None:
    point(tmp_path)
    (tmp_path / "aliases" / "prod.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(PointerError):
        read_pointer(tmp_path, "prod")


def test_a_bad_pointer_resolves_to_nothing_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    point(tmp_path, manifest_sha256="0" * 64)

    with caplog.at_level(logging.ERROR):
        assert AliasResolver(tmp_path, dict).resolve("prod") is None

    assert "alias prod resolves to nothing" in caplog.text
    assert "not the one that was promoted" in caplog.text
