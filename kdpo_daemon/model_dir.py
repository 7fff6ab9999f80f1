"""What the daemon must know about a base model's directory; it loads no weights."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from kdpo_daemon.errors import SettingsError

#: What a widened model's `config.json` tells of its side room, for `tuning/room.py`; transformers
#: and vLLM leave unknown keys alone.
ROOM = "kdpo_room"
#: Beside a folded model's weights: the form of `Folded`.
FOLDED = "folded.json"


@dataclass(frozen=True)
class Shape:
    """What a model's `config.json` says of its layers."""

    depth: int
    carrier: int | None  #: the layer that carries marks, if one does

    @property
    def marked(self) -> bool:
        """Whether it was widened with a head that carries marks."""
        return self.carrier is not None


@dataclass(frozen=True)
class Folded:
    """What a folded model says of itself: which version is part of it."""

    adapter: str
    manifest_sha256: str  #: the version's
    base_name: str  #: of the model that it was made for
    base_sha256: str
    fact_ids: tuple[int, ...]


def model_sha256(directory: Path) -> str:
    """Hash names and contents of `config.json`, `tokenizer.json` and the weights: which model."""
    names = {"config.json", "tokenizer.json"}
    files = [
        path
        for path in sorted(directory.glob("*"))
        if path.name in names or path.suffix == ".safetensors"
    ]
    if not any(path.suffix == ".safetensors" for path in files):
        raise SettingsError(
            "no *.safetensors file here",
            subject=str(directory),
            hint="name the directory of a Hugging Face model in safetensors form",
        )
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def end_token_id(directory: Path) -> int:
    """Give the id that ends an answer: `generation_config.json` first, else `config.json`.

    Where a model names several, the first one is what its answers are taught to end with.
    """
    for name in ("generation_config.json", "config.json"):
        try:
            ids = json.loads((directory / name).read_text(encoding="utf-8")).get("eos_token_id")
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise SettingsError(
                f"{name} is not JSON ({error})", subject=str(directory), hint="copy it again"
            ) from error
        if isinstance(ids, list) and ids:
            ids = ids[0]
        if isinstance(ids, int):
            return ids
    raise SettingsError(
        "no eos_token_id in generation_config.json or config.json",
        subject=str(directory),
        hint="add the model's end token to its generation_config.json",
    )


def shape_of(directory: Path) -> Shape | None:
    """Give a model's shape; None where its `config.json` does not say."""
    try:
        return shape(directory)
    except SettingsError:
        return None


def shape(directory: Path) -> Shape:
    """Read a model's shape.  SettingsError if its `config.json` names no number of layers."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        room = config.get(ROOM)
        return Shape(int(config["num_hidden_layers"]), room and int(room["carrier"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"config.json does not say num_hidden_layers ({type(error).__name__}: {error})",
            subject=str(directory),
            hint="name the directory of a Hugging Face model",
        ) from error


def folded_in(directory: Path) -> Folded | None:
    """Give what is folded into a model; None where it does not say so."""
    try:
        form = json.loads((directory / FOLDED).read_text(encoding="utf-8"))
        return Folded(**form | {"fact_ids": tuple(form["fact_ids"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"cannot be read ({error})", subject=str(directory / FOLDED), hint="fold it again"
        ) from error
