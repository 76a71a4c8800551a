"""What every call has in common: health, reflection, deadlines, overload, faults, draining."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from shortlist.v1 import bundle_pb2, errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.bundle_pb2_grpc import BundleServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.generation import Generation
from shortlist_server.rpc.server import SERVICE_NAMES

USER = types.Query(user=types.UserQuery(id="u1"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)


def test_health_is_serving_for_the_server_and_each_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", *SERVICE_NAMES):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


def test_health_knows_no_other_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="shortlist.v1.Other"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="shortlist.v1.Other"), timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "shortlist.v1.RecommendationService",
        "shortlist.v1.BundleService",
        "shortlist.v1.CatalogService",
        "shortlist.v1.ConversationService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = database.FindFileContainingSymbol("shortlist.v1.RecommendationService")
    assert [method.name for method in file.service[0].method] == [
        "Recommend",
        "StreamRecommend",
        "BatchRecommend",
        "Retrieve",
        "Rank",
        "FindSimilarItems",
    ]


class StalledSource:
    """The real source, but each retrieval waits until the test lets it go on."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)

    waits = False
    filters = True

    def skip_reason(self, ask: SourceQuery) -> str:
        return str(self._source.skip_reason(ask))

    def retrieve(self, ask: SourceQuery) -> Any:
        self.begun.release()
        assert self.gate.wait(timeout=20)
        return self._source.retrieve(ask)


class CountingRanker:
    """The real ranker, counting its calls."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.call_count = 0
        self.output_names, self.weights = ranker.output_names, ranker.weights
        self.needs_user, self.chunk_rows = ranker.needs_user, ranker.chunk_rows

    def rank(self, *arguments: Any, **options: Any) -> Any:
        self.call_count += 1
        return self._ranker.rank(*arguments, **options)


def altered(generation: Generation, **parts: Any) -> Generation:
    """The generation with some stages of its funnel replaced."""
    own = generation.funnel
    nearest = parts.pop("nearest", own._gatherer._kinds["nearest"])
    kinds = {**own._gatherer._kinds, "nearest": nearest}
    stages = {
        "catalog": own._catalog,
        "encoder": own._encoder,
        "gatherer": Gatherer(kinds, own._encoder, share=0.6),
        "sources": own._sources,
        "ranker": own._ranker,
        "shares": Shares(),
    }
    return dataclasses.replace(generation, funnel=Funnel(**(stages | parts)))


def nearest_of(generation: Generation) -> Any:
    return generation.funnel._gatherer._kinds["nearest"]


Serve = Callable[..., Any]


@pytest.fixture
def serve(tiny_bundle: Path, server: Any) -> Iterator[Serve]:
    """Start more servers like the shared one."""
    running: list[Any] = []

    def start(generation: Generation, **settings: Any) -> Any:
        running.append(type(server)(tiny_bundle, generation, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def test_no_stage_begins_after_the_deadline(generation: Generation, serve: Serve) -> None:
    source, ranker = (
        StalledSource(nearest_of(generation)),
        CountingRanker(generation.funnel._ranker),
    )
    target = serve(altered(generation, nearest=source, ranker=ranker)).target
    with grpc.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Recommend(REQUEST, timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        source.gate.set()
        stub.Recommend(REQUEST, timeout=10)
    assert ranker.call_count == 1


def test_call_without_a_deadline_gets_the_servers_own(
    generation: Generation, serve: Serve, refuse: Any
) -> None:
    source = StalledSource(nearest_of(generation))
    target = serve(altered(generation, nearest=source), default_timeout_ms=50).target
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(1) as pool:
        stub = RecommendationServiceStub(channel)
        call = pool.submit(refuse, stub.Recommend, REQUEST, timeout=None)
        assert source.begun.acquire(timeout=10)
        time.sleep(0.1)
        source.gate.set()
        refusal = call.result(timeout=10)
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refusal.info.reason == "DEADLINE_EXCEEDED"
    assert refusal.info.metadata["stage"] == "retrieval"


def test_requests_beyond_the_queue_are_refused_with_a_delay(
    generation: Generation, serve: Serve
) -> None:
    source = StalledSource(nearest_of(generation))
    target = serve(altered(generation, nearest=source), waiting_max=1).target
    with grpc.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        admitted = [
            stub.Recommend.future(REQUEST, timeout=20) for _ in range(3)
        ]  # two run, one waits
        assert source.begun.acquire(timeout=10)
        assert source.begun.acquire(timeout=10)
        refused = [stub.Recommend.future(REQUEST, timeout=20) for _ in range(5)]
        errors = [call.exception(timeout=10) for call in refused]
        source.gate.set()
        assert all(len(call.result(timeout=10).items) == 3 for call in admitted)
    for error in errors:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        delay = RetryInfo()
        assert any(detail.Unpack(delay) for detail in status.details)
        assert delay.retry_delay.ToMilliseconds() == 100


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (asyncio.CancelledError(), False),
        (DecodeError(), False),
        (RuntimeError(), True),
        (None, True),
    ],
)
def test_log_of_the_library_tells_of_faults_but_not_of_callers_who_have_gone(
    error: BaseException | None, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("grpc._cython.cygrpc").error("not handled", exc_info=error)
    assert [record.message for record in caplog.records] == ["not handled"] * is_logged


class BrokenRanker(CountingRanker):
    """A ranker with a fault."""

    def rank(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("secret detail at /home/someone")


def test_fault_is_internal_with_a_fixed_text_and_a_log_entry(
    generation: Generation, serve: Serve, refuse: Any, caplog: pytest.LogCaptureFixture
) -> None:
    target = serve(altered(generation, ranker=BrokenRanker(generation.funnel._ranker))).target
    with grpc.insecure_channel(target) as channel, caplog.at_level(logging.ERROR):
        stub = RecommendationServiceStub(channel)
        refusal = refuse(stub.Recommend, REQUEST, metadata=(("x-request-id", "abc"),))
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.info.reason == "INTERNAL"
    assert refusal.info.metadata["request_id"] == "abc"
    assert "secret" not in refusal.message
    assert "abc" in caplog.text
    assert "secret detail" in caplog.text


class NanRanker(CountingRanker):
    """A ranker whose model gives numbers that are none."""

    def rank(self, *arguments: Any, **options: Any) -> Any:
        from shortlist_server.stages.ranking import OnnxRanker

        assert isinstance(self._ranker, OnnxRanker)
        broken = OnnxRanker(
            model=self._ranker._model,
            item_feeds={
                name: np.full_like(values, np.nan) if values.dtype.kind == "f" else values
                for name, values in self._ranker._item_feeds.items()
            },
            item_ids=self._ranker._item_ids,
            weights=self.weights,
        )
        return broken.rank(*arguments, **options)


def test_model_that_gives_nan_never_orders_a_list(
    generation: Generation, serve: Serve, refuse: Any
) -> None:
    target = serve(altered(generation, ranker=NanRanker(generation.funnel._ranker))).target
    with grpc.insecure_channel(target) as channel:
        assert (
            refuse(RecommendationServiceStub(channel).Recommend, REQUEST).code
            is grpc.StatusCode.INTERNAL
        )


def test_bundle_without_a_ranker_keeps_the_order_of_retrieval(
    generation: Generation, serve: Serve, refuse: Any
) -> None:
    target = serve(altered(generation, ranker=None)).target
    with grpc.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        answer = stub.Recommend(REQUEST, timeout=10)
        assert answer.info.stages[3].plan == "the bundle has no ranker"
        assert [item.score for item in answer.items] == [
            item.retrieval_score for item in answer.items
        ]
        ranked = stub.Rank(pb.RankRequest(query=USER, item_ids=["i1", "i2", "i3"]), timeout=10)
        assert [item.score for item in ranked.items] == sorted(
            (item.score for item in ranked.items), reverse=True
        )
        refusal = refuse(
            stub.Recommend, pb.RecommendRequest(query=USER, output_weights={"rating": 1.0})
        )
    assert refusal.info.reason == "UNKNOWN_OUTPUT"


def test_draining_turns_health_first_and_finishes_calls_in_flight(
    generation: Generation, serve: Serve
) -> None:
    source = StalledSource(nearest_of(generation))
    running = serve(altered(generation, nearest=source), drain_notice_ms=300)
    with grpc.insecure_channel(running.target) as channel, ThreadPoolExecutor(1) as pool:
        stub = RecommendationServiceStub(channel)
        in_flight = stub.Recommend.future(REQUEST, timeout=20)
        assert source.begun.acquire(timeout=10)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=20
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        draining = pool.submit(running.drain)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health = health_pb2_grpc.HealthStub(channel)
        for name in SERVICE_NAMES:
            state = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert state.status == health_pb2.HealthCheckResponse.NOT_SERVING, name
        during = BundleServiceStub(channel).GetActiveBundle(
            bundle_pb2.GetActiveBundleRequest(), timeout=10
        )
        assert during.bundle.id.name == "tiny"
        refusals = []
        for _ in range(200):  # from the notice's end on, new calls are refused by name
            try:
                stub.Recommend(REQUEST, timeout=0.5)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    refusals.append(error)
                    break
        source.gate.set()
        draining.result(timeout=20)
        (refusal,) = refusals
        status = Status.FromString(dict(refusal.trailing_metadata())["grpc-status-details-bin"])
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "SHUTTING_DOWN"
        assert len(in_flight.result(timeout=10).items) == 3
        with pytest.raises(grpc.RpcError) as caught:
            RecommendationServiceStub(channel).Recommend(REQUEST, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def reason_of(error: grpc.RpcError) -> str:
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


def test_calls_that_drain_ms_does_not_suffice_for_end_as_shutting_down(
    generation: Generation, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    source = StalledSource(nearest_of(generation))
    running = serve(altered(generation, nearest=source), drain_ms=50)
    with grpc.insecure_channel(running.target) as channel:
        stub = RecommendationServiceStub(channel)
        batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(), REQUEST, REQUEST])
        rows = stub.BatchRecommend(batch, timeout=20)
        assert next(rows).HasField("error")
        lists = stub.StreamRecommend(pb.StreamRecommendRequest(request=REQUEST), timeout=20)
        assert source.begun.acquire(timeout=10)
        single = stub.Recommend.future(REQUEST, timeout=20)
        assert source.begun.acquire(timeout=10)
        running.drain()
        failures = [single.exception(timeout=10)]
        for responses in (rows, lists):
            with pytest.raises(grpc.RpcError) as caught:
                next(responses)
            failures.append(caught.value)
        source.gate.set()
    for failure in failures:
        assert failure.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(failure) == "SHUTTING_DOWN"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_every_reason_has_its_example() -> None:
    """The comments of the enum are what callers read: each value but the first shows its
    ErrorInfo.
    """
    root = Path(__file__).parents[2]
    text = (root / "protos/shortlist/v1/errors.proto").read_text()
    for value in errors_pb2.ErrorReason.DESCRIPTOR.values[1:]:
        name = value.name.removeprefix("ERROR_REASON_")
        assert f'{{"reason": "{name}", "domain": "shortlist"' in text, name
