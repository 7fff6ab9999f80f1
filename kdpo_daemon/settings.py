"""Every setting, composed from the policies' own dataclasses.  Read once, in `app`.

Order: environment (`KDPO_SECTION__KEY`) over kdpo.toml over the default.  An unknown key is an
error that names it.
"""

import json
import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kdpo_daemon.child import TunerPolicy
from kdpo_daemon.edits.gate import GatePolicy
from kdpo_daemon.edits.pairs import PlanPolicy
from kdpo_daemon.edits.retention import RetentionPolicy
from kdpo_daemon.edits.retry import RetryPolicy
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.facts.acceptance import AcceptancePolicy
from kdpo_daemon.feeds.fetch import FetchPolicy
from kdpo_daemon.orders import Recipe
from kdpo_daemon.server_settings import (
    STRICT,
    DiscoverySettings,
    GatewaySettings,
    ServerSettings,
    ServingSettings,
    anchored,
)
from kdpo_daemon.serving import ServingPolicy
from kdpo_daemon.serving.discovery import Source
from kdpo_daemon.serving.extractor import ExtractorPolicy
from kdpo_daemon.signatures import SigningPolicy

V = TypeVar("V")

_SHORTEST_KEY = 16

#: Sections in which there are paths.
_WITH_PATHS = (
    "model",
    "discovery",
    "serving",
    "gateway",
    "signing",
    "intake",
    "extraction",
    "daemon",
    "webhook",
)


@dataclass(frozen=True, config=STRICT)
class DatabaseSettings:
    """Where the state is."""

    url: str = "sqlite:///kdpo.db"  #: SQLite file, or postgresql://user@host/name


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """The base model, the same files for vLLM and for training."""

    path: Path = Path("model")  #: Hugging Face directory
    name: str = "base"  #: vLLM's --served-model-name


@dataclass(frozen=True, config=STRICT)
class IntakeSettings:
    """What feeds may say."""

    packs: tuple[Path, ...] = ()  #: TOML files with relations of your own
    general_probes: Path | None = None  #: JSONL of general probes instead of the shipped ones
    general_keep: Path | None = None  #: JSONL of retention prompts instead of the shipped ones
    perplexity_text: Path | None = None  #: text for perplexity instead of the shipped one


@dataclass(frozen=True, config=STRICT)
class ExtractionSettings(ExtractorPolicy):
    """How facts are found in free text: patterns of your own, and a model."""

    url: str = ""  #: of an OpenAI-compatible endpoint, with /v1; "": no model is asked
    model: str = ""  #: the name that the endpoint knows it by
    api_key_file: Path | None = None  #: file that holds the key; never in the database or logs
    #: By a relation's name, patterns on top of those of the packs; see docs/extraction.md
    patterns: dict[str, tuple[str, ...]] = Field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class DaemonSettings:
    """How `kdpo run` behaves."""

    listen: str = "127.0.0.1:9464"  #: /livez, /readyz, /metrics
    cycle_s: int = 60  #: a cycle starts this often; feeds have their own intervals
    reconcile_s: int = 10  #: servers are compared with what is wanted this often
    lease_s: int = 60  #: another daemon may take over after this long without a sign
    state: Path = Path("state")  #: training orders and logs


@dataclass(frozen=True, config=STRICT)
class WebhookSettings:
    """Where facts may be posted to."""

    listen: str = ""  #: address and port for posts, apart from [daemon] listen; "": none is taken
    keys: Path = Path("webhook-keys")  #: folder with a file for each webhook, named like its feed


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        extra="forbid", env_prefix="KDPO_", env_nested_delimiter="__", frozen=True
    )

    database: DatabaseSettings = DatabaseSettings()
    model: ModelSettings = ModelSettings()
    servers: tuple[ServerSettings, ...] = Field(
        default=(ServerSettings(name="local", url="http://127.0.0.1:8000"),), min_length=1
    )
    discovery: DiscoverySettings = DiscoverySettings()
    serving: ServingSettings = ServingSettings()
    gateway: GatewaySettings = GatewaySettings()
    signing: SigningPolicy = SigningPolicy()
    client: ServingPolicy = ServingPolicy()
    intake: IntakeSettings = IntakeSettings()
    extraction: ExtractionSettings = ExtractionSettings()
    fetch: FetchPolicy = FetchPolicy()
    acceptance: AcceptancePolicy = AcceptancePolicy()
    plan: PlanPolicy = PlanPolicy()
    recipe: Recipe = Recipe()
    training: TunerPolicy = TunerPolicy()
    gate: GatePolicy = GatePolicy()
    retry: RetryPolicy = RetryPolicy()
    retention: RetentionPolicy = RetentionPolicy()
    daemon: DaemonSettings = DaemonSettings()
    webhook: WebhookSettings = WebhookSettings()

    @model_validator(mode="after")
    def _one_source_of_servers(self) -> Self:
        if self.discovery.source is not Source.LIST and "servers" in self.model_fields_set:
            raise ValueError("give [[servers]] or [discovery], not both")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the hook's own signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file, which comes in as init settings."""
        return env_settings, init_settings

    @classmethod
    def read(cls, file: Path, environment: frozenset[str]) -> Self:
        """Read kdpo.toml and the environment.

        Args:
            file: kdpo.toml; relative paths in it are taken from its folder.
            environment: the names of all environment variables, to find misspelt KDPO_ ones,
                which pydantic-settings would ignore.

        Raises:
            SettingsError: naming the key and what is wrong with it.

        """
        cls._refuse_unknown(environment)
        try:
            table = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise SettingsError(
                "no configuration", subject=str(file), hint="run `kdpo init`, or give --config"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"not valid TOML: {error}", subject=str(file)) from error
        try:
            return cls(**table)._anchored(file.resolve().parent)
        except ValidationError as error:
            raise SettingsError(_plain(error), subject=str(file)) from error

    @classmethod
    def _refuse_unknown(cls, environment: frozenset[str]) -> None:
        for name in sorted(environment):
            section = name.removeprefix("KDPO_").split("__")[0].lower()
            if name.startswith("KDPO_") and "__" in name and section not in cls.model_fields:
                raise SettingsError(
                    f"there is no section {section!r}",
                    subject=name,
                    hint=f"sections are {', '.join(cls.model_fields)}",
                )

    def _anchored(self, folder: Path) -> Self:
        """Give the settings with every relative path taken from the folder of kdpo.toml."""
        changes: dict[str, Any] = {}
        for name in _WITH_PATHS:
            section = getattr(self, name)
            values = dict(vars(section))
            values.pop("__pydantic_initialised__", None)
            changes[name] = type(section)(
                **{key: _anchor(value, folder) for key, value in values.items()}
            )
        changes["servers"] = tuple(anchored(server, folder) for server in self.servers)
        changes["database"] = DatabaseSettings(_anchor_sqlite(self.database.url, folder))
        return self.model_copy(update=changes)


def api_key(file: Path | None, who: str) -> str | None:
    """Read a key from its file; None of no file.

    Raises:
        SettingsError: it cannot be read, or is no key; what it holds is not repeated.

    """
    if file is None:
        return None
    key = read_text(file, who).strip()
    # A line break in a header is an error of httpx that repeats the header.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            "holds no key: one word of plain characters, in one line",
            subject=f"{who} = {file}",
            hint="write the key that the server was started with into it",
        )
    return key


def webhook_key(settings: WebhookSettings, feed: str) -> SecretStr:
    """Read the key of a webhook from its file, anew each time: a new key needs no restart.

    Raises:
        SettingsError: there is none, or it is too short.

    """
    file = settings.keys / feed
    hint = f"write one: openssl rand -hex 32 > {file}"
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"its key cannot be read: {why}", subject=feed, hint=hint) from error
    if len(key) < _SHORTEST_KEY:
        why = f"its key is shorter than {_SHORTEST_KEY} characters"
        raise SettingsError(why, subject=feed, hint=hint)
    return SecretStr(key)


def read_text(path: Path, key: str) -> str:
    """Read a file that a setting names.  SettingsError if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot be read: {error}", subject=f"{key} = {path}", hint="correct it in kdpo.toml"
        ) from error


def read_lines(own: Path | None, shipped: str) -> list[dict[str, str]]:
    """Read JSONL of the operator's, or else what is shipped.  SettingsError if it is none."""
    text = read_text(own, "intake") if own else shipped
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise SettingsError(f"not JSONL: {error}", subject=str(own or "shipped")) from error


def _anchor(value: V, folder: Path) -> V:
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple):
        return tuple(_anchor(one, folder) for one in value)  # type: ignore[return-value]
    return value


def _anchor_sqlite(url: str, folder: Path) -> str:
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url == prefix + ":memory:":
        return url
    return prefix + str(folder / url.removeprefix(prefix))


def _plain(error: ValidationError) -> str:
    lines = []
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"])
        unknown = one["type"] in {"extra_forbidden", "unexpected_keyword_argument"}
        lines.append(f"{key}: {'unknown key' if unknown else one['msg']}")
    return "; ".join(lines)
