"""The settings about vLLM servers: which they are, what clients ask for, who tells a gateway."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from kdpo_daemon.errors import SettingsError
from kdpo_daemon.serving import AliasMode
from kdpo_daemon.serving.discovery import Found, Source, Where
from kdpo_daemon.serving.gateway import GatewayPolicy

#: A key that stands in the wrong section must not be lost in silence.
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class ServerSettings:
    """One vLLM server."""

    name: str
    url: str
    api_key_file: Path | None = None  #: file that holds the key; never in the database or logs
    api_key_credential: str = ""  #: or the name of a systemd credential that holds it
    ca_file: Path | None = None  #: who signed its certificate, where that is nobody well known
    certified_as: str = ""  #: the name in its certificate, where that is not the url's

    def __post_init__(self) -> None:
        """Refuse what would put a secret into the database, or leave open which key counts."""
        if urlsplit(self.url).username is not None:
            raise ValueError("the url holds a user name or password; give api_key_file instead")
        if self.api_key_file and self.api_key_credential:
            raise ValueError("give api_key_file or api_key_credential, not both")


@dataclass(frozen=True, config=STRICT)
class DiscoverySettings:
    """Where servers are found that no list names, and what it takes to be let in."""

    source: Source = Source.LIST  #: "list": [[servers]]; "dns" or "kubernetes": looked up
    service: str = ""  #: dns: the name, a headless Service's; kubernetes: the Service
    namespace: str = ""  #: kubernetes: the Service's; "": the daemon's own
    port: int = 8000
    tls: bool = False  #: https, with a certificate for the service's name
    api_key_file: Path | None = None  #: one key for all
    api_key_credential: str = ""
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse to look for nothing."""
        if self.source is not Source.LIST and not self.service:
            raise ValueError("name the service whose servers are to be found")

    @property
    def where(self) -> Where:
        """What is looked up."""
        return Where(self.service, self.namespace, self.port, self.tls)

    def server(self, found: Found) -> ServerSettings:
        """Give the settings of a server that was found."""
        return ServerSettings(
            name=found.name,
            url=self.where.url(found.address),
            api_key_file=self.api_key_file,
            api_key_credential=self.api_key_credential,
            ca_file=self.ca_file,
            certified_as=self.service if self.tls else "",
        )


@dataclass(frozen=True, config=STRICT)
class ServingSettings:
    """What clients ask for, and where the versions are."""

    alias: str = "prod"  #: the model name that clients use
    mode: AliasMode = AliasMode.PLUGIN  #: how the alias moves; see docs/serving.md
    max_rank: int = 64  #: the servers' --max-lora-rank; facts with which it is exceeded wait
    at_once: int = Field(default=2, ge=1)  #: servers moved at the same time, after the first
    adapters: Path = Path("adapters")  #: the same absolute path for the daemon and every server


@dataclass(frozen=True, config=STRICT)
class GatewaySettings(GatewayPolicy):
    """Who is told which version the alias stands for, in mode `versioned`."""


def anchored(server: ServerSettings, folder: Path) -> ServerSettings:
    """Give the settings with relative paths taken from a folder."""
    return replace(
        server,
        api_key_file=server.api_key_file and folder / server.api_key_file,
        ca_file=server.ca_file and folder / server.ca_file,
    )


def key_file(server: ServerSettings, credentials: Path | None) -> Path | None:
    """Give the file that holds a server's key, if it has one.

    Args:
        server: whose key.
        credentials: the directory in which systemd puts a service's credentials, if it does.

    Raises:
        SettingsError: a credential is named, and there are none.

    """
    if not server.api_key_credential:
        return server.api_key_file
    if credentials is None:
        raise SettingsError(
            "there are no systemd credentials here",
            subject=f"servers.{server.name}.api_key_credential",
            hint=f"start it as a service with LoadCredential={server.api_key_credential}:FILE",
        )
    return credentials / server.api_key_credential
