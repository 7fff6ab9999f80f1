"""Where servers are found: DNS, EndpointSlices of a cluster, and what is kept when nobody says."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kdpo_daemon.errors import ReplicaError, SettingsError
from kdpo_daemon.servers import finder
from kdpo_daemon.serving import Access, Replica, ServingPolicy
from kdpo_daemon.serving.discovery import Cluster, Found, by_dns, of_slices
from kdpo_daemon.serving.fleet import Fleet
from kdpo_daemon.settings import Settings


def endpoint(pod: str, *addresses: str, **conditions: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"addresses": list(addresses), "conditions": conditions}
    return found | ({"targetRef": {"kind": "Pod", "name": pod}} if pod else {})


def test_pods_are_found_whether_ready_or_not_but_none_that_ends() -> None:
    slices: list[dict[str, Any]] = [
        {"endpoints": [endpoint("vllm-1", "10.0.0.7", ready=True)]},
        {
            "endpoints": [
                endpoint("vllm-0", "10.0.0.4", ready=False),
                endpoint("vllm-2", "10.0.0.9", ready=False, terminating=True),
            ]
        },
        {"endpoints": None},  # as the API writes a slice of no pods
    ]

    assert of_slices(slices) == [Found("vllm-0", "10.0.0.4"), Found("vllm-1", "10.0.0.7")]


def test_a_pod_with_two_addresses_is_one_server() -> None:
    slices = [
        {"endpoints": [endpoint("vllm-0", "fd00::4")]},
        {"endpoints": [endpoint("vllm-0", "10.0.0.4")]},
    ]

    assert of_slices(slices) == [Found("vllm-0", "10.0.0.4")]


def test_an_endpoint_that_is_no_pod_is_called_by_its_address() -> None:
    assert of_slices([{"endpoints": [endpoint("", "10.0.0.4")]}]) == [
        Found("10.0.0.4", "10.0.0.4")
    ]


def test_a_name_gives_a_server_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, port: int, **_: object) -> list[Any]:
        assert host == "vllm.kdpo.svc"
        return [(2, 1, 6, "", (one, port)) for one in ("10.0.0.7", "10.0.0.4", "10.0.0.7")]

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    assert [one.address for one in by_dns("vllm.kdpo.svc", 8000)] == ["10.0.0.4", "10.0.0.7"]


def test_a_real_name_is_looked_up() -> None:
    assert Found("127.0.0.1", "127.0.0.1") in by_dns("localhost", 8000)


def test_a_name_without_an_address_is_reported() -> None:
    with pytest.raises(ReplicaError, match="the name has no address"):
        by_dns("no-such-host.invalid", 8000)


# ------------------------------------------------------------ the cluster's API


class Api(ThreadingHTTPServer):
    """The one route of Kubernetes' API that is asked, over TLS."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: a client that does not trust us is what one test is about."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Api)
        self.server.asked.append((self.path, self.headers["Authorization"]))
        body = json.dumps({"items": [{"endpoints": [endpoint("vllm-0", "10.0.0.4")]}]}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


def certificate(folder: Path) -> None:
    """A certificate that is its own authority, as a cluster has one."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kubernetes"
    words = [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.crt")]
    subprocess.run([*words, *files], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a pod has its token in."""
    folder = tmp_path_factory.mktemp("serviceaccount")
    certificate(folder)
    (folder / "token").write_text("sesame\n")
    (folder / "namespace").write_text("kdpo")
    return folder


@pytest.fixture
def api(pod: Path) -> Iterator[Api]:
    with Api(pod) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(api: Api) -> str:
    return f"https://127.0.0.1:{api.server_port}"


def test_the_cluster_is_asked_with_the_pods_token_and_namespace(api: Api, pod: Path) -> None:
    cluster = Cluster(url(api), pod)

    assert cluster.servers("vllm", "") == [Found("vllm-0", "10.0.0.4")]
    cluster.servers("vllm", "other")

    path = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
    query = "?labelSelector=kubernetes.io%2Fservice-name%3Dvllm"
    assert api.asked == [
        (path.format(space) + query, "Bearer sesame") for space in ("kdpo", "other")
    ]


def test_a_token_that_was_replaced_is_read_anew(api: Api, pod: Path) -> None:
    cluster = Cluster(url(api), pod)
    cluster.servers("vllm", "")
    (pod / "token").write_text("open")
    cluster.servers("vllm", "")
    (pod / "token").write_text("sesame\n")

    assert [bearer for _, bearer in api.asked] == ["Bearer sesame", "Bearer open"]


def test_a_token_that_is_none_is_not_repeated(api: Api, pod: Path, tmp_path: Path) -> None:
    for name in ("namespace", "ca.crt"):
        (tmp_path / name).write_text((pod / name).read_text())
    (tmp_path / "token").write_text("sesame\nsesame")

    with pytest.raises(ReplicaError, match="the token is none") as caught:
        Cluster(url(api), tmp_path).servers("vllm", "")

    assert "sesame" not in str(caught.value)


def test_an_api_that_somebody_else_signed_for_is_not_told_the_token(
    api: Api, pod: Path, tmp_path: Path
) -> None:
    certificate(tmp_path)
    for name in ("token", "namespace"):
        (tmp_path / name).write_text((pod / name).read_text())

    with pytest.raises(ReplicaError, match="CERTIFICATE_VERIFY_FAILED"):
        Cluster(url(api), tmp_path).servers("vllm", "")

    assert api.asked == []


def test_a_refusal_names_the_role(api: Api, pod: Path) -> None:
    api.status = 403

    with pytest.raises(ReplicaError) as caught:
        Cluster(url(api), pod).servers("vllm", "")

    assert "403" in caught.value.message
    assert "deploy/kubernetes/discovery.yaml" in caught.value.hint
    assert "sesame" not in str(caught.value)


# ------------------------------------------------------------ from the settings


def read(folder: Path, text: str) -> Settings:
    (folder / "kdpo.toml").write_text(text, "utf-8")
    return Settings.read(folder / "kdpo.toml", frozenset())


def test_what_is_found_gets_the_urls_and_keys_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [(2, 1, 6, "", ("10.0.0.4", 1)), (10, 1, 6, "", ("fd00::4", 1, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    text = '[discovery]\nsource = "dns"\nservice = "vllm"\nport = 8443\ntls = true\n'
    settings = read(tmp_path, text + 'api_key_file = "key"\n')

    one, two = finder(settings, {})()

    assert (one.name, one.url, two.url) == (
        "10.0.0.4",
        "https://10.0.0.4:8443",
        "https://[fd00::4]:8443",
    )
    assert one.api_key_file == tmp_path / "key"
    assert one.certified_as == "vllm"


def test_outside_a_cluster_its_api_is_not_looked_for(tmp_path: Path) -> None:
    settings = read(tmp_path, '[discovery]\nsource = "kubernetes"\nservice = "vllm"\n')

    with pytest.raises(ReplicaError, match="no pod of a Kubernetes cluster"):
        finder(settings, {})()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[discovery]\nsource = "dns"\n', "name the service"),
        (
            '[discovery]\nsource = "dns"\nservice = "v"\n[[servers]]\nname = "a"\nurl = "http://a"',
            "not both",
        ),
    ],
)
def test_settings_that_leave_open_where_servers_are_get_refused(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        read(tmp_path, text)


# ------------------------------------------------------------ the fleet


class Asked:
    """A look-up that gives what the test puts into it."""

    def __init__(self, *found: str) -> None:
        self.found = list(found)
        self.broken = False

    def __call__(self) -> list[str]:
        if self.broken:
            raise ReplicaError("the name server is away")
        return self.found


def connect(name: str) -> Replica:
    return Replica(name, "http://127.0.0.1:9", "base", Access(), ServingPolicy())


def names(fleet: Fleet[str]) -> list[str]:
    return [replica.name for replica in fleet.replicas]


def test_a_server_that_is_still_there_keeps_its_connection() -> None:
    asked = Asked("a", "b")
    fleet = Fleet(asked, connect)
    before = fleet.replicas
    asked.found = ["b", "c"]

    fleet.refresh()

    assert names(fleet) == ["b", "c"]
    assert fleet.replicas[0] is before[1]
    fleet.close()


@pytest.mark.parametrize("broken", [True, False])
def test_a_look_up_that_fails_or_finds_nobody_lets_no_server_go(broken: bool) -> None:
    asked = Asked("a", "b")
    fleet = Fleet(asked, connect)
    fleet.refresh()
    asked.found, asked.broken = [], broken

    with pytest.raises(ReplicaError):
        fleet.refresh()

    assert names(fleet) == ["a", "b"]
    fleet.close()


def test_a_connection_to_a_server_that_is_gone_is_closed_in_the_end() -> None:
    asked, now = Asked("a", "b"), [0.0]
    fleet = Fleet(asked, connect, lambda: now[0])
    gone = fleet.replicas[0]
    asked.found = ["b"]
    fleet.refresh()
    assert not gone._line._client.is_closed  # another thread may be in the middle of a question

    now[0] = 4000.0
    fleet.refresh()

    assert gone._line._client.is_closed
    fleet.close()
