"""Who may call what: every method by no key, a wrong key and a key of each scope, with and without
TLS and client certificates; and what refusals and logs say.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from certificates import Authority
from conftest import RunningServer
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.bundle_pb2_grpc import BundleServiceStub
from shortlist.v1.catalog_pb2_grpc import CatalogServiceStub
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server import app
from shortlist_server.access.api_keys import IMPLIED, Scope, entry, make_key
from shortlist_server.access.token_bucket import TokenBucket
from shortlist_server.generation import Generation
from shortlist_server.rpc.access import METHOD_SCOPES

Code = grpc.StatusCode
USER = types.Query(user=types.UserQuery(id="u1"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)


@dataclass(frozen=True)
class Way:
    """A method, how to call it, and the scopes of which any opens it; none: it is open."""

    stub: Any
    request: Any
    scopes: set[str] = field(default_factory=set)

    def call(self, channel: grpc.Channel, name: str, key: str | None) -> Any:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        method = getattr(self.stub(channel), name)
        request = iter([self.request]) if name == "ServerReflectionInfo" else self.request
        answer = method(request, timeout=10, metadata=metadata)
        # A stream of health has no end of its own.
        return next(answer) if hasattr(answer, "__next__") else answer


R = RecommendationServiceStub
WAYS = {
    "Recommend": Way(R, REQUEST, {"recommend"}),
    "StreamRecommend": Way(R, pb.StreamRecommendRequest(request=REQUEST), {"recommend"}),
    "BatchRecommend": Way(R, pb.BatchRecommendRequest(requests=[REQUEST]), {"recommend"}),
    "Retrieve": Way(R, pb.RetrieveRequest(query=USER), {"recommend"}),
    "Rank": Way(R, pb.RankRequest(query=USER, item_ids=["i1"]), {"recommend"}),
    "FindSimilarItems": Way(R, pb.FindSimilarItemsRequest(item_id="i1"), {"recommend"}),
    "Converse": Way(
        ConversationServiceStub,
        conversation_pb2.ConverseRequest(text="Films", query=USER),
        {"recommend"},
    ),
    "GetActiveBundle": Way(
        BundleServiceStub, bundle_pb2.GetActiveBundleRequest(), {"recommend", "admin"}
    ),
    "ListBundles": Way(BundleServiceStub, bundle_pb2.ListBundlesRequest(), {"admin"}),
    "ActivateBundle": Way(
        BundleServiceStub, bundle_pb2.ActivateBundleRequest(sha256="0" * 64), {"admin"}
    ),
    "RollBackBundle": Way(BundleServiceStub, bundle_pb2.RollBackBundleRequest(), {"admin"}),
    "DeactivateBundle": Way(
        BundleServiceStub, bundle_pb2.DeactivateBundleRequest(label="canary"), {"admin"}
    ),
    "GetCatalogStats": Way(CatalogServiceStub, catalog_pb2.GetCatalogStatsRequest(), {"catalog"}),
    "UpsertItems": Way(
        CatalogServiceStub,
        catalog_pb2.UpsertItemsRequest(
            items=[catalog_pb2.Item(id="new", vector=types.Embedding(values=[1.0] * 8))]
        ),
        {"catalog"},
    ),
    "DeleteItems": Way(
        CatalogServiceStub, catalog_pb2.DeleteItemsRequest(item_ids=["ghost"]), {"catalog"}
    ),
    "GetItem": Way(CatalogServiceStub, catalog_pb2.GetItemRequest(item_id="i1"), {"catalog"}),
    "ServerReflectionInfo": Way(
        reflection_pb2_grpc.ServerReflectionStub,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        {"reflection"},
    ),
    "Check": Way(health_pb2_grpc.HealthStub, health_pb2.HealthCheckRequest()),
    "Watch": Way(health_pb2_grpc.HealthStub, health_pb2.HealthCheckRequest()),
}
KEYS = {scope.value: make_key() for scope in Scope}
EVERYTHING = make_key()


class OneBundle:
    """In the supervisor's place: there is one bundle, and it is active."""

    bundle: ClassVar[dict[str, Any]] = {
        "folder": "a",
        "name": "films",
        "version": "1",
        "sha256": "0" * 64,
        "created": "2026-01-01T00:00:00+00:00",
        "labels": ["stable"],
        "problem": "",
    }

    async def list_bundles(self) -> list[dict[str, Any]]:
        return [self.bundle]

    async def activate(self, **wanted: Any) -> dict[str, Any]:
        return {"bundle": self.bundle, "previous": None, "switched": False}

    async def roll_back(self, *, label: str) -> dict[str, Any]:
        return {"bundle": self.bundle, "previous": self.bundle, "switched": True}

    async def deactivate(self, *, label: str) -> dict[str, Any]:
        return {"previous": self.bundle}


def shared() -> app.Shared:
    def make_bucket(digest: bytes, per_second: float, burst: int) -> TokenBucket:
        return TokenBucket(per_second, burst)

    return app.Shared(port=0, control=OneBundle(), make_bucket=make_bucket)


def test_matrix_has_every_method() -> None:
    # Channelz, which is off by default, has tests of its own.
    methods = [method for method in METHOD_SCOPES if "channelz" not in method]
    assert set(WAYS) == {method.rpartition("/")[2] for method in methods} - {"List"}
    callers = len(KEYS) + len(["nobody", "stranger", "everything"])
    print(f"access: {len(WAYS)} methods x {callers} callers x plain, TLS and mutual TLS")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("access")
    entries = [entry(key, name=f"of-{scope}", scopes=[scope]) for scope, key in KEYS.items()]
    entries.append(entry(EVERYTHING, name="everything", scopes=list(Scope)))
    (made / "keys.toml").write_text("\n".join(entries))
    authority = Authority("tests")
    authority.issue("server").write(made / "server.pem", made / "server.key")
    authority.issue("client").write(made / "client.pem", made / "client.key")
    (made / "ca.pem").write_bytes(authority.pem)
    return made


@pytest.fixture(scope="module", params=["plain", "tls", "mtls"])
def guarded(
    request: pytest.FixtureRequest, folder: Path, tiny_bundle: Path, generation: Generation
) -> Iterator[grpc.Channel]:
    """A channel to a server that has keys."""
    settings: dict[str, Any] = {
        "api_keys_file": folder / "keys.toml",
        "catalog_store": str(folder / f"{request.param}.sqlite"),
    }
    if request.param != "plain":
        settings["tls_certificate_file"] = folder / "server.pem"
        settings["tls_key_file"] = folder / "server.key"
    if request.param == "mtls":
        settings["tls_client_ca_file"] = folder / "ca.pem"
    server = RunningServer(tiny_bundle, generation, shared(), **settings)
    if request.param == "plain":
        channel = grpc.insecure_channel(server.target)
    else:
        mutual = request.param == "mtls"
        credentials = grpc.ssl_channel_credentials(
            (folder / "ca.pem").read_bytes(),
            (folder / "client.key").read_bytes() if mutual else None,
            (folder / "client.pem").read_bytes() if mutual else None,
        )
        channel = grpc.secure_channel(server.target, credentials)
    with channel:
        yield channel
    server.stop()


@pytest.mark.parametrize("method", WAYS)
def test_each_method_is_opened_by_its_scopes_and_by_nothing_else(
    guarded: grpc.Channel, refusal_in: Any, method: str
) -> None:
    way = WAYS[method]
    callers: dict[str, str | None] = {**KEYS, "nobody": None, "stranger": make_key()}
    for who, key in callers.items():
        implied = IMPLIED.get(Scope(who), set()) if who in KEYS else set()
        if not way.scopes or who in way.scopes or way.scopes & implied:
            assert way.call(guarded, method, key).ByteSize(), who
            continue
        refusal = refusal_in(lambda key=key: way.call(guarded, method, key))
        expected = {
            "nobody": (Code.UNAUTHENTICATED, "API_KEY_MISSING"),
            "stranger": (Code.UNAUTHENTICATED, "API_KEY_INVALID"),
        }.get(who, (Code.PERMISSION_DENIED, "SCOPE_MISSING"))
        assert (refusal.code, refusal.info.reason) == expected, who
        if who in KEYS:
            assert set(refusal.info.metadata["scope"].split(" or ")) == way.scopes
    assert way.call(guarded, method, EVERYTHING).ByteSize()


@pytest.mark.parametrize("method", WAYS)
def test_server_without_keys_is_open(channel: grpc.Channel, refusal_in: Any, method: str) -> None:
    for key in (None, make_key()):
        if method in ("UpsertItems", "DeleteItems"):  # admitted, to a server without a store
            refusal = refusal_in(lambda key=key: WAYS[method].call(channel, method, key))
            assert refusal.info.reason == "CATALOG_READ_ONLY"
            continue
        if WAYS[method].scopes == {"admin"}:  # which is off unless it is configured
            refusal = refusal_in(lambda key=key: WAYS[method].call(channel, method, key))
            assert refusal.info.reason == "SCOPE_MISSING"
            continue
        assert WAYS[method].call(channel, method, key).ByteSize()


Guard = Callable[..., RunningServer]


@pytest.fixture
def guard(tmp_path: Path, tiny_bundle: Path, generation: Generation) -> Iterator[Guard]:
    """Start a server with these entries as its keys."""
    running: list[RunningServer] = []

    def start(*entries: str, **settings: Any) -> RunningServer:
        (tmp_path / "keys.toml").write_text("\n".join(entries))
        keys = tmp_path / "keys.toml"
        running.append(RunningServer(tiny_bundle, generation, api_keys_file=keys, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


DETAILED = {
    "Recommend": pb.RecommendRequest(query=USER, explain=True, debug=True),
    "StreamRecommend": pb.RecommendRequest(query=USER, explain=True, debug=True),
    "Retrieve": pb.RetrieveRequest(query=USER, explain=True, debug=True),
    "Rank": pb.RankRequest(query=USER, item_ids=["i1"], explain=True, debug=True),
    "FindSimilarItems": pb.FindSimilarItemsRequest(item_id="i1", debug=True),
}


@pytest.mark.parametrize(
    ("method", "detail"),
    # FindSimilarItems has nothing to explain.
    [(m, d) for m in DETAILED for d in ("explain", "debug") if hasattr(DETAILED[m], d)],
)
def test_explain_and_debug_need_their_own_scopes(
    guard: Guard, refusal_in: Any, method: str, detail: str
) -> None:
    other = {"explain": "debug", "debug": "explain"}[detail]
    allowed, refused = make_key(), make_key()
    target = guard(
        entry(allowed, name="allowed", scopes=["recommend", detail]),
        entry(refused, name="refused", scopes=["recommend", other]),
    ).target
    asked = DETAILED[method]
    request = type(asked)()
    request.CopyFrom(asked)
    if hasattr(request, other):
        request.ClearField(other)
    request = pb.StreamRecommendRequest(request=request) if method[0] == "S" else request
    way = Way(R, request)
    with grpc.insecure_channel(target) as channel:
        assert way.call(channel, method, allowed).ByteSize()
        refusal = refusal_in(lambda: way.call(channel, method, refused))
    assert (refusal.code, refusal.info.reason) == (Code.PERMISSION_DENIED, "SCOPE_MISSING")
    assert dict(refusal.info.metadata) == {"scope": detail}


def test_row_that_asks_for_too_much_is_refused_and_the_others_are_answered(guard: Guard) -> None:
    key = make_key()
    target = guard(entry(key, name="a", scopes=["recommend", "explain"])).target
    rows = [
        REQUEST,
        pb.RecommendRequest(query=USER, debug=True),
        pb.RecommendRequest(query=USER, explain=True),
    ]
    with grpc.insecure_channel(target) as channel:
        call = R(channel).BatchRecommend(
            pb.BatchRecommendRequest(requests=rows), timeout=10, metadata=bearer(key)
        )
        first, second, third = sorted(call, key=lambda row: row.index)
    assert first.response.items
    assert third.response.items
    assert second.error.code == Code.PERMISSION_DENIED.value[0]
    assert second.error.reason == errors_pb2.ERROR_REASON_SCOPE_MISSING
    assert second.error.metadata["scope"] == "debug"


def retry_delay_ms(error: Any) -> int:
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    delay = RetryInfo()
    assert any(detail.Unpack(delay) for detail in status.details)
    return delay.retry_delay.ToMilliseconds()


def test_each_key_has_a_limit_of_its_own_and_is_told_when_to_come_back(guard: Guard) -> None:
    slow, free = make_key(), make_key()
    target = guard(
        entry(slow, name="slow", scopes=["recommend"], requests_per_second=0.01, burst=2),
        entry(free, name="free", scopes=["recommend"]),
    ).target
    with grpc.insecure_channel(target) as channel:
        stub = R(channel)
        for _ in range(2):
            stub.Recommend(REQUEST, timeout=10, metadata=bearer(slow))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Recommend(REQUEST, timeout=10, metadata=bearer(slow))
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert 90_000 < retry_delay_ms(caught.value) <= 100_000
        for _ in range(20):
            stub.Recommend(REQUEST, timeout=10, metadata=bearer(free))


def test_rows_of_a_batch_count_like_calls(guard: Guard) -> None:
    key = make_key()
    target = guard(
        entry(key, name="a", scopes=["recommend"], requests_per_second=0.01, burst=10)
    ).target
    batch = pb.BatchRecommendRequest(requests=[REQUEST] * 30)
    with grpc.insecure_channel(target) as channel:
        assert len(list(R(channel).BatchRecommend(batch, timeout=10, metadata=bearer(key)))) == 30
        with pytest.raises(grpc.RpcError) as caught:
            R(channel).Recommend(REQUEST, timeout=10, metadata=bearer(key))
    # 10 there were, 30 were taken, and one more is asked for.
    assert 2_000_000 < retry_delay_ms(caught.value) <= 2_100_000


def test_keys_are_in_no_log_and_no_refusal(
    guard: Guard, refusal_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    known, strange = make_key(), make_key()
    target = guard(
        entry(known, name="shop", scopes=["recommend"], requests_per_second=0.01, burst=3)
    ).target
    said = []
    with grpc.insecure_channel(target) as channel:
        WAYS["Recommend"].call(channel, "Recommend", known)
        bad = Way(R, pb.RecommendRequest())
        debug = Way(R, pb.RecommendRequest(query=USER, debug=True))
        for way, method, key in (
            (WAYS["Recommend"], "Recommend", strange),
            (WAYS["GetCatalogStats"], "GetCatalogStats", known),
            (bad, "Recommend", known),
            (debug, "Recommend", known),
            (WAYS["Recommend"], "Recommend", known),
        ):
            said.append(str(refusal_in(lambda w=way, m=method, k=key: w.call(channel, m, k))))
    assert "RATE_LIMITED" in said[-1]
    for text in (caplog.text, *said):
        for key in (known, strange):
            assert key[3:] not in text
    assert "by key shop" in caplog.text
    assert not any("shop" in text for text in said)


def test_keys_are_not_in_the_request_log(guard: Guard, tmp_path: Path) -> None:
    """`RequestLog.record` takes no metadata; this looks at what it wrote."""
    pytest.importorskip("pyarrow")
    key = make_key()
    (tmp_path / "keys.toml").write_text(entry(key, name="shop", scopes=["recommend"]))
    program = """
import asyncio, pathlib, sys
import grpc
from shortlist.v1 import recommendation_pb2 as pb, types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server import app, config
from shortlist_server.generation import load_generation
from shortlist_server.runtime.compute import ComputePool
bundle, folder, key = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
settings = config.ServerConfig(bundle=bundle, listen="127.0.0.1:0", drain_notice_ms=0,
    api_keys_file=folder / "keys.toml", request_log=folder / "log")
async def main():
    recorder = app.request_log(settings)
    generation = load_generation(bundle)
    server = app.build_server(settings, generation, ComputePool(threads=0, waiting_max=9), recorder)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        query = types.Query(user=types.UserQuery(id="u1"))
        await RecommendationServiceStub(channel).Recommend(
            pb.RecommendRequest(query=query), metadata=(("authorization", f"Bearer {key}"),))
    await server.drain()
    recorder.close()
    generation.close()
asyncio.run(main())
import pyarrow.parquet as parquet
(file,) = (folder / "log").glob("*.parquet")
rows = parquet.read_table(file).to_pylist()
assert len(rows) == 1, rows
assert key[3:] not in repr(rows) and "shop" not in repr(rows)
"""
    (bundle,) = {guard(entry(key, name="shop", scopes=["recommend"])).config.bundle}
    result = subprocess.run(
        [sys.executable, "-c", program, str(bundle), str(tmp_path), key],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_refused_request_is_not_read(guard: Guard, refusal_in: Any) -> None:
    target = guard(entry(make_key(), name="a", scopes=["recommend"])).target
    with grpc.insecure_channel(target) as channel:
        method = channel.unary_unary("/shortlist.v1.RecommendationService/Recommend")
        refusal = refusal_in(lambda: method(b"\xff\xff no message", timeout=10))
    assert refusal.info.reason == "API_KEY_MISSING"


def test_bytes_that_are_no_message_put_no_traceback_into_the_log(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    """Methods of health are open to everybody, and read by grpc.aio itself."""
    target = guard(entry(make_key(), name="a", scopes=["recommend"])).target
    with grpc.insecure_channel(target) as channel:
        method = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\xff\xff", timeout=10)
    assert "/" not in str(caught.value.details())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_unknown_method_is_unimplemented_with_any_key_or_none(guard: Guard) -> None:
    key = make_key()
    target = guard(entry(key, name="a", scopes=["admin"])).target
    with grpc.insecure_channel(target) as channel:
        for metadata in ((), bearer(key)):
            method = channel.unary_unary("/shortlist.v1.RecommendationService/Nothing")
            with pytest.raises(grpc.RpcError) as caught:
                method(b"", timeout=10, metadata=metadata)
            assert caught.value.code() is Code.UNIMPLEMENTED
