"""The same services over HTTP: what they answer, how they refuse, and who may call."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from altered_funnel import AlteredSource, altered, kinds_of, stalled
from connectrpc.client import ConnectClientSync
from connectrpc.code import Code as ConnectCode
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.rpc.error_details_pb2 import ErrorInfo
from http_calls import enveloped, messages, over_grpc, over_http, post
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.errors import ConfigError, MissingExtra
from shortlist_server.generation import Generation
from shortlist_server.rpc.access import METHOD_SCOPES

RECOMMENDATION = "/shortlist.v1.RecommendationService"
RECOMMEND = f"{RECOMMENDATION}/Recommend"
STREAM = f"{RECOMMENDATION}/StreamRecommend"
BUNDLE, CATALOG = "/shortlist.v1.BundleService", "/shortlist.v1.CatalogService"
USER = types.Query(user=types.UserQuery(id="u1"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)
BODY = {"query": {"user": {"id": "u1"}}, "limit": 3}
WRONG = pb.RecommendRequest(query=USER, limit=501)
ITEM = catalog_pb2.Item(id="new", vector=types.Embedding(values=[0.5] * 8))
CALLS: list[tuple[str, Any]] = [
    (RECOMMEND, REQUEST),
    (RECOMMEND, pb.RecommendRequest(query=USER, explain=True, debug=True)),
    (RECOMMEND, WRONG),
    (RECOMMEND, pb.RecommendRequest()),
    (RECOMMEND, pb.RecommendRequest(query=USER, min_revision=1 << 40)),
    (RECOMMEND, pb.RecommendRequest(query=USER, bundle_label="canary")),
    (STREAM, pb.StreamRecommendRequest(request=REQUEST)),
    (STREAM, pb.StreamRecommendRequest()),
    (f"{RECOMMENDATION}/BatchRecommend", pb.BatchRecommendRequest(requests=[REQUEST, WRONG])),
    (f"{RECOMMENDATION}/Retrieve", pb.RetrieveRequest(query=USER)),
    (f"{RECOMMENDATION}/Rank", pb.RankRequest(query=USER, item_ids=["i1", "ghost", "i2"])),
    (f"{RECOMMENDATION}/FindSimilarItems", pb.FindSimilarItemsRequest(item_id="i1", limit=4)),
    (f"{RECOMMENDATION}/FindSimilarItems", pb.FindSimilarItemsRequest(item_id="ghost")),
    (
        "/shortlist.v1.ConversationService/Converse",
        conversation_pb2.ConverseRequest(text="Films", query=USER),
    ),
    (f"{CATALOG}/GetCatalogStats", catalog_pb2.GetCatalogStatsRequest()),
    (f"{CATALOG}/UpsertItems", catalog_pb2.UpsertItemsRequest(items=[ITEM])),
    (f"{CATALOG}/GetItem", catalog_pb2.GetItemRequest(item_id="i1", with_vector=True)),
    (f"{CATALOG}/DeleteItems", catalog_pb2.DeleteItemsRequest(item_ids=["i3"])),
    (f"{BUNDLE}/GetActiveBundle", bundle_pb2.GetActiveBundleRequest()),
    (f"{BUNDLE}/ListBundles", bundle_pb2.ListBundlesRequest()),
    (f"{BUNDLE}/ActivateBundle", bundle_pb2.ActivateBundleRequest(name="tiny", version="1")),
    (f"{BUNDLE}/RollBackBundle", bundle_pb2.RollBackBundleRequest()),
    (f"{BUNDLE}/DeactivateBundle", bundle_pb2.DeactivateBundleRequest(label="canary")),
]


@pytest.fixture(scope="module")
def serve(tiny_bundle: Path, generation: Generation, server: Any) -> Iterator[Callable[..., Any]]:
    running: list[Any] = []

    def start(loaded: Generation = generation, **settings: Any) -> Any:
        settings = {"http_listen": "127.0.0.1:0", **settings}
        running.append(type(server)(tiny_bundle, loaded, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def address(serve: Callable[..., Any]) -> str:
    """A server that answers HTTP, with its defaults."""
    return str(serve(access_log=True).http)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of keys, and the keys: `all`, `narrow`, `slow`."""
    made = {name: make_key() for name in ("all", "narrow", "slow")}
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    scopes = ["recommend", "catalog", "admin", "explain", "debug", "reflection"]
    file.write_text(
        entry(made["all"], name="all", scopes=scopes)
        + "\n"
        + entry(made["narrow"], name="narrow", scopes=["catalog"])
        + "\n"
        + entry(made["slow"], name="slow", scopes=["recommend"], requests_per_second=0.01, burst=1)
    )
    return file, made


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Any], keys: Any) -> str:
    return str(serve(api_keys_file=keys[0]).http)


@pytest.fixture(scope="module")
def twins(serve: Callable[..., Any], keys: Any, tmp_path_factory: Any) -> Iterator[Any]:
    """Two servers that are alike: a channel to one, the address of the other, and a key."""
    folder = tmp_path_factory.mktemp("twins")
    one, other = (
        serve(api_keys_file=keys[0], catalog_store=str(folder / name), default_timeout_ms=20_000)
        for name in ("one", "other")
    )
    with grpc.insecure_channel(one.target) as channel:
        yield channel, other.http, f"Bearer {keys[1]['all']}"


def test_every_method_is_compared_below() -> None:
    ours = {method for method in METHOD_SCOPES if method.startswith("/shortlist.")}
    assert {path for path, _ in CALLS} == ours


def test_each_call_is_answered_as_over_grpc(twins: Any) -> None:
    """One after the other: what is written into one catalogue is written into both."""
    channel, address, key = twins
    for path, request in CALLS:
        expected = over_grpc(channel, path, request, authorization=key)
        assert over_http(address, path, request, authorization=key) == expected, path
        assert expected.answers or expected.details


def test_request_id_is_the_callers_and_comes_back(address: str) -> None:
    reply = post(address, RECOMMEND, BODY, x_request_id="mine")
    assert reply.json["info"]["requestId"] == reply.headers["x-request-id"] == "mine"
    refused = post(address, RECOMMEND, {})
    assert (refused.status, refused.reason) == (400, "FIELD_REQUIRED")
    assert len(refused.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (b"", "a body that is no JSON object"),
        (b"[]", "a body that is no JSON object"),
        (b"null", "a body that is no JSON object"),
        (b'{"limit": 3', "Failed to load JSON"),
        (b"{\xff}", "'utf-8' codec can't decode"),
        (b'{"limti": 3}', 'has no field named "limti"'),
        (b'{"limit": "many"}', "Failed to parse limit field"),
        (b'{"limit": 3, "limit": 4}', "duplicate key limit"),
        (b'{"query": {"user": {"id": "\\ud800"}}}', "Unpaired surrogate"),
        (b'{"bundleLabel": ' + b"[" * 100_000, "recursion"),
    ],
)
def test_bodies_that_are_no_message_are_refused(address: str, body: bytes, got: str) -> None:
    reply = post(address, RECOMMEND, body)
    assert (reply.status, reply.json["code"]) == (400, "invalid_argument")
    assert reply.reason == "INVALID_VALUE"
    info = reply.json["details"][0]["debug"]["metadata"]
    assert (info["field"], info["expected"]) == ("request", "a message of the method's type")
    assert got in info["got"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", RECOMMEND, {}, 405),
        ("POST", "/openapi.json", {}, 405),
        ("POST", f"{RECOMMENDATION}/Recommand", {}, 404),
        ("POST", "/", {}, 404),
        ("POST", RECOMMEND, {"content_type": "text/plain"}, 415),
        ("POST", RECOMMEND, {"content_type": "application/grpc"}, 415),
        ("POST", RECOMMEND, {"content_type": "application/grpc+proto"}, 415),
        ("POST", RECOMMEND, {"connect_timeout_ms": "soon"}, 400),
        ("POST", RECOMMEND, {"content_encoding": "zip"}, 501),
        ("POST", RECOMMEND, {"x_name": "Zo\u00eb"}, 400),
    ],
)
def test_what_is_no_call_is_refused(
    address: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert post(address, path, BODY, method=method, **headers).status == status


def test_request_that_is_too_large_is_refused(serve: Callable[..., Any]) -> None:
    address = serve(message_bytes_max=2_000).http
    assert post(address, RECOMMEND, BODY).status == 200
    large = {"query": {"user": {"id": "u" * 2_000}}}
    reply = post(address, RECOMMEND, large)
    assert (reply.status, reply.json["code"]) == (429, "resource_exhausted")
    asked = enveloped(json.dumps({"request": large}).encode())
    kind = "application/connect+json"
    _, end = messages(post(address, STREAM, asked, content_type=kind).body)
    assert end["error"]["code"] == "resource_exhausted"


def test_connections_have_a_most(serve: Callable[..., Any]) -> None:
    host, port = serve(http_connections_max=2).http.split(":")
    with socket.create_connection((host, int(port))), socket.create_connection((host, int(port))):
        assert post(f"{host}:{port}", RECOMMEND, BODY).status == 503


@pytest.mark.parametrize(
    ("key", "status", "reason"),
    [
        (None, 401, "API_KEY_MISSING"),
        ("wrong", 401, "API_KEY_INVALID"),
        ("narrow", 403, "SCOPE_MISSING"),
        ("all", 200, ""),
    ],
)
def test_callers_are_known_by_their_keys(
    guarded: str, keys: Any, key: str | None, status: int, reason: str
) -> None:
    headers = {} if key is None else {"authorization": f"Bearer {keys[1].get(key, key)}"}
    reply = post(guarded, RECOMMEND, BODY, **headers)
    assert reply.status == status
    assert not reason or reply.reason == reason
    # The description is as open as reflection is.
    described = post(guarded, "/openapi.json", b"", method="GET", **headers)
    assert described.status == status
    assert post(guarded, "/grpc.health.v1.Health/Check", {}, **headers).json == {
        "status": "SERVING"
    }


def test_rate_limits_hold(guarded: str, keys: Any) -> None:
    key = f"Bearer {keys[1]['slow']}"
    assert post(guarded, RECOMMEND, BODY, authorization=key).status == 200
    reply = post(guarded, RECOMMEND, BODY, authorization=key)
    assert (reply.status, reply.reason) == (429, "RATE_LIMITED")


def test_callers_without_a_key_are_refused_before_their_body_is_read(guarded: str) -> None:
    host, port = guarded.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST {RECOMMEND} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            "content-length: 1000000\r\n\r\n".encode()
        )
        assert connection.recv(1_000).startswith(b"HTTP/1.1 401")


def test_deadline_ends_a_call(serve: Callable[..., Any], generation: Generation) -> None:
    slow, gate, begun = stalled(generation)
    address = serve(slow).http
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(post, address, RECOMMEND, BODY, connect_timeout_ms="200")
        assert begun.acquire(timeout=10)
        reply = call.result(timeout=20)
        gate.set()
    assert (reply.status, reply.json["code"]) == (504, "deadline_exceeded")


def test_time_budget_of_calls_without_a_deadline(
    serve: Callable[..., Any], generation: Generation
) -> None:
    slow, gate, begun = stalled(generation)
    address = serve(slow, default_timeout_ms=20).http
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(post, address, RECOMMEND, BODY)
        assert begun.acquire(timeout=10)
        threading.Timer(0.05, gate.set).start()
        reply = call.result(timeout=20)
    assert (reply.status, reply.reason) == (504, "DEADLINE_EXCEEDED")


def test_too_many_calls_and_faults(serve: Callable[..., Any], generation: Generation) -> None:
    slow, gate, begun = stalled(generation)
    busy = serve(slow, waiting_max=0, compute_threads=1).http
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, busy, RECOMMEND, BODY, connect_timeout_ms="20000")
        assert begun.acquire(timeout=10)
        refused = post(busy, RECOMMEND, BODY)
        gate.set()
        assert first.result(timeout=20).status == 200
    assert (refused.status, refused.reason) == (429, "OVERLOADED")

    def fails(ask: Any) -> None:
        raise RuntimeError("secret")

    source = AlteredSource(kinds_of(generation)["nearest"], fails)
    broken = serve(altered(generation, kinds={"nearest": source})).http
    reply = post(broken, RECOMMEND, BODY, x_request_id="abc")
    assert (reply.status, reply.reason) == (500, "INTERNAL")
    assert b"secret" not in reply.body
    assert reply.headers["x-request-id"] == "abc"


@pytest.mark.parametrize("path", [RECOMMEND, STREAM])
def test_call_whose_caller_has_gone_is_cancelled(
    serve: Callable[..., Any],
    generation: Generation,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    slow, gate, begun = stalled(generation)
    host, port = serve(slow, access_log=True).http.split(":")
    body, kind = json.dumps(BODY).encode(), "application/json"
    if path == STREAM:
        body, kind = enveloped(b'{"request": %b}' % body), "application/connect+json"
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\n"
    with caplog.at_level(logging.INFO, "shortlist_server.access_log"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            assert begun.acquire(timeout=10)
        end = time.monotonic() + 20
        while not caplog.messages and time.monotonic() < end:
            time.sleep(0.01)
    gate.set()
    (message,) = caplog.messages
    assert f"{path} CANCELLED" in message


def test_draining_refuses_by_name_and_lets_calls_finish(
    serve: Callable[..., Any], generation: Generation
) -> None:
    slow, gate, begun = stalled(generation)
    running = serve(slow)
    address, wrong = running.http, {"query": {}}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, address, RECOMMEND, BODY, connect_timeout_ms="20000")
        assert begun.acquire(timeout=10)
        draining = pool.submit(running.drain)
        reply = post(address, RECOMMEND, wrong)
        while reply.status == 400:
            reply = post(address, RECOMMEND, wrong)
        assert (reply.status, reply.reason) == (503, "SHUTTING_DOWN")
        # Who keeps connections for later calls is told not to.
        assert reply.headers["connection"] == "close"
        gate.set()
        draining.result(timeout=20)
        answered = first.result(timeout=20)
    assert (answered.status, len(answered.json["items"])) == (200, 3)
    with pytest.raises(ConnectionRefusedError):
        post(address, RECOMMEND, BODY)


def test_pages_of_other_origins_may_call_only_where_they_are_named(
    serve: Callable[..., Any], address: str
) -> None:
    origin, other = "https://shop.example", "https://evil.example"
    asks = {
        "method": "OPTIONS",
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization, content-type",
    }
    for method in ("POST", "OPTIONS"):
        reply = post(address, RECOMMEND, BODY, **{**asks, "method": method}, origin=origin)
        assert not [name for name in reply.headers if name.startswith("access-control")]
    open_to_shop = serve(http_cors_origins=f"{origin} http://127.0.0.1:3000").http
    preflight = post(open_to_shop, RECOMMEND, b"", **asks, origin=origin)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    called = post(open_to_shop, RECOMMEND, BODY, origin=origin)
    assert called.headers["access-control-allow-origin"] == origin
    assert "grpc-status" in called.headers["access-control-expose-headers"]
    assert post(open_to_shop, RECOMMEND, b"", **asks, origin=other).status == 400
    strange = post(open_to_shop, RECOMMEND, BODY, origin=other)
    assert "access-control-allow-origin" not in strange.headers


@pytest.mark.parametrize("protocol", [ProtocolType.CONNECT, ProtocolType.GRPC_WEB])
def test_clients_of_connect_and_grpc_web_are_answered(
    address: str, protocol: ProtocolType, stub: Any
) -> None:
    def method(
        name: str, asked: Any, answered: Any, kind: StreamType = StreamType.UNARY
    ) -> MethodInfo[Any, Any]:
        return MethodInfo(
            name=name,
            service_name=RECOMMENDATION[1:],
            input=asked,
            output=answered,
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=kind,
        )

    recommend = method("Recommend", pb.RecommendRequest, pb.RecommendResponse)
    batch = method(
        "BatchRecommend",
        pb.BatchRecommendRequest,
        pb.BatchRecommendResponse,
        StreamType.SERVER_STREAM,
    )
    client = ConnectClientSync(
        f"http://{address}", protocol=protocol, codec=google_protobuf_binary_codec()
    )
    with client:
        answer = client.execute_unary(request=REQUEST, method=recommend, timeout_ms=10_000)
        assert list(answer.items) == list(stub.Recommend(REQUEST, timeout=10).items)
        rows = list(
            client.execute_server_stream(
                request=pb.BatchRecommendRequest(requests=[REQUEST, WRONG]), method=batch
            )
        )
        assert [row.HasField("error") for row in rows] == [False, True]
        with pytest.raises(ConnectError, match=r"limit: expected 1\.\.500") as caught:
            client.execute_unary(request=WRONG, method=recommend)
    assert caught.value.code is ConnectCode.INVALID_ARGUMENT
    detail = caught.value.details[0]
    assert detail.type_name == "google.rpc.ErrorInfo"
    assert ErrorInfo.FromString(detail.message_bytes).reason == "OUT_OF_RANGE"


def test_answers_do_not_wait_for_acknowledgements(serve: Callable[..., Any]) -> None:
    running = serve()
    host, port = running.http.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 404")
        (accepted,) = running._server._http._server.server_state.connections
        accepted = accepted.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_second_server_on_the_port_is_refused(address: str, serve: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^http_listen: cannot bind {address}: "):
        serve(http_listen=address)


def test_other_machines_reach_it_by_tls_alone(serve: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"^http_listen: expected a loopback address"):
        serve(http_listen="0.0.0.0:0")


def test_extra_that_is_missing_is_named(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shortlist_server.rpc.http.front", None)
    with pytest.raises(MissingExtra, match=r"shortlist\[http\]"):
        serve()
