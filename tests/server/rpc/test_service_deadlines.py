"""Where the service itself asks the clock: before a row, and before it writes an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from altered_funnel import SetClock, altered
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.errors import DeadlineExceeded
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.types import Answer
from shortlist_server.generation import Generation
from shortlist_server.rpc import recommendation_service, respond
from shortlist_server.rpc.generations import Generations
from shortlist_server.rpc.recommendation_service import RecommendationService
from shortlist_server.rpc.snapshot import Snapshot, Unchanging
from shortlist_server.runtime.compute import ComputePool

SECOND = 10**9
REQUEST = pb.RecommendRequest(
    query=types.Query(user=types.UserQuery(id="u1")),
    limit=5,
    selection=types.SelectionOptions(caps=[types.Cap(attribute="year", item_count_max=1)]),
)


class Context:
    """A call that has a second."""

    def time_remaining(self) -> float:
        return 1.0


class LateCatalog:
    """The real catalogue, at which time passes while caps are counted."""

    def __init__(self, own: Any, clock: SetClock) -> None:
        self._own, self._clock = own, clock
        self.late_ns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def attribute_codes(self, name: str, row: int) -> Any:
        self._clock.now_ns += self.late_ns
        return self._own.attribute_codes(name, row)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    clock = SetClock()
    monkeypatch.setattr(recommendation_service, "Budget", lambda seconds: Budget(seconds, clock))
    return clock


@pytest.fixture
def catalog(generation: Generation, clock: SetClock) -> LateCatalog:
    return LateCatalog(generation.catalog, clock)


@pytest.fixture
async def service(generation: Generation, catalog: LateCatalog) -> Any:
    compute = ComputePool(threads=0, waiting_max=0)
    funnel = altered(generation, catalog=catalog).funnel
    yield RecommendationService(
        generations=lambda: Generations(
            stable=Unchanging(
                Snapshot(
                    funnel=funnel,
                    catalog=generation.catalog,
                    identity=respond.bundle_id(
                        generation.bundle.manifest, generation.bundle.sha256
                    ),
                    embeddings=generation.items.embeddings,
                )
            )
        ),
        compute=compute,
        default_timeout_s=1.0,
    )
    compute.close()
    funnel.close()


async def test_an_answer_that_is_late_is_not_written(
    service: RecommendationService, catalog: LateCatalog
) -> None:
    assert len((await service.Recommend(REQUEST, Context())).items) == 5  # type: ignore[arg-type]
    catalog.late_ns = SECOND
    with pytest.raises(DeadlineExceeded) as caught:
        await service.Recommend(REQUEST, Context())  # type: ignore[arg-type]
    assert caught.value.stage == "response"


async def test_no_row_begins_after_the_deadline_of_the_call(
    service: RecommendationService, clock: SetClock
) -> None:
    rows = service.BatchRecommend(pb.BatchRecommendRequest(requests=[REQUEST] * 3), Context())  # type: ignore[arg-type]
    assert (await anext(rows)).HasField("response")
    clock.now_ns += SECOND
    with pytest.raises(DeadlineExceeded) as caught:
        await anext(rows)
    assert caught.value.stage == "batch"


async def test_a_row_that_uses_up_the_time_of_the_call_ends_it(
    service: RecommendationService, catalog: LateCatalog
) -> None:
    """What ends is the call, in its own status; not the row, as if others could follow."""
    catalog.late_ns = SECOND
    rows = service.BatchRecommend(pb.BatchRecommendRequest(requests=[REQUEST] * 3), Context())  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceeded) as caught:
        await anext(rows)
    assert caught.value.stage == "batch"


class Recorder:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, list[str]]] = []

    def record(self, request: Any, items: Any, info: Any, duration_ns: int) -> None:
        self.kept.append((request, [item.id for item in items]))


@pytest.fixture
def recorder(service: RecommendationService) -> Iterator[Recorder]:
    service._recorder = Recorder()
    yield service._recorder
    service._recorder = None


async def test_each_answer_is_recorded_once_with_its_request(
    service: RecommendationService, recorder: Recorder
) -> None:
    """Rows by themselves; of a stream the last list."""
    diverse = pb.RecommendRequest()
    diverse.CopyFrom(REQUEST)
    diverse.selection.diversity = 0.5
    context: Any = Context()
    single = await service.Recommend(REQUEST, context)
    lists = [
        step.response
        async for step in service.StreamRecommend(
            pb.StreamRecommendRequest(request=diverse), context
        )
    ]
    batch = pb.BatchRecommendRequest(requests=[REQUEST, pb.RecommendRequest(), diverse])
    rows = [row.response async for row in service.BatchRecommend(batch, context)]
    assert recorder.kept == [
        (REQUEST, [item.id for item in single.items]),
        (diverse, [item.id for item in lists[-1].items]),
        (REQUEST, [item.id for item in rows[0].items]),
        (diverse, [item.id for item in rows[2].items]),
    ]


async def test_stages_are_observed_with_the_one_that_writes_the_answer(
    service: RecommendationService,
) -> None:
    observed: list[Answer] = []
    service._observe = lambda answer, label: observed.append(answer)
    answer = await service.Recommend(REQUEST, Context())  # type: ignore[arg-type]
    (seen,) = observed
    assert [stage.name for stage in seen.stages] == [stage.name for stage in answer.info.stages]
    assert seen.stages[-1].name == "response"
