"""BatchRecommend over a real socket: each row as if asked alone, behind single calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from altered_funnel import AlteredSource, altered, kinds_of
from shortlist.v1 import bundle_pb2, bundle_pb2_grpc, errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import User
from shortlist_server.generation import Generation

USERS = 12


def request_of(row: int, **fields: Any) -> pb.RecommendRequest:
    """A request whose user, filter, exclusions, limit and selection depend on the row."""
    year = types.Value(int64_value=1980 + row % 40)
    at_least = types.Filter(range=types.RangeCondition(attribute="year", at_least=year))
    below = types.Filter(range=types.RangeCondition(attribute="year", below=year))
    return pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id=f"u{row % USERS}")),
        limit=1 + row % 7,
        filter=below if row % 2 else at_least,
        exclusions=types.Exclusions(item_ids=[f"i{row % 60}"]),
        selection=types.SelectionOptions(diversity=0.5 * (row % 3 == 0)),
        retrieval=types.RetrievalOptions(exact=row % 5 == 0),
        attributes=["year"],
        **fields,
    )


def user(name: str) -> pb.RecommendRequest:
    return pb.RecommendRequest(query=types.Query(user=types.UserQuery(id=name)), limit=3)


def batch(*requests: pb.RecommendRequest) -> pb.BatchRecommendRequest:
    return pb.BatchRecommendRequest(requests=requests)


def plain(response: pb.RecommendResponse) -> pb.RecommendResponse:
    """A response without what differs from call to call."""
    kept = pb.RecommendResponse()
    kept.CopyFrom(response)
    kept.info.request_id = ""
    for report in (*kept.info.stages, *kept.info.sources):
        report.ClearField("duration")
    return kept


Serve = Callable[..., Any]


@pytest.fixture
def serve(tiny_bundle: Path, server: Any) -> Iterator[Serve]:
    running: list[Any] = []

    def start(generation: Generation, **settings: Any) -> Any:
        running.append(type(server)(tiny_bundle, generation, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


class Asked:
    """Notes whose requests the nearest source is asked for, in order, and does something first."""

    def __init__(self, generation: Generation, before: Callable[[str], None]) -> None:
        self.names: list[str] = []
        self._before = before
        source = AlteredSource(kinds_of(generation)["nearest"], self._note)
        self.generation = altered(generation, kinds={"nearest": source})

    def _note(self, ask: SourceQuery) -> None:
        assert isinstance(ask.query.subject, User)
        self.names.append(ask.query.subject.id)
        self._before(ask.query.subject.id)


def test_each_row_is_answered_as_if_it_had_been_asked_alone(stub: Stub) -> None:
    requests = [request_of(row) for row in range(80)]
    answers = list(stub.BatchRecommend(batch(*requests), timeout=20))
    assert [answer.index for answer in answers] == list(range(80))
    lists = set()
    for answer, request in zip(answers, requests, strict=True):
        alone = stub.Recommend(request, timeout=10)
        assert plain(answer.response) == plain(alone)
        years = [item.attributes["year"].int64_value for item in answer.response.items]
        bound = getattr(request.filter.range, "below" if answer.index % 2 else "at_least")
        assert all((year < bound.int64_value) == bool(answer.index % 2) for year in years)
        lists.add(tuple(item.id for item in answer.response.items))
    assert len(lists) > 50


def test_rows_have_request_ids_of_their_own(stub: Stub) -> None:
    answers = list(
        stub.BatchRecommend(
            batch(user("u1"), pb.RecommendRequest(), user("u2")),
            timeout=10,
            metadata=(("x-request-id", "night-run"),),
        )
    )
    assert answers[0].response.info.request_id == "night-run/0"
    assert answers[1].error.metadata["request_id"] == "night-run/1"
    assert answers[2].response.info.request_id == "night-run/2"


def test_a_bad_row_does_not_sink_the_batch(stub: Stub) -> None:
    ghosts = types.Query(items=types.ItemsQuery(item_ids=["ghost"]))
    rows = [
        user("u1"),
        pb.RecommendRequest(query=user("u1").query, limit=501),
        user("u2"),
        pb.RecommendRequest(query=ghosts),
        pb.RecommendRequest(query=user("u1").query, strict=True, attributes=["titel"]),
        user("u3"),
    ]
    answers = list(stub.BatchRecommend(batch(*rows), timeout=10))
    assert [answer.WhichOneof("result") for answer in answers] == [
        "response", "error", "response", "error", "error", "response",
    ]  # fmt: skip
    errors = [answer.error for answer in answers if answer.HasField("error")]
    assert [(error.code, error.reason, error.metadata["field"]) for error in errors] == [
        (3, errors_pb2.ERROR_REASON_OUT_OF_RANGE, "limit"),
        (5, errors_pb2.ERROR_REASON_UNKNOWN_ITEM, "query.items.item_ids"),
        (3, errors_pb2.ERROR_REASON_UNKNOWN_ATTRIBUTE, "attributes"),
    ]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_batch_of_the_most_rows_is_answered_whole(
    generation: Generation, serve: Serve, threads: int
) -> None:
    running = serve(generation, compute_threads=threads)
    requests = [user(f"u{row % USERS}") for row in range(1_024)]
    with grpc.insecure_channel(running.target) as channel:
        answers = list(Stub(channel).BatchRecommend(batch(*requests), timeout=60))
    assert [answer.index for answer in answers] == list(range(1_024))
    lists = [[item.id for item in answer.response.items] for answer in answers]
    assert all(len(listed) == 3 for listed in lists)
    assert lists[USERS:] == lists[:-USERS]


@pytest.mark.parametrize("threads", [0, 2])
def test_rows_that_a_deadline_leaves_over_are_not_begun(
    generation: Generation, serve: Serve, threads: int
) -> None:
    passed = threading.Event()

    def wait(name: str) -> None:
        if name == "u3":
            assert passed.wait(timeout=20)

    asked = Asked(generation, wait)
    running = serve(asked.generation, compute_threads=threads)
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        call = stub.BatchRecommend(batch(*(user(f"u{row}") for row in range(8))), timeout=0.5)
        received = [next(call).index for _ in range(3)]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        passed.set()
        for _ in range(3):
            stub.Recommend(user("u11"), timeout=10)
    assert received == [0, 1, 2]
    assert asked.names == ["u0", "u1", "u2", "u3", "u11", "u11", "u11"]


def test_a_row_that_takes_too_long_is_an_error_of_its_own(
    generation: Generation, serve: Serve
) -> None:
    """Without a deadline each row has the server's default."""
    late = threading.Event()

    def wait(name: str) -> None:
        if name == "u1":
            threading.Timer(0.3, late.set).start()
            assert late.wait(timeout=20)

    running = serve(Asked(generation, wait).generation, default_timeout_ms=250)
    with grpc.insecure_channel(running.target) as channel:
        rows = batch(*(user(f"u{row}") for row in range(4)))
        answers = list(Stub(channel).BatchRecommend(rows))
    assert [answer.WhichOneof("result") for answer in answers] == [
        "response", "error", "response", "response",
    ]  # fmt: skip
    error = answers[1].error
    assert (error.code, error.reason) == (4, errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED)
    assert error.metadata["stage"] == "retrieval"


def test_a_batch_whose_caller_has_gone_is_not_gone_on_with(
    generation: Generation, serve: Serve
) -> None:
    begun, gone = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == "u1":
            begun.set()
            assert gone.wait(timeout=20)

    asked = Asked(generation, wait)
    running = serve(asked.generation, compute_threads=2)
    with grpc.insecure_channel(running.target) as channel:
        stub, bundle = Stub(channel), bundle_pb2_grpc.BundleServiceStub(channel)
        call = stub.BatchRecommend(batch(*(user(f"u{row}") for row in range(8))), timeout=20)
        assert next(call).index == 0
        assert begun.wait(timeout=10)
        call.cancel()
        # On the same connection: when these are answered, the server has seen the cancellation.
        for _ in range(3):
            bundle.GetActiveBundle(bundle_pb2.GetActiveBundleRequest(), timeout=10)
        gone.set()
        for _ in range(3):
            stub.Recommend(user("u11"), timeout=10)
    assert asked.names == ["u0", "u1", "u11", "u11", "u11"]


@pytest.mark.parametrize("threads", [0, 2])
def test_single_calls_are_answered_between_the_rows(
    generation: Generation, serve: Serve, threads: int
) -> None:
    asked = Asked(generation, lambda name: None)
    running = serve(asked.generation, compute_threads=threads)
    with grpc.insecure_channel(running.target) as channel, ThreadPoolExecutor(1) as pool:
        stub = Stub(channel)
        call = stub.BatchRecommend(batch(*[user("u1")] * 1_024), timeout=60)
        next(call)
        rest = pool.submit(lambda: list(call))
        for _ in range(5):
            stub.Recommend(user("u2"), timeout=10)
        rest.result(timeout=60)
    last_row = len(asked.names) - 1 - asked.names[::-1].index("u1")
    assert asked.names.count("u2") == 5
    assert all(place < last_row for place, name in enumerate(asked.names) if name == "u2")


def test_rows_are_not_refused_for_load(generation: Generation, serve: Serve) -> None:
    """Single calls take all places there are; a row waits instead of being refused."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(name: str) -> None:
        if name == "u2":
            begun.release()
            assert go_on.wait(timeout=20)

    running = serve(Asked(generation, wait).generation, compute_threads=1, waiting_max=0)
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        single = stub.Recommend.future(user("u2"), timeout=20)
        assert begun.acquire(timeout=10)
        call = stub.BatchRecommend(batch(user("u1"), user("u3")), timeout=20)
        assert stub.Recommend.future(user("u4"), timeout=20).exception(timeout=10).code() is (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        go_on.set()
        assert [answer.WhichOneof("result") for answer in call] == ["response", "response"]
        assert len(single.result(timeout=10).items) == 3


@pytest.mark.parametrize("threads", [0, 2])
def test_rows_whose_source_waits_do_not_stop_the_server(
    generation: Generation, serve: Serve, threads: int
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(ask: SourceQuery) -> None:
        begun.set()
        assert go_on.wait(timeout=20)

    source = AlteredSource(kinds_of(generation)["popularity"], wait, waits=True)
    running = serve(altered(generation, kinds={"popularity": source}), compute_threads=threads)
    row = user("u1")
    row.sources.add(popularity=types.PopularitySource())
    with grpc.insecure_channel(running.target) as channel:
        call = Stub(channel).BatchRecommend(batch(row, row), timeout=20)
        assert begun.wait(timeout=10)
        bundle = bundle_pb2_grpc.BundleServiceStub(channel)
        try:
            bundle.GetActiveBundle(bundle_pb2.GetActiveBundleRequest(), timeout=5)
        finally:
            go_on.set()
        assert [answer.WhichOneof("result") for answer in call] == ["response", "response"]
