"""What deploy/ holds starts exactly this package, with settings that it accepts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdpo_daemon import packs
from kdpo_daemon.serving import aliases
from kdpo_daemon.settings import Settings
from tests.fakes import FakeVllm, fake_adapter

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests() -> list[dict[str, Any]]:
    names = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    texts = [(DEPLOY / "kubernetes" / name).read_text() for name in names]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def test_the_shipped_configurations_are_accepted(tmp_path: Path) -> None:
    example = tmp_path / "kdpo.toml"
    example.write_text(packs.text("kdpo.toml"), "utf-8")

    for file in (example, DEPLOY / "kubernetes/kdpo.toml"):
        assert Settings.read(file, frozenset()).serving.alias == "prod"


def test_what_the_example_comments_out_are_real_keys_with_their_defaults(tmp_path: Path) -> None:
    lines = packs.text("kdpo.toml").splitlines()
    bare = [line.removeprefix("# ") for line in lines]
    bare = [line for line in bare if " = " in line or line.startswith("[")]
    hidden = ("api_key_", "ca_file", "packs", "general_", "perplexity_text")
    file = tmp_path / "kdpo.toml"
    file.write_text("\n".join(line for line in bare if not line.startswith(hidden)), "utf-8")

    shown = Settings.read(file, frozenset())

    for section in ("plan", "gate", "retention", "retry", "client"):
        assert getattr(shown, section) == getattr(Settings(), section)
    assert shown.daemon.cycle_s == Settings().daemon.cycle_s
    assert shown.serving.max_rank == Settings().serving.max_rank
    assert shown.serving.at_once == Settings().serving.at_once


def test_kubernetes_mounts_the_adapters_at_the_same_path_for_daemon_and_servers() -> None:
    settings = Settings.read(DEPLOY / "kubernetes/kdpo.toml", frozenset())
    paths = {
        one["metadata"]["name"]: {
            mount["mountPath"]
            for container in one["spec"]["template"]["spec"]["containers"]
            for mount in container["volumeMounts"]
            if mount["name"] == "adapters"
        }
        for one in manifests()
        if one["kind"] in ("Deployment", "StatefulSet")
    }

    assert paths == {
        "kdpo": {str(settings.serving.adapters)},
        "vllm": {str(settings.serving.adapters)},
    }


def test_kubernetes_probes_the_pages_that_the_daemon_has() -> None:
    [daemon] = [one for one in manifests() if one["kind"] == "Deployment"]
    [container] = daemon["spec"]["template"]["spec"]["containers"]

    pages = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}

    assert pages == {"/livez", "/readyz"}
    assert container["args"] == ["run"]


def test_kubernetes_opens_the_port_of_webhooks_only_to_who_is_labelled(tmp_path: Path) -> None:
    text = (DEPLOY / "kubernetes/kdpo.toml").read_text()
    opened = tmp_path / "kdpo.toml"
    opened.write_text(re.sub(r"# (\[webhook\]|listen|keys)", r"\1", text), "utf-8")
    webhook = Settings.read(opened, frozenset()).webhook
    [daemon] = [one for one in manifests() if one["kind"] == "Deployment"]
    pod = daemon["spec"]["template"]["spec"]
    [container] = pod["containers"]
    service, policy = yaml.safe_load_all((DEPLOY / "kubernetes/webhook.yaml").read_text())

    port = int(webhook.listen.rpartition(":")[2])
    assert {"name": "webhook", "containerPort": port} in container["ports"]
    assert str(webhook.keys) in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert service["spec"]["ports"] == [{"name": "webhook", "port": port}]
    assert policy["spec"]["podSelector"]["matchLabels"] == daemon["metadata"]["labels"]
    open_to_all = [rule["ports"] for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"port": 9464}]]  # as without the policy
    [labelled] = [rule for rule in policy["spec"]["ingress"] if "from" in rule]
    assert labelled["ports"] == [{"port": port}]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/kdpo.service").read_text()
    unit = tmp_path / "kdpo.service"
    unit.write_text(text.replace("/opt/kdpo/bin/kdpo", "/bin/true"), "utf-8")

    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True
    )

    complaints = [line for line in checked.stderr.splitlines() if "kdpo.service" in line]
    assert complaints == []


def test_kubernetes_lets_the_daemon_list_endpoint_slices_and_nothing_else() -> None:
    role, binding, account, daemon = (
        next(one for one in manifests() if one["kind"] == kind)
        for kind in ("Role", "RoleBinding", "ServiceAccount", "Deployment")
    )
    pod = daemon["spec"]["template"]["spec"]

    listing = {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["list"],
    }
    assert role["rules"] == [listing]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [one["name"] for one in binding["subjects"]] == [account["metadata"]["name"]]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is True


def test_kubernetes_finds_pods_before_they_are_ready_and_clients_only_after() -> None:
    settings = Settings.read(DEPLOY / "kubernetes/kdpo.toml", frozenset())
    services = {one["metadata"]["name"]: one for one in manifests() if one["kind"] == "Service"}

    found = services[settings.discovery.service]["spec"]
    assert found["publishNotReadyAddresses"] is True
    assert found["ports"][0]["port"] == settings.discovery.port
    assert "publishNotReadyAddresses" not in services["vllm-clients"]["spec"]


def test_a_pod_is_ready_when_the_alias_answers(tmp_path: Path) -> None:
    settings = Settings.read(DEPLOY / "kubernetes/kdpo.toml", frozenset())
    [servers] = [one for one in manifests() if one["kind"] == "StatefulSet"]
    [container] = servers["spec"]["template"]["spec"]["containers"]
    _, flag, code = container["readinessProbe"]["exec"]["command"]
    with FakeVllm({}, adapters_dir=tmp_path) as vllm:
        command = [sys.executable, flag, code.replace("http://127.0.0.1:8000", vllm.url)]
        before = subprocess.run(command, check=False, capture_output=True)
        adapter = fake_adapter(tmp_path, 0, {})
        aliases.point(tmp_path, settings.serving.alias, adapter)
        after = subprocess.run(command, check=False, capture_output=True)

    assert (before.returncode, after.returncode) == (1, 0)
    assert b"404" in before.stderr
