"""Where the servers are, if no list says so: behind a DNS name, or in Kubernetes' EndpointSlices.

Finds names and addresses; connecting is `fleet`'s part.  Servers that do not count as ready yet
are found too: whoever starts anew is to be brought to the wanted version first.
"""

import json
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx

from kdpo_daemon.errors import ReplicaError

_DEADLINE_S = 10.0  #: of one question to the cluster


class Source(StrEnum):
    """What tells where the servers are."""

    LIST = "list"  #: the settings
    DNS = "dns"  #: the addresses of a name, such as a headless Service's
    KUBERNETES = "kubernetes"  #: the EndpointSlices of a Service, from the cluster's own API


@dataclass(frozen=True)
class Where:
    """What is looked up, and how a server's URL is made of what is found."""

    service: str  #: DNS: the name; Kubernetes: the Service's
    namespace: str  #: Kubernetes: the Service's; "": the pod's own
    port: int
    tls: bool

    def url(self, address: str) -> str:
        """Give the URL of a server at an address."""
        host = f"[{address}]" if ":" in address else address
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, order=True)
class Found:
    """A server: its name for rows and logs, and its address."""

    name: str
    address: str


def by_dns(name: str, port: int) -> list[Found]:
    """Give a server for each address of a name.

    Raises:
        ReplicaError: the name server does not say.

    """
    try:
        known = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ReplicaError(
            f"the name has no address: {error}",
            subject=name,
            hint="check [discovery] service; a headless Service has addresses while it has pods",
        ) from error
    addresses = {str(sockaddr[0]) for *_, sockaddr in known}
    return sorted(Found(address, address) for address in addresses)


@dataclass(frozen=True)
class Cluster:
    """Kubernetes' API as a pod sees it: token, certificate and namespace lie in a folder."""

    url: str
    folder: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")

    def servers(self, service: str, namespace: str) -> list[Found]:
        """Give the pods behind a Service.

        Raises:
            ReplicaError: this is no pod with a token, or the API does not say.

        """
        try:
            return of_slices(self._ask(service, namespace))
        except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            raise ReplicaError(
                f"the EndpointSlices cannot be read: {error}",
                subject=f"Service {service}",
                hint="the daemon's pod needs the Role in deploy/kubernetes/discovery.yaml",
            ) from error

    def _ask(self, service: str, namespace: str) -> Sequence[dict[str, Any]]:
        # Read anew each time: the kubelet replaces the token long before it ends.
        token = (self.folder / "token").read_text("utf-8").strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("the token is none")  # httpx would repeat it in its own error
        space = namespace or (self.folder / "namespace").read_text("utf-8").strip()
        with httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=self.folder / "ca.crt"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=_DEADLINE_S,
            trust_env=False,
        ) as client:
            reply = client.get(
                f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices",
                params={"labelSelector": f"kubernetes.io/service-name={service}"},
            )
        reply.raise_for_status()
        slices: Sequence[dict[str, Any]] = json.loads(reply.content)["items"]
        return slices


def of_slices(slices: Iterable[dict[str, Any]]) -> list[Found]:
    """Give the servers in EndpointSlices, each once, without those that are about to end.

    A pod with addresses of both kinds is in two slices; the lesser address counts.
    """
    found: dict[str, str] = {}
    for one in slices:
        for endpoint in one["endpoints"] or ():
            if (endpoint.get("conditions") or {}).get("terminating"):
                continue
            address = str(endpoint["addresses"][0])
            name = str((endpoint.get("targetRef") or {}).get("name") or address)
            found[name] = min(found.get(name, address), address)
    return sorted(Found(name, address) for name, address in found.items())
