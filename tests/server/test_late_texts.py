"""Texts are embedded in a thread until none is left, whatever goes wrong on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from shortlist_server.catalog.pending_texts import PendingText, PendingTexts
from shortlist_server.funnel.arrays import Floats
from shortlist_server.late_texts import LateTexts
from shortlist_server.llm.language_model import LlmOverloaded, LlmUnavailable


class Items:
    """Items whose texts are embedded as it is told."""

    def __init__(self, count: int) -> None:
        self.pending = PendingTexts()
        self.placed: list[str] = []
        self.tried: list[int] = []
        self.refused = ""
        self.failures: list[Exception] = []
        self.place_failures: list[Exception] = []
        self.changed = threading.Condition()
        for number in range(count):
            self.add(f"i{number}")

    def add(self, item_id: str) -> None:
        self.pending.add(PendingText(item_id=item_id, revision=1, text=f"text of {item_id}"))

    def due_texts(self, count: int) -> list[PendingText]:
        return self.pending.first(count)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        self.tried.append(len(texts))
        if self.failures:
            raise self.failures.pop()
        if self.refused in texts:
            raise LlmUnavailable("it answered with HTTP status 400")
        return np.ones((len(texts), 2), np.float32)

    def place_texts(self, texts: Sequence[PendingText], points: Floats) -> None:
        if self.place_failures:
            raise self.place_failures.pop()
        with self.changed:
            for place in self.pending.still(texts):
                self.placed.append(texts[place].item_id)
            for text in texts:
                self.pending.drop(text.item_id)
            self.changed.notify_all()

    def put_last(self, texts: Sequence[PendingText], problem: str) -> None:
        self.pending.put_last(texts, problem)

    def wait_placed(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.placed) >= count, timeout=30)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortlist_server.late_texts.RETRY_S_MIN", 0.001)
    monkeypatch.setattr("shortlist_server.late_texts.RETRY_S_MAX", 0.002)


@pytest.fixture
def started() -> Iterator[list[LateTexts]]:
    """What is ended after the test."""
    all_started: list[LateTexts] = []
    yield all_started
    for one in all_started:
        one.close()


def start(items: Items, started: list[LateTexts]) -> LateTexts:
    started.append(LateTexts(items, "stable"))
    started[-1].start()
    return started[-1]


def test_all_are_embedded_in_their_order_and_those_that_come_later(
    started: list[LateTexts],
) -> None:
    items = Items(150)
    late = start(items, started)
    items.wait_placed(150)
    assert items.placed == [f"i{number}" for number in range(150)]
    assert items.tried == [64, 64, 22]
    items.add("new")
    late.nudge()
    items.wait_placed(151)
    assert items.placed[-1] == "new"


def test_one_that_is_refused_is_found_by_halves_and_keeps_no_other_back(
    started: list[LateTexts],
) -> None:
    items = Items(40)
    items.refused = "text of i7"
    start(items, started)
    items.wait_placed(39)
    assert len(items.placed) == len(set(items.placed)) == 39
    (left,) = items.pending
    assert (left.item_id, left.problem) == ("i7", "it answered with HTTP status 400")


@pytest.mark.parametrize("error", [LlmUnavailable("away"), LlmOverloaded("busy"), OSError("odd")])
def test_a_failure_is_told_once_and_tried_again(
    started: list[LateTexts], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    items = Items(3)
    items.failures = [error] * 5
    with caplog.at_level(logging.INFO):
        start(items, started)
        items.wait_placed(3)
        items.add("new")
        started[-1].nudge()
        items.wait_placed(4)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(" (")[0] for message in messages] == [
        "texts of changed items cannot be embedded",
        "texts of changed items are embedded again",
    ]


def test_a_fault_in_placing_them_does_not_end_it(started: list[LateTexts]) -> None:
    items = Items(3)
    items.place_failures = [ValueError("a bug")]
    start(items, started)
    items.wait_placed(3)


def test_what_changed_meanwhile_is_not_put_back() -> None:
    pending = PendingTexts()
    old = PendingText(item_id="a", revision=1, text="old")
    pending.add(old)
    pending.add(PendingText(item_id="a", revision=2, text="new"))
    pending.put_last([old, PendingText(item_id="gone", revision=1, text="x")], "no")
    assert [(text.text, text.problem) for text in pending] == [("new", "")]
    assert pending.still([old]) == []
    pending.drop("a")
    pending.drop("a")
    assert len(pending) == 0
