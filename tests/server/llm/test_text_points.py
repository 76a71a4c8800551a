"""Points of texts: remembered where they are searched for; without one, an error for callers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny_embedder
from shortlist_server.errors import DeadlineExceeded, TextEmbedderUnavailable
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmBreakerOpen,
    LlmBudgetExceeded,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    LlmUnavailable,
)
from shortlist_server.llm.local_embedder import LocalEmbedder
from shortlist_server.llm.text_points import TextPoints


class Service:
    """An embedder that is waited for."""

    identity = "service/words"
    dimension = 3
    waits = True

    def __init__(self, answer: Callable[[Sequence[str]], Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[list[str], str]] = []

    def embed_now(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Any:
        self.asked.append((list(texts), kind))
        return self.answer(texts)


def units(texts: Sequence[str]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[[len(text) % 3 for text in texts]]


def failing(error: LanguageModelError, after_s: float = 0.0) -> Callable[[Sequence[str]], Any]:
    def fail(texts: Sequence[str]) -> Any:
        time.sleep(after_s)
        raise error

    return fail


def test_points_of_queries_are_remembered_the_last_used_ones() -> None:
    service = Service(units)
    points = TextPoints(service, cache_count=2)
    assert points.waits
    first = points.of_query("abc", 10)
    assert points.of_query("abc", 10) is first
    assert not first.flags.writeable
    assert service.asked == [(["abc"], "query")]
    points.of_query("b", 10)
    points.of_query("abc", 10)  # used last: `b` goes
    points.of_query("c", 10)
    points.of_query("abc", 10)
    assert [texts for texts, _ in service.asked] == [["abc"], ["b"], ["c"]]
    points.of_query("b", 10)
    assert [texts for texts, _ in service.asked][3:] == [["b"]]


def test_nothing_is_remembered_where_the_cache_is_off() -> None:
    service = Service(units)
    points = TextPoints(service, cache_count=0)
    points.of_query("abc", 10)
    points.of_query("abc", 10)
    assert len(service.asked) == 2


def test_items_are_embedded_as_items() -> None:
    service = Service(units)
    assert TextPoints(service, cache_count=1).of_items(["a", "bc"]).shape == (2, 3)
    assert service.asked == [(["a", "bc"], "item")]


@pytest.mark.parametrize(
    ("error", "retry_delay_ms"),
    [
        (LlmUnavailable("service/words: it answered with HTTP status 401"), 1_000),
        (LlmOverloaded("service/words: too often", retry_delay_s=2.5), 2_500),
        (LlmOverloaded("service/words: too often"), 1_000),
        (LlmBreakerOpen("the last calls failed", retry_delay_s=0.0042), 5),
        (LlmTimeout("service/words: its own bound"), 1_000),
        (LlmInvalidOutput("service/words: zeros"), 1_000),
        (LlmBudgetExceeded("service/words: no money"), 1_000),
    ],
)
def test_a_failure_has_a_reason_for_callers_that_names_no_service(
    error: LanguageModelError, retry_delay_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    points = TextPoints(Service(failing(error)), cache_count=4)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(TextEmbedderUnavailable) as unavailable:
                points.of_query("a", 10)
    assert unavailable.value.problem == error.reason
    assert unavailable.value.retry_delay_ms == retry_delay_ms
    assert unavailable.value.__cause__ is error
    assert "service/words" not in str(unavailable.value)
    assert caplog.text.count(str(error)) == 1


@pytest.mark.parametrize("error", [LlmTimeout("late"), LlmBudgetExceeded("not its turn")])
def test_without_time_left_it_is_the_deadline(error: LanguageModelError) -> None:
    points = TextPoints(Service(failing(error, after_s=0.05)), cache_count=4)
    with pytest.raises(DeadlineExceeded):
        points.of_query("a", 0.05)


def test_a_failure_is_not_remembered() -> None:
    failures = [LlmUnavailable("service/words: cannot be reached")]

    def fail_once(texts: Sequence[str]) -> np.ndarray:
        if failures:
            raise failures.pop()
        return units(texts)

    points = TextPoints(Service(fail_once), cache_count=4)
    with pytest.raises(TextEmbedderUnavailable):
        points.of_query("a", 10)
    assert points.of_query("a", 10).shape == (3,)


def test_a_local_embedder_does_not_wait(tmp_path: Path) -> None:
    embedder = LocalEmbedder(tiny_embedder.write_embedder(tmp_path))
    points = TextPoints(embedder, cache_count=4)
    assert not points.waits
    point = points.of_query("a heist", 60)
    np.testing.assert_array_equal(points.of_items(["a heist"])[0], point)
    assert "text-embedder" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(DeadlineExceeded):
        points.of_query("another", 0)
