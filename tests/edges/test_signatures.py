"""Versions signed with a real key, by the real library."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdpo_daemon.errors import AdapterError, SettingsError
from kdpo_daemon.signatures import SigningPolicy, signature_path, vouch
from tests.fakes import fake_adapter

# the library's own dependencies warn of each other
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Keys = Callable[[str], SigningPolicy]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")

    def pair(who: str) -> SigningPolicy:
        private, public = folder / f"{who}.pem", folder / f"{who}.pub.pem"
        if not private.exists():
            make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]
            subprocess.run([*make, "-out", str(private)], check=True, capture_output=True)
            tell = ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)]
            subprocess.run(tell, check=True, capture_output=True)
        return SigningPolicy(public, private)

    return pair


def test_a_version_is_signed_once_and_then_checked(tmp_path: Path, keys: Keys) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    vouch(adapter, keys("ours"))
    signed = signature_path(adapter).read_bytes()

    vouch(adapter, keys("ours"))

    assert signature_path(adapter).read_bytes() == signed
    assert {one.name for one in Path(adapter.path).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "fake_answers.json",
        "manifest.json",
    }


def test_a_file_that_changed_since_is_refused(tmp_path: Path, keys: Keys) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    vouch(adapter, keys("ours"))
    (Path(adapter.path) / "adapter_model.safetensors").write_bytes(b"other")

    with pytest.raises(AdapterError, match="its signature is not good"):
        vouch(adapter, keys("ours"))


def test_the_signature_of_somebody_else_is_refused(tmp_path: Path, keys: Keys) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    vouch(adapter, keys("another"))

    with pytest.raises(AdapterError, match="its signature is not good"):
        vouch(adapter, keys("ours"))


def test_the_signature_of_another_version_is_refused(tmp_path: Path, keys: Keys) -> None:
    seven, eight = fake_adapter(tmp_path, 7, {}), fake_adapter(tmp_path, 8, {"Q": "A"})
    vouch(seven, keys("ours"))
    signature_path(seven).rename(signature_path(eight))

    with pytest.raises(AdapterError, match="its signature is not good"):
        vouch(eight, keys("ours"))


def test_without_a_key_to_sign_with_a_version_must_be_signed(tmp_path: Path, keys: Keys) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    only_checks = SigningPolicy(public_key=keys("ours").public_key)

    with pytest.raises(AdapterError, match=r"kdpo-000007\.sig is missing"):
        vouch(adapter, only_checks)

    vouch(adapter, keys("ours"))
    vouch(adapter, only_checks)


def test_a_key_that_is_none_is_named(tmp_path: Path) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    (tmp_path / "key.pem").write_text("not a key")

    with pytest.raises(AdapterError, match="could not be signed"):
        vouch(adapter, SigningPolicy(private_key=tmp_path / "key.pem"))

    assert not signature_path(adapter).exists()


def test_who_does_not_sign_needs_no_library(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = fake_adapter(tmp_path, 7, {})
    monkeypatch.setitem(sys.modules, "model_signing", None)

    vouch(adapter, SigningPolicy())

    with pytest.raises(SettingsError) as caught:
        vouch(adapter, keys("ours"))
    assert "kdpo-daemon[sign]" in caught.value.hint
