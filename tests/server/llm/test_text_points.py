"""Points of query texts: remembered, from a service in a loop of its own, never late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_embedder
from shortlist_server.errors import DeadlineExceeded
from shortlist_server.llm.language_model import LlmInvalidOutput, LlmUnavailable
from shortlist_server.llm.local_embedder import LocalEmbedder
from shortlist_server.llm.text_points import TextPoints


class Service:
    """An embedder outside of this process, as a TextEmbedder."""

    identity = "service/words"
    dimension = 3

    def __init__(self, answer: Callable[[Sequence[str]], Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[list[str], str]] = []
        self.threads: set[str] = set()

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Any:
        self.asked.append((list(texts), kind))
        self.threads.add(threading.current_thread().name)
        answer = self.answer(texts)
        return await answer if asyncio.iscoroutine(answer) else answer


def lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), 1, 0] for text in texts], np.float64)


@pytest.fixture
def service() -> Service:
    return Service(lengths)


def test_points_of_a_service_come_at_unit_length_and_are_remembered(service: Service) -> None:
    points = TextPoints(service, cache_count=2)
    assert points.waits
    first = points.of_query("abc", 10)
    np.testing.assert_allclose(first, np.array([3, 1, 0]) / np.sqrt(10), rtol=1e-6)
    assert first.dtype == np.float32
    assert points.of_query("abc", 10) is first
    assert service.asked == [(["abc"], "query")]
    points.of_query("b", 10)
    points.of_query("abc", 10)  # used last: `b` goes
    points.of_query("c", 10)
    points.of_query("abc", 10)
    assert [texts for texts, _ in service.asked] == [["abc"], ["b"], ["c"]]
    points.of_query("b", 10)
    assert [texts for texts, _ in service.asked][3:] == [["b"]]
    points.close()


def test_nothing_is_remembered_where_the_cache_is_off(service: Service) -> None:
    points = TextPoints(service, cache_count=0)
    points.of_query("abc", 10)
    points.of_query("abc", 10)
    assert len(service.asked) == 2
    points.close()


def test_items_are_embedded_as_items(service: Service) -> None:
    points = TextPoints(service, cache_count=1)
    made = points.of_items(["a", "bc"])
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert service.asked == [(["a", "bc"], "item")]
    points.close()


def test_a_service_is_called_in_a_loop_of_its_own_by_many_threads_at_once() -> None:
    together = threading.Barrier(4, timeout=30)

    async def slow(texts: Sequence[str]) -> np.ndarray:
        await asyncio.to_thread(together.wait)  # until all four are under way
        return lengths(texts)

    service = Service(slow)
    points = TextPoints(service, cache_count=4)
    threads = [
        threading.Thread(target=points.of_query, args=("a" * count, 60)) for count in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert service.threads == {"text-embedder"}
    points.close()


def test_a_service_that_hangs_is_given_up_and_its_call_is_cancelled() -> None:
    ended = threading.Event()

    async def hang(texts: Sequence[str]) -> np.ndarray:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.set()
        return lengths(texts)

    points = TextPoints(Service(hang), cache_count=4)
    with pytest.raises(DeadlineExceeded):
        points.of_query("a", 0.05)
    assert ended.wait(30)
    points.close()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (np.zeros((1, 3)), "expected a direction, got zeros"),
        (np.full((1, 3), np.nan), "expected finite numbers"),
        (np.ones((1, 2)), r"expected finite numbers \[1, 3\], got \[1, 2\]"),
        (np.ones((2, 3)), r"got \[2, 3\]"),
    ],
)
def test_what_is_no_point_is_refused(answer: np.ndarray, problem: str) -> None:
    points = TextPoints(Service(lambda texts: answer), cache_count=4)
    with pytest.raises(LlmInvalidOutput, match=problem):
        points.of_query("a", 10)
    points.close()


def test_what_a_service_raises_passes_and_is_not_remembered() -> None:
    failures = [LlmUnavailable("service/words: cannot be reached")]

    def fail_once(texts: Sequence[str]) -> np.ndarray:
        if failures:
            raise failures.pop()
        return lengths(texts)

    points = TextPoints(Service(fail_once), cache_count=4)
    with pytest.raises(LlmUnavailable):
        points.of_query("a", 10)
    assert points.of_query("a", 10).shape == (3,)
    points.close()


def test_a_local_embedder_does_not_wait_and_needs_no_loop(tmp_path: Path) -> None:
    embedder = LocalEmbedder(tiny_embedder.write_embedder(tmp_path))
    points = TextPoints(embedder, cache_count=4)
    assert not points.waits
    point = points.of_query("a heist", 60)
    np.testing.assert_array_equal(points.of_items(["a heist"])[0], point)
    assert "text-embedder" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(DeadlineExceeded):
        points.of_query("another", 0)
