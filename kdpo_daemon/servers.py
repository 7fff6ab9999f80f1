"""From the settings to connections with the servers that there are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kdpo_daemon.errors import ReplicaError
from kdpo_daemon.server_settings import ServerSettings, key_file
from kdpo_daemon.serving import Access, Replica
from kdpo_daemon.serving.discovery import Cluster, Found, Source, by_dns
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.settings import Settings, api_key


def fleet(settings: Settings, environment: Mapping[str, str]) -> Fleet[ServerSettings]:
    """Give the fleet of the settings; nobody is asked yet."""
    return Fleet(finder(settings, environment), lambda one: connect(settings, one, environment))


def connect(settings: Settings, server: ServerSettings, environment: Mapping[str, str]) -> Replica:
    """Give a connection to a server.  SettingsError if its key cannot be read."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    file = key_file(server, Path(folder) if folder else None)
    key = api_key(file, f"API key of server {server.name}")
    access = Access(key, server.ca_file, server.certified_as)
    return Replica(server.name, server.url, settings.model.name, access, settings.client)


def finder(
    settings: Settings, environment: Mapping[str, str]
) -> Callable[[], Sequence[ServerSettings]]:
    """Give what looks the servers up, in order, the canary first."""
    discovery = settings.discovery
    where = discovery.where

    def look_up() -> list[Found]:
        if discovery.source is Source.DNS:
            return by_dns(where.service, where.port)
        return Cluster(_api(environment)).servers(where.service, where.namespace)

    if discovery.source is Source.LIST:
        return lambda: settings.servers
    return lambda: [discovery.server(one) for one in look_up()]


def _api(environment: Mapping[str, str]) -> str:
    try:
        host = environment["KUBERNETES_SERVICE_HOST"]
        port = environment["KUBERNETES_SERVICE_PORT"]
    except KeyError as error:
        raise ReplicaError(
            "this is no pod of a Kubernetes cluster",
            subject="servers",
            hint='start the daemon in one, or set [discovery] source = "dns"',
        ) from error
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"
