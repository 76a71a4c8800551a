"""A text embedder outside this process: waited for in threads, called in a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from shortlist_server.errors import ConfigError
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.language_model import LlmInvalidOutput, LlmTimeout, LlmUnavailable
from shortlist_server.llm.observer import LlmObserver, NoObserver


class Service:
    """An embedding provider that answers as it is told."""

    identity = "service/words"
    dimension = 3

    def __init__(self, answer: Callable[[Sequence[str]], Any]) -> None:
        self.answer = answer
        self.threads: set[str] = set()
        self.observers: list[LlmObserver | None] = []
        self.closed_in = ""

    def make(self, observer: LlmObserver | None) -> Service:
        asyncio.get_running_loop()
        self.observers.append(observer)
        return self

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Any:
        self.threads.add(threading.current_thread().name)
        answer = self.answer(texts)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def close(self) -> None:
        self.closed_in = threading.current_thread().name


def lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), 1, 0] for text in texts], np.float64)


@pytest.fixture
def waited_for() -> Iterator[Callable[[Any], EmbeddingService]]:
    """Makes what waits for a service, and closes it twice."""
    made: list[EmbeddingService] = []

    def make(service: Any) -> EmbeddingService:
        made.append(
            EmbeddingService(service.make, identity="service/words", dimension=3, space=None)
        )
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close()


def test_points_come_at_unit_length(waited_for: Any) -> None:
    points = waited_for(Service(lengths)).embed_now(["abc", ""], kind="item", deadline_s=30)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[0], np.array([3, 1, 0]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_array_equal(points[1], [0, 1, 0])


def test_it_is_made_once_and_with_its_observer(waited_for: Any) -> None:
    service, observer = Service(lengths), NoObserver()
    started = waited_for(service)
    assert not service.observers
    started.start(observer)
    started.start()
    started.embed_now(["a"], kind="query", deadline_s=30)
    assert service.observers == [observer]


def test_what_making_it_raises_passes_and_it_may_be_made_later(waited_for: Any) -> None:
    class Refusing(Service):
        refuses = True

        def make(self, observer: LlmObserver | None) -> Service:
            if self.refuses:
                raise ConfigError("key: expected one, got none")
            return super().make(observer)

    service = Refusing(lengths)
    started = waited_for(service)
    with pytest.raises(ConfigError, match="key: expected one"):
        started.start()
    service.refuses = False
    assert started.embed_now(["a"], kind="query", deadline_s=30).shape == (1, 3)


def test_many_threads_wait_at_once_for_calls_of_one_loop(waited_for: Any) -> None:
    together = threading.Barrier(4, timeout=30)

    async def slow(texts: Sequence[str]) -> np.ndarray:
        await asyncio.to_thread(together.wait)  # until all four are under way
        return lengths(texts)

    service = Service(slow)
    started = waited_for(service)
    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(started.embed_now, ["a" * count], kind="query", deadline_s=60)
            for count in range(4)
        ]
        assert [len(one.result()) for one in asked] == [1] * 4
    assert service.threads == {"text-embedder"}


def test_one_that_never_ends_is_given_up_and_cancelled(
    waited_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortlist_server.llm.embedding_service.GRACE_S", 0.05)
    ended = threading.Event()

    async def hang(texts: Sequence[str]) -> np.ndarray:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.set()
        return lengths(texts)

    with pytest.raises(LlmTimeout):
        waited_for(Service(hang)).embed_now(["a"], kind="query", deadline_s=0.05)
    assert ended.wait(30)


def test_closing_ends_what_is_under_way_and_what_comes_after(waited_for: Any) -> None:
    asked = threading.Event()

    async def hang(texts: Sequence[str]) -> np.ndarray:
        asked.set()
        await asyncio.sleep(3_600)
        return lengths(texts)

    service = Service(hang)
    started = waited_for(service)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(started.embed_now, ["a"], kind="query", deadline_s=3_600)
        assert asked.wait(30)
        started.close()
        with pytest.raises(LlmUnavailable, match="the server is stopping"):
            waiting.result(30)
    assert service.closed_in == "text-embedder"
    with pytest.raises(LlmUnavailable, match="the server is stopping"):
        started.embed_now(["a"], kind="query", deadline_s=30)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (np.zeros((1, 3)), "expected a direction, got zeros"),
        (np.full((1, 3), np.nan), "expected finite numbers"),
        (np.ones((1, 2)), r"expected finite numbers \[1, 3\], got \[1, 2\]"),
        (np.ones((2, 3)), r"got \[2, 3\]"),
    ],
)
def test_what_is_no_point_is_refused(waited_for: Any, answer: np.ndarray, problem: str) -> None:
    with pytest.raises(LlmInvalidOutput, match=problem):
        waited_for(Service(lambda texts: answer)).embed_now(["a"], kind="query", deadline_s=30)
