"""Signatures of versions with an EC key, in the form of OpenSSF's model-signing; optional.

For those who cannot ask the database, which holds each manifest's hash anyway.  Needs the `sign`
extra.  A signature lies beside the versions, in `signatures/`: a version's directory holds what
its manifest names and nothing else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdpo_daemon.errors import AdapterError, SettingsError
from kdpo_daemon.records.adapters import Adapter


@dataclass(frozen=True)
class SigningPolicy:
    """Whose signatures count."""

    public_key: Path | None = None  #: PEM; a version without a good signature is not loaded
    private_key: Path | None = None  #: PEM; signs a version before it is loaded for the first time


def signature_path(adapter: Adapter) -> Path:
    """Where the signature of a version lies."""
    directory = Path(adapter.path)
    return directory.parent / "signatures" / f"{directory.name}.sig"


def vouch(adapter: Adapter, policy: SigningPolicy) -> None:
    """Sign a version that has no signature, if there is a key to; check it, if there is one to.

    Call it once the files were compared with what is on record.

    Raises:
        AdapterError: the signature is missing, is not of these files, or not by this key.
        SettingsError: model-signing is not installed.

    """
    signature = signature_path(adapter)
    if policy.private_key and not signature.exists():
        _sign(adapter, signature, policy.private_key)
    if policy.public_key:
        _check(adapter, signature, policy.public_key)


def _sign(adapter: Adapter, signature: Path, key: Path) -> None:
    signing, _ = _library()
    draft = signature.with_suffix(".draft")
    try:
        signature.parent.mkdir(mode=0o755, exist_ok=True)
        signing.Config().use_elliptic_key_signer(private_key=key).sign(adapter.path, draft)
        draft.replace(signature)
    except (OSError, ValueError, TypeError) as error:
        raise _failed(adapter, f"it could not be signed ({error})") from error


def _check(adapter: Adapter, signature: Path, key: Path) -> None:
    _, verifying = _library()
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.verify(adapter.path, signature)
    except FileNotFoundError as error:
        raise _failed(adapter, f"{error.filename} is missing") from error
    except (OSError, ValueError, TypeError) as error:
        raise _failed(adapter, f"its signature is not good ({str(error)[:200]})") from error


def _library() -> tuple[Any, Any]:
    """Import model-signing; it takes seconds, so only who signs waits for it."""
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise SettingsError(
            f"signing needs {error.name}, which is not installed",
            subject="[signing]",
            hint="pip install 'kdpo-daemon[sign]', or leave the section out",
        ) from error
    return signing, verifying


def _failed(adapter: Adapter, why: str) -> AdapterError:
    hint = "it is not loaded; see [signing] in docs/serving.md"
    return AdapterError(why, subject=adapter.path, hint=hint)
