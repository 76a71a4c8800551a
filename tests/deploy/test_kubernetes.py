"""docs/deploy/kubernetes: valid, agreeing with the server's configuration and with the image."""

from __future__ import annotations

import copy
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from shortlist_server import health
from shortlist_server.config import ENV_PREFIX, ServerConfig
from shortlist_server.rpc.server import REFUSING_S

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
FOLDERS = ("kubernetes", "kubernetes-tls")
Object = dict[str, Any]


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@functools.cache
def built(folder: str) -> dict[str, Object]:
    """The objects that `kubectl apply -k` would send, by kind: resources, images and patches."""
    kustomization = read(DEPLOY / folder / "kustomization.yaml")
    objects: dict[str, Object] = {}
    for resource in kustomization["resources"]:
        path = DEPLOY / folder / resource
        if path.is_dir():
            objects |= copy.deepcopy(built(path.resolve().name))
        else:
            found = read(path)
            objects[found["kind"]] = found
    for image in kustomization.get("images", []):
        for container in objects["Deployment"]["spec"]["template"]["spec"]["containers"]:
            assert container["image"] == image["name"]
            container["image"] = f"{image['newName']}:{image['newTag']}"
    for patch in kustomization.get("patches", []):
        assert objects[patch["target"]["kind"]]["metadata"]["name"] == patch["target"]["name"]
        for operation in json.loads((DEPLOY / folder / patch["path"]).read_text(encoding="utf-8")):
            apply(objects[patch["target"]["kind"]], operation)
    return objects


def apply(document: Any, operation: Object) -> None:
    """Carry out one operation of a JSON patch (RFC 6902)."""
    *parents, last = operation["path"].lstrip("/").split("/")
    place = functools.reduce(
        lambda at, name: at[int(name)] if isinstance(at, list) else at[name], parents, document
    )
    if isinstance(place, list):
        assert (operation["op"], last) == ("add", "-")
        place.append(operation["value"])
    elif operation["op"] == "remove":
        del place[last]
    else:
        assert operation["op"] in ("add", "replace")
        assert (last in place) == (operation["op"] == "replace"), operation
        place[last] = operation["value"]


def container(folder: str) -> Object:
    (only,) = pod(folder)["containers"]
    return dict(only)


def pod(folder: str) -> Object:
    return dict(built(folder)["Deployment"]["spec"]["template"]["spec"])


def settings(folder: str) -> dict[str, str]:
    """The settings that a pod has, by field."""
    data: dict[str, str] = built(folder)["ConfigMap"]["data"]
    assert container(folder)["envFrom"] == [
        {"configMapRef": {"name": built(folder)["ConfigMap"]["metadata"]["name"]}},
        {"secretRef": {"name": "shortlist", "optional": True}},
    ]
    return {name.removeprefix(ENV_PREFIX).lower(): value for name, value in data.items()}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_objects_are_valid_to_the_field(folder: str, version: str) -> None:
    objects = built(folder)
    assert set(objects) == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }
    for found in objects.values():
        kubernetes_validate.validate(found, version, strict=True)


def test_a_field_that_does_not_exist_would_be_refused() -> None:
    wrong = copy.deepcopy(built("kubernetes")["Deployment"])
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_in_the_kustomization(folder: str) -> None:
    kustomization = read(DEPLOY / folder / "kustomization.yaml")
    named = {
        *kustomization["resources"],
        *(one["path"] for one in kustomization.get("patches", [])),
    }
    files = {file.name for file in (DEPLOY / folder).iterdir()} - {"kustomization.yaml"}
    assert files == {name for name in named if not name.startswith("../")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_settings_are_settings_of_the_server(folder: str) -> None:
    assert set(settings(folder)) <= set(ServerConfig.model_fields)
    assert all(name.startswith(ENV_PREFIX) for name in built(folder)["ConfigMap"]["data"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_draining_fits_into_the_grace_period(folder: str) -> None:
    # A bundle is asked for, but not looked at.
    config = ServerConfig.model_validate({"bundle": ".", **settings(folder)})
    needed_s = (config.drain_notice_ms + config.drain_ms) / 1e3 + 2 * REFUSING_S
    assert pod(folder)["terminationGracePeriodSeconds"] >= needed_s + 5
    # Readiness is seen by the time that the notice is over, too, where nobody watches endpoints.
    assert config.drain_notice_ms >= 5_000


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_meet_the_restricted_standard(folder: str) -> None:
    """The rules of Kubernetes' Pod Security Standard `restricted`, and no way to write."""
    rules, own = pod(folder)["securityContext"], container(folder)["securityContext"]
    assert rules["runAsNonRoot"] is True
    assert rules["runAsUser"] == rules["runAsGroup"] == user_of_the_image()
    assert rules["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert all(mount["readOnly"] for mount in container(folder)["volumeMounts"])
    allowed = {"persistentVolumeClaim", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod(folder)["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(folder))
    assert pod(folder)["automountServiceAccountToken"] is False


def user_of_the_image() -> int:
    text = (DEPLOY.parents[1] / "Dockerfile").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("USER ")]
    user, group = line.removeprefix("USER ").split(":")
    assert user == group
    return int(user)


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_and_ports_lead_to_the_pods(folder: str) -> None:
    objects = built(folder)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["clusterIP"] == "None"
    assert objects["Service"]["spec"]["selector"] == labels
    policy = objects["NetworkPolicy"]["spec"]
    for selector in (
        objects["Deployment"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"],
        policy["podSelector"],
        *(one["labelSelector"] for one in pod(folder)["topologySpreadConstraints"]),
    ):
        assert selector == {"matchLabels": labels}
    ports = {port["name"]: port["containerPort"] for port in container(folder)["ports"]}
    assert ports["grpc"] == 8500
    assert settings(folder)["metrics_listen"].endswith(f":{ports['metrics']}")
    annotations = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])
    wanted = [port["targetPort"] for port in objects["Service"]["spec"]["ports"]]
    wanted += [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert set(wanted) <= set(ports)
    assert {volume["name"] for volume in pod(folder)["volumes"]} == {
        mount["name"] for mount in container(folder)["volumeMounts"]
    }


def test_probes_ask_the_servers_port() -> None:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container("kubernetes")[name]["grpc"] == {"port": 8500}


def test_probes_over_tls_are_commands_that_the_image_has() -> None:
    """Kubernetes' own gRPC probes speak plain text."""
    files = settings("kubernetes-tls")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container("kubernetes-tls")[name]
        program, command, *flags = probe["exec"]["command"]
        assert (program, command) == ("shortlist-server", "health")
        parsed = health.parser().parse_args(flags)
        assert str(parsed.ca_file) == files["tls_certificate_file"]
        assert parsed.timeout_s < probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_files_of_secrets_are_where_they_are_mounted() -> None:
    places = [mount["mountPath"] for mount in container("kubernetes-tls")["volumeMounts"]]
    for name, value in settings("kubernetes-tls").items():
        if name.endswith("_file"):
            assert str(Path(value).parent) in places, name
    assert "allow_plaintext" not in settings("kubernetes-tls")


def test_server_starts_with_the_settings_of_a_pod(tiny_bundle: Path) -> None:
    """The environment as it stands, but for the ports, which may be taken."""
    environment = dict(built("kubernetes")["ConfigMap"]["data"])
    environment[f"{ENV_PREFIX}METRICS_LISTEN"] = "127.0.0.1:0"
    environment[f"{ENV_PREFIX}DRAIN_NOTICE_MS"] = "0"
    environment |= {f"{ENV_PREFIX}BUNDLE": str(tiny_bundle), f"{ENV_PREFIX}LISTEN": "0.0.0.0:0"}
    with subprocess.Popen(
        [sys.executable, "-m", "shortlist_server.cli", "serve"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        assert health.ask(f"127.0.0.1:{port}", timeout_s=10) == "SERVING"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
