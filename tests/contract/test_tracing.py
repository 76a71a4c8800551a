"""Traces, as a collector gets them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import tiny_world
from conftest import RunningServer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as otel
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import TracerProvider
from otlp_collector import Collector, Received
from serving_process import ServingProcess
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_client import Client
from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.generation import Generation
from shortlist_server.observability.spans import Spans, TracingOptions

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01")
NOT_SAMPLED = ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00")
USER = types.Query(user=types.UserQuery(id="u1"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)


class Traced:
    """A server, and the collector that it sends traces to."""

    def __init__(self, server: RunningServer, collector: Collector) -> None:
        self.server = server
        self.collector = collector
        self.channel = grpc.insecure_channel(server.target)
        self.stub = RecommendationServiceStub(self.channel)

    def stop(self) -> None:
        """Stop the server, which sends what it has left."""
        self.channel.close()
        self.server.stop()


Start = Callable[..., Traced]


@pytest.fixture
def start(tiny_bundle: Path, generation: Generation) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(collector: Collector | None = None, **settings: Any) -> Traced:
            own = stack.enter_context(collector or Collector())
            served = settings.pop("generation", generation)
            settings = {"otel_endpoint": own.endpoint, "trace_share": 1.0} | settings
            return Traced(RunningServer(tiny_bundle, served, **settings), own)

        yield begin


def hex_of(identity: bytes) -> str:
    return identity.hex()


def inside(inner: Received, outer: Received) -> bool:
    return (
        outer.span.start_time_unix_nano
        <= inner.span.start_time_unix_nano
        <= inner.span.end_time_unix_nano
        <= outer.span.end_time_unix_nano
    )


def test_a_call_is_a_span_with_one_for_each_stage(start: Start) -> None:
    traced = start(otel_service_name="films")
    metadata = (SAMPLED, ("tracestate", "vendor=1"), ("x-request-id", "mine"))
    answer = traced.stub.Recommend(REQUEST, timeout=10, metadata=metadata)
    traced.stop()
    (call,) = traced.collector.servers()
    assert call.name == "shortlist.v1.RecommendationService/Recommend"
    assert hex_of(call.span.trace_id) == TRACE_ID
    assert hex_of(call.span.parent_span_id) == SPAN_ID
    assert call.span.trace_state == "vendor=1"
    assert call.resource["service.name"] == "films"
    assert call.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "shortlist.v1.RecommendationService",
        "rpc.method": "Recommend",
        "rpc.grpc.status_code": 0,
        "shortlist.request_id": "mine",
        "shortlist.answer_count": 1,
        "shortlist.bundle": "tiny 1",
        "shortlist.items_out": 3,
        "shortlist.degraded": [],
    }
    stages = traced.collector.children(call)
    assert [stage.name for stage in stages] == [stage.name for stage in answer.info.stages]
    for stage, report in zip(stages, answer.info.stages, strict=True):
        assert inside(stage, call)
        assert stage.attributes["shortlist.items_in"] == report.items_in
        assert stage.attributes["shortlist.items_out"] == report.items_out
        spent_ns = stage.span.end_time_unix_nano - stage.span.start_time_unix_nano
        assert spent_ns >= report.duration.ToNanoseconds()
    retrieval = next(stage for stage in stages if stage.name == "retrieval")
    (source,) = traced.collector.children(retrieval)
    assert source.name == "source nearest"
    assert inside(source, retrieval)
    assert source.attributes["shortlist.plan"] == answer.info.sources[0].plan
    assert len(traced.collector.received) == 1 + len(stages) + 1


def test_stages_inside_a_stage_lie_inside_it_in_time(start: Start) -> None:
    traced = start()
    request = pb.RecommendRequest(query=USER, limit=3)
    request.selection.diversity = 0.5
    traced.stub.Recommend(request, timeout=10)
    traced.stop()
    spans = {one.name: one for one in traced.collector.received}
    assert inside(spans["diversity"], spans["select"])


def test_the_caller_decides_what_is_traced_and_else_the_share(start: Start) -> None:
    none, all_ = start(trace_share=0.0), start(trace_share=1.0)
    for traced in (none, all_):
        for name, metadata in (("in", (SAMPLED,)), ("out", (NOT_SAMPLED,)), ("own", ())):
            metadata = (*metadata, ("x-request-id", name))
            traced.stub.Recommend(REQUEST, timeout=10, metadata=metadata)
        traced.stop()
    names = [
        [call.attributes["shortlist.request_id"] for call in traced.collector.servers()]
        for traced in (none, all_)
    ]
    assert names == [["in"], ["in", "own"]]
    own = all_.collector.servers()[1]
    assert not own.span.parent_span_id
    assert hex_of(own.span.trace_id) not in (TRACE_ID, "0" * 32)


@pytest.mark.parametrize(
    "metadata",
    [
        (("traceparent", "00-xyz"),),
        (("traceparent", f"00-{'0' * 32}-{SPAN_ID}-01"),),
        (("traceparent", f"ff-{TRACE_ID}-{SPAN_ID}-01"),),
        (("tracestate", "vendor=1"),),
    ],
)
def test_a_wrong_traceparent_is_as_if_it_were_not_there(start: Start, metadata: Any) -> None:
    traced = start()
    traced.stub.Recommend(REQUEST, timeout=10, metadata=metadata)
    traced.stop()
    (call,) = traced.collector.servers()
    assert not call.span.parent_span_id
    assert hex_of(call.span.trace_id) != TRACE_ID
    assert not call.span.trace_state


SPANS = Spans(
    TracingOptions(
        endpoint="http://127.0.0.1:1",
        share=0.5,
        waiting_max=1,
        service_name="s",
        service_version="1",
    )
)


@given(
    st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate"]), st.text() | st.binary())),
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True),
    st.text(),
)
def test_no_metadata_makes_a_call_fail(metadata: Any, traceparent: str, tracestate: str) -> None:
    for headers in (metadata, [("traceparent", traceparent), ("tracestate", tracestate)]):
        context, parent = SPANS.place("/a.B/C", headers)
        assert context.is_valid
        assert parent is None or parent.trace_id == context.trace_id


def test_errors_have_their_reason_and_faults_their_mark(
    start: Start, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = start()

    def fail(self: Any, query: Any, *_: Any) -> None:
        raise RuntimeError("secret u1")

    with pytest.raises(grpc.RpcError):
        traced.stub.Recommend(pb.RecommendRequest(), timeout=10)
    monkeypatch.setattr(Funnel, "recommend", fail)
    with pytest.raises(grpc.RpcError):
        traced.stub.Recommend(REQUEST, timeout=10)
    traced.stop()
    wrong, fault = traced.collector.servers()
    assert wrong.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert wrong.attributes["error.type"] == "FIELD_REQUIRED"
    assert wrong.span.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert fault.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INTERNAL.value[0]
    assert fault.attributes["error.type"] == "INTERNAL"
    assert fault.span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert not any(b"secret" in body for body in traced.collector.bodies)


def test_nothing_of_users_and_items_is_sent(start: Start) -> None:
    traced = start()
    query = types.Query(user=types.UserQuery(id="secret-user"))
    query.user.features["segment"].string_value = "secret-feature"
    query.context["hour"].int64_value = 12
    request = pb.RecommendRequest(query=query, limit=5)
    request.exclusions.item_ids.append("secret-item")
    request.sources.add().popularity.SetInParent()
    source = request.sources.add()
    source.name = "by_genre"
    source.popularity.attribute = "genres"
    source.popularity.value.string_value = tiny_world.GENRES[0]
    answer = traced.stub.Recommend(request, timeout=10)
    assert any(tiny_world.GENRES[0] in report.plan for report in answer.info.sources)
    ranked = pb.RankRequest(query=USER, item_ids=["secret-item", *(i.id for i in answer.items)])
    traced.stub.Rank(ranked, timeout=10)
    with pytest.raises(grpc.RpcError, match="secret-output"):
        traced.stub.Rank(
            pb.RankRequest(query=USER, item_ids=["i1"], output_weights={"secret-output": 1})
        )
    traced.stop()
    assert len(traced.collector.servers()) == 3
    sent = b"".join(traced.collector.bodies)
    assert b"secret" not in sent
    # The value may be one of the user's features, by `feature`.
    assert tiny_world.GENRES[0].encode() not in sent
    texts = {
        value
        for one in traced.collector.received
        for value in one.attributes.values()
        if isinstance(value, str)
    }
    assert texts.isdisjoint({"u1", *(item.id for item in answer.items)})


def test_rows_of_a_batch_have_spans_as_far_as_they_go(start: Start) -> None:
    traced = start()
    rows = [REQUEST] * 20
    metadata = (("x-request-id", "mine"),)
    batch = pb.BatchRecommendRequest(requests=rows)
    assert len(list(traced.stub.BatchRecommend(batch, timeout=10, metadata=metadata))) == 20
    traced.stop()
    (call,) = traced.collector.servers()
    assert call.attributes["shortlist.answer_count"] == 20
    children = traced.collector.children(call)
    assert [row.name for row in children] == ["row"] * 16
    identities = [row.attributes["shortlist.request_id"] for row in children]
    assert identities == [f"mine/{index}" for index in range(16)]
    for row in children:
        assert inside(row, call)
        names = [stage.name for stage in traced.collector.children(row)]
        assert names == ["admission", "query", "retrieval", "ranking", "select", "response"]


def test_a_stream_has_the_spans_of_its_last_list(start: Start) -> None:
    traced = start()
    request = pb.StreamRecommendRequest(request=REQUEST)
    request.request.selection.diversity = 0.5
    answers = list(traced.stub.StreamRecommend(request, timeout=10))
    assert len(answers) == 2
    traced.stop()
    (call,) = traced.collector.servers()
    names = [stage.name for stage in traced.collector.children(call)]
    assert names == [stage.name for stage in answers[-1].response.info.stages]
    assert "diversity" in names


def test_a_collector_that_does_not_answer_holds_up_nobody_and_is_counted(start: Start) -> None:
    traced = start(trace_waiting_max=2)
    tracing = traced.server.tracing
    assert tracing is not None
    traced.collector.gate.clear()
    traced.stub.Recommend(REQUEST, timeout=10)
    traced.collector.wait()  # the thread that sends is held up now
    for _ in range(5):
        assert traced.stub.Recommend(REQUEST, timeout=10).items
    assert tracing.dropped_count >= 3
    traced.collector.gate.set()
    traced.stop()
    assert tracing.dropped_count + len(traced.collector.servers()) >= 6


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_is_counted(start: Start, status: int) -> None:
    traced = start(Collector(status=status))
    assert traced.stub.Recommend(REQUEST, timeout=10).items
    traced.collector.wait()
    traced.stop()
    assert traced.server.tracing is not None
    assert traced.server.tracing.dropped_count == 1


def test_a_collector_that_is_not_there_is_counted(start: Start) -> None:
    with Collector() as gone:
        endpoint = gone.endpoint
    traced = start(otel_endpoint=endpoint)
    assert traced.stub.Recommend(REQUEST, timeout=10).items
    traced.stop()
    assert traced.server.tracing is not None
    assert traced.server.tracing.dropped_count == 1


def test_the_client_goes_on_with_a_trace_by_way_of_opentelemetrys_own_package(
    start: Start,
) -> None:
    traced = start(trace_share=0.0)
    otel.set_tracer_provider(TracerProvider())
    instrumentor = GrpcInstrumentorClient()
    instrumentor.instrument()
    try:
        with (
            otel.get_tracer("shop").start_as_current_span("page") as page,
            Client(traced.server.target) as client,
        ):
            assert client.recommend(user="u1", limit=3).items
    finally:
        instrumentor.uninstrument()
    traced.stop()
    (call,) = traced.collector.servers()
    context = page.get_span_context()
    assert int.from_bytes(call.span.trace_id) == context.trace_id
    # Between the two stands the span of the client's call.
    assert call.span.parent_span_id
    assert int.from_bytes(call.span.parent_span_id) != context.span_id


def test_a_server_process_sends_what_it_has_left_when_it_stops(tiny_bundle: Path) -> None:
    with Collector() as collector:
        settings = ("--otel-endpoint", collector.endpoint, "--trace-share", "1")
        with ServingProcess(tiny_bundle, *settings) as serving:
            with grpc.insecure_channel(serving.target) as channel:
                stub = RecommendationServiceStub(channel)
                for _ in range(40):
                    assert stub.Recommend(REQUEST, timeout=10).items
            code, log = serving.end()
        assert code == 0
        assert "Traceback" not in log
        assert len(collector.servers()) == 40


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.setitem(sys.modules, name, None)
    options = TracingOptions(
        endpoint="http://127.0.0.1:1", share=1, waiting_max=1, service_name="s", service_version="1"
    )
    with pytest.raises(MissingExtra, match=r"otel_endpoint.*pip install 'shortlist\[otel\]'"):
        Spans(options)
