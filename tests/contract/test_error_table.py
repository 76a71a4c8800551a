"""One error of every reason, over a real socket: its status, and the details that the comment of
the reason shows.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from altered_funnel import AlteredSource, altered, kinds_of, stalled
from shortlist.v1 import bundle_pb2, bundle_pb2_grpc, conversation_pb2, errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server import app, errors
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.access.token_bucket import TokenBucket
from shortlist_server.errors import (
    CatalogReadOnly,
    CatalogUnavailable,
    IdempotencyKeyReused,
    ShortlistError,
    TextEmbedderUnavailable,
)
from shortlist_server.generation import Generation

Code = grpc.StatusCode
USER = types.Query(user=types.UserQuery(id="u1"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)
ROOT = Path(__file__).parents[2]
REASONS = [
    value.name.removeprefix("ERROR_REASON_") for value in errors_pb2.ErrorReason.DESCRIPTOR.values
][1:]


def named(attribute: str, **held: Any) -> types.Filter:
    value = types.Value(**held)
    return types.Filter(equals=types.EqualsCondition(attribute=attribute, value=value))


def features(**held: types.Value) -> types.Query:
    return types.Query(user=types.UserQuery(id="u1", features=held))


BY_REQUEST: dict[str, tuple[pb.RecommendRequest, Code]] = {
    "FIELD_REQUIRED": (pb.RecommendRequest(), Code.INVALID_ARGUMENT),
    "OUT_OF_RANGE": (pb.RecommendRequest(query=USER, limit=501), Code.INVALID_ARGUMENT),
    "INVALID_VALUE": (
        pb.RecommendRequest(query=features(age=types.Value())),
        Code.INVALID_ARGUMENT,
    ),
    "DIMENSION_MISMATCH": (
        pb.RecommendRequest(query=types.Query(embedding=types.Embedding(values=[1]))),
        Code.INVALID_ARGUMENT,
    ),
    "FEATURE_TYPE_MISMATCH": (
        pb.RecommendRequest(query=features(age=types.Value(string_value="old"))),
        Code.INVALID_ARGUMENT,
    ),
    "UNKNOWN_FEATURE": (
        pb.RecommendRequest(query=features(agee=types.Value(int64_value=1)), strict=True),
        Code.INVALID_ARGUMENT,
    ),
    "UNKNOWN_ATTRIBUTE": (
        pb.RecommendRequest(query=USER, filter=named("yaer", int64_value=1)),
        Code.INVALID_ARGUMENT,
    ),
    "UNKNOWN_ITEM": (
        pb.RecommendRequest(query=types.Query(items=types.ItemsQuery(item_ids=["ghost"]))),
        Code.NOT_FOUND,
    ),
    "UNKNOWN_OUTPUT": (
        pb.RecommendRequest(query=USER, output_weights={"lik": 1}),
        Code.INVALID_ARGUMENT,
    ),
    "EXCLUDED_ITEM_REQUESTED": (
        pb.RecommendRequest(
            query=USER,
            exclusions=types.Exclusions(item_ids=["i1"]),
            selection=types.SelectionOptions(pinned_items=[types.PinnedItem(item_id="i1")]),
        ),
        Code.INVALID_ARGUMENT,
    ),
    "ATTRIBUTE_TYPE_MISMATCH": (
        pb.RecommendRequest(query=USER, filter=named("year", string_value="1999")),
        Code.INVALID_ARGUMENT,
    ),
    "LABEL_NOT_LOADED": (
        pb.RecommendRequest(query=USER, bundle_label="canary"),
        Code.FAILED_PRECONDITION,
    ),
    "UNKNOWN_SOURCE": (
        pb.RecommendRequest(query=USER, sources=[types.SourceOptions(name="trendy")]),
        Code.INVALID_ARGUMENT,
    ),
    "REVISION_NOT_REACHED": (
        pb.RecommendRequest(query=USER, min_revision=7),
        Code.UNAVAILABLE,
    ),
}
BY_STATE = {
    "DEADLINE_EXCEEDED": Code.DEADLINE_EXCEEDED,
    "OVERLOADED": Code.RESOURCE_EXHAUSTED,
    "SHUTTING_DOWN": Code.UNAVAILABLE,
    "INTERNAL": Code.INTERNAL,
    "API_KEY_MISSING": Code.UNAUTHENTICATED,
    "API_KEY_INVALID": Code.UNAUTHENTICATED,
    "SCOPE_MISSING": Code.PERMISSION_DENIED,
    "RATE_LIMITED": Code.RESOURCE_EXHAUSTED,
    "BUNDLE_MISSING": Code.NOT_FOUND,
    "BUNDLE_CORRUPT": Code.FAILED_PRECONDITION,
    "BUNDLE_UNSUPPORTED": Code.FAILED_PRECONDITION,
    "PARITY": Code.FAILED_PRECONDITION,
    "MODEL_SIGNATURE_MISMATCH": Code.FAILED_PRECONDITION,
    "NOT_CONFIGURED": Code.FAILED_PRECONDITION,
    "SWITCH_UNDER_WAY": Code.ABORTED,
    "CATALOG_UNAVAILABLE": Code.UNAVAILABLE,
    "TEXT_EMBEDDER_UNAVAILABLE": Code.UNAVAILABLE,
    "IDEMPOTENCY_KEY_REUSED": Code.INVALID_ARGUMENT,
    "CATALOG_READ_ONLY": Code.FAILED_PRECONDITION,
    "CONVERSATION_NOT_FOUND": Code.NOT_FOUND,
}


def test_every_reason_is_tested_here() -> None:
    assert sorted([*BY_REQUEST, *BY_STATE]) == sorted(REASONS)


@pytest.fixture
def serve(tiny_bundle: Path, server: Any) -> Iterator[Callable[..., Any]]:
    running: list[Any] = []

    def start(generation: Generation, **settings: Any) -> Any:
        running.append(type(server)(tiny_bundle, generation, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def example(reason: str) -> dict[str, Any]:
    """The ErrorInfo that the comment of a reason shows."""
    text = (ROOT / "protos/shortlist/v1/errors.proto").read_text()
    found = re.search(rf'//     (\{{"reason": "{reason}".*?\}}\}})\n', text, re.DOTALL)
    assert found, reason
    shown: dict[str, Any] = json.loads(re.sub(r"\n\s*//", " ", found[1]))
    return shown


def check_details(refusal: Any, reason: str, code: Code) -> None:
    assert (refusal.code, refusal.info.reason) == (code, reason)
    shown = example(reason)
    assert refusal.info.domain == shown["domain"]
    assert set(refusal.info.metadata) == set(shown["metadata"])


@pytest.mark.parametrize("reason", BY_REQUEST)
def test_what_a_request_says_is_refused_with_the_details_of_its_reason(
    reason: str, stub: Stub, refuse: Any
) -> None:
    request, code = BY_REQUEST[reason]
    refusal = refuse(stub.Recommend, request)
    check_details(refusal, reason, code)
    field, expected, got = (refusal.info.metadata[key] for key in ("field", "expected", "got"))
    assert refusal.message == f"{field}: expected {expected}, got {got}"
    # The same error as a row of a batch, and as a stream.
    (row,) = stub.BatchRecommend(pb.BatchRecommendRequest(requests=[request]), timeout=10)
    assert row.error.code == code.value[0]
    assert row.error.reason == errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    assert row.error.message == refusal.message
    row_id = row.error.metadata.pop("request_id")
    assert row_id.endswith("/0")
    assert dict(row.error.metadata) == dict(refusal.info.metadata)
    streamed = refuse(
        lambda message, **options: list(stub.StreamRecommend(message, **options)),
        pb.StreamRecommendRequest(request=request),
    )
    assert (streamed.code, streamed.info) == (refusal.code, refusal.info)


def test_deadline_exceeded(generation: Generation, serve: Callable[..., Any], refuse: Any) -> None:
    slow, gate, begun = stalled(generation)
    # The caller waits longer than the server, which tells of its own deadline.
    running = serve(slow, default_timeout_ms=20)
    with grpc.insecure_channel(running.target) as channel, ThreadPoolExecutor(1) as pool:
        call = pool.submit(refuse, Stub(channel).Recommend, REQUEST, timeout=None)
        assert begun.acquire(timeout=10)
        threading.Timer(0.05, gate.set).start()
        refusal = call.result(timeout=20)
    check_details(refusal, "DEADLINE_EXCEEDED", Code.DEADLINE_EXCEEDED)
    assert refusal.info.metadata["stage"] == "retrieval"


def test_overloaded(generation: Generation, serve: Callable[..., Any], refuse: Any) -> None:
    slow, gate, begun = stalled(generation)
    running = serve(slow, waiting_max=0, compute_threads=1)
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        first = stub.Recommend.future(REQUEST, timeout=20)
        assert begun.acquire(timeout=10)
        refusal = refuse(stub.Recommend, REQUEST)
        gate.set()
        assert len(first.result(timeout=10).items) == 3
    check_details(refusal, "OVERLOADED", Code.RESOURCE_EXHAUSTED)
    assert refusal.info.metadata["expected"] == "at most 0 requests waiting"


def test_shutting_down(generation: Generation, serve: Callable[..., Any], refuse: Any) -> None:
    slow, gate, begun = stalled(generation)
    running = serve(slow)
    with grpc.insecure_channel(running.target) as channel, ThreadPoolExecutor(1) as pool:
        stub = Stub(channel)
        first = stub.Recommend.future(REQUEST, timeout=20)
        assert begun.acquire(timeout=10)
        draining = pool.submit(running.drain)
        refusal = None
        while refusal is None:
            answer = stub.Recommend.future(pb.RecommendRequest(), timeout=10)
            if answer.exception(timeout=10).code() is Code.UNAVAILABLE:
                refusal = refuse(stub.Recommend, pb.RecommendRequest())
        gate.set()
        draining.result(timeout=20)
        assert len(first.result(timeout=10).items) == 3
    check_details(refusal, "SHUTTING_DOWN", Code.UNAVAILABLE)


def test_internal(generation: Generation, serve: Callable[..., Any], refuse: Any) -> None:
    def fails(ask: Any) -> None:
        raise RuntimeError("secret")

    source = AlteredSource(kinds_of(generation)["nearest"], fails)
    running = serve(altered(generation, kinds={"nearest": source}))
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        refusal = refuse(stub.Recommend, REQUEST, metadata=(("x-request-id", "abc"),))
        rows = list(
            stub.BatchRecommend(
                pb.BatchRecommendRequest(requests=[REQUEST]),
                timeout=10,
                metadata=(("x-request-id", "abc"),),
            )
        )
    check_details(refusal, "INTERNAL", Code.INTERNAL)
    assert refusal.info.metadata["request_id"] == "abc"
    error = rows[0].error
    assert (error.code, error.reason) == (13, errors_pb2.ERROR_REASON_INTERNAL)
    assert error.metadata["request_id"] == "abc/0"
    assert "secret" not in error.message + refusal.message


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("CATALOG_UNAVAILABLE", CatalogUnavailable("the disk is full", retry_delay_ms=1500)),
        (
            "TEXT_EMBEDDER_UNAVAILABLE",
            TextEmbedderUnavailable(problem="LLM_TIMEOUT", retry_delay_ms=1500),
        ),
        ("IDEMPOTENCY_KEY_REUSED", IdempotencyKeyReused("load-17")),
        ("CATALOG_READ_ONLY", CatalogReadOnly()),
    ],
)
def test_the_store_refuses(
    generation: Generation,
    serve: Callable[..., Any],
    refuse: Any,
    reason: str,
    error: ShortlistError,
) -> None:
    def fails(ask: Any) -> None:
        raise error

    source = AlteredSource(kinds_of(generation)["nearest"], fails)
    running = serve(altered(generation, kinds={"nearest": source}))
    with grpc.insecure_channel(running.target) as channel:
        refusal = refuse(Stub(channel).Recommend, REQUEST)
    check_details(refusal, reason, BY_STATE[reason])


def test_conversation_not_found(channel: grpc.Channel, refuse: Any) -> None:
    refusal = refuse(
        lambda message, **options: list(
            ConversationServiceStub(channel).Converse(message, **options)
        ),
        conversation_pb2.ConverseRequest(text="Films", conversation_id="ghost"),
    )
    check_details(refusal, "CONVERSATION_NOT_FOUND", Code.NOT_FOUND)
    assert refusal.info.metadata["got"] == "ghost"


@pytest.mark.parametrize(
    "reason", ["API_KEY_MISSING", "API_KEY_INVALID", "SCOPE_MISSING", "RATE_LIMITED"]
)
def test_callers_are_refused_by_their_keys(
    generation: Generation, serve: Callable[..., Any], refuse: Any, tmp_path: Path, reason: str
) -> None:
    keys = {"RATE_LIMITED": make_key(), "SCOPE_MISSING": make_key()}
    slow = entry(
        keys["RATE_LIMITED"], name="a", scopes=["recommend"], requests_per_second=0.01, burst=1
    )
    narrow = entry(keys["SCOPE_MISSING"], name="b", scopes=["catalog"])
    (tmp_path / "keys.toml").write_text(f"{slow}\n{narrow}")
    running = serve(generation, api_keys_file=tmp_path / "keys.toml")
    sent = {**keys, "API_KEY_INVALID": make_key()}
    metadata = (("authorization", f"Bearer {sent[reason]}"),) if reason in sent else ()
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        if reason == "RATE_LIMITED":
            stub.Recommend(REQUEST, timeout=10, metadata=metadata)
        refusal = refuse(stub.Recommend, REQUEST, metadata=metadata)
    check_details(refusal, reason, BY_STATE[reason])


class Refuses:
    """In the supervisor's place, which `tests/faults/test_workers.py` has for real."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def roll_back(self, *, label: str) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("BUNDLE_MISSING", errors.BundleMissing("films 7: no such bundle")),
        ("BUNDLE_CORRUPT", errors.BundleCorrupt("index/hnsw.bin: expected 2 bytes, got 1")),
        ("BUNDLE_UNSUPPORTED", errors.BundleUnsupported("format_version: expected 1, got 2")),
        ("PARITY", errors.ParityError("ranker.rating: expected 1, got 2")),
        ("MODEL_SIGNATURE_MISMATCH", errors.ModelSignatureMismatch("tensor 'user': expected ...")),
        ("SWITCH_UNDER_WAY", errors.SwitchUnderWay()),
        ("NOT_CONFIGURED", None),
    ],
)
def test_switches_are_refused_by_what_is_wrong(
    generation: Generation,
    serve: Callable[..., Any],
    refuse: Any,
    tmp_path: Path,
    reason: str,
    error: Exception | None,
) -> None:
    key = make_key()
    (tmp_path / "keys.toml").write_text(entry(key, name="a", scopes=["admin"]))
    shared = None
    if error is not None:
        control: Any = Refuses(error)
        shared = app.Shared(port=0, control=control, make_bucket=lambda *_: TokenBucket(1, 1))
    running = serve(generation, shared=shared, api_keys_file=tmp_path / "keys.toml")
    with grpc.insecure_channel(running.target) as channel:
        stub = bundle_pb2_grpc.BundleServiceStub(channel)
        metadata = (("authorization", f"Bearer {key}"),)
        request = bundle_pb2.RollBackBundleRequest()
        refusal = refuse(stub.RollBackBundle, request, metadata=metadata)
    check_details(refusal, reason, BY_STATE[reason])


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("BatchRecommend", pb.BatchRecommendRequest(), "requests"),
        ("StreamRecommend", pb.StreamRecommendRequest(), "request"),
        ("StreamRecommend", pb.StreamRecommendRequest(request=pb.RecommendRequest()), "query"),
    ],
)
def test_empty_streams_are_refused_by_field(
    stub: Stub, refuse: Any, method: str, request_: Any, field: str
) -> None:
    refusal = refuse(
        lambda message, **options: list(getattr(stub, method)(message, **options)), request_
    )
    check_details(refusal, "FIELD_REQUIRED", Code.INVALID_ARGUMENT)
    assert refusal.info.metadata["field"] == field


def test_batch_of_too_many_rows_is_refused_as_a_whole(stub: Stub, refuse: Any) -> None:
    request = pb.BatchRecommendRequest(requests=[REQUEST] * 1_025)
    refusal = refuse(
        lambda message, **options: list(stub.BatchRecommend(message, **options)), request
    )
    check_details(refusal, "OUT_OF_RANGE", Code.INVALID_ARGUMENT)
    assert refusal.info.metadata["field"] == "requests"
    assert refusal.info.metadata["got"] == "1025"
