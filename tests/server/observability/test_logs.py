"""Each record is one line of JSON, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.observability.current_call import current_request_id, current_trace
from shortlist_server.observability.logs import CALL, JsonFormatter
from shortlist_server.observability.traced_call import TracedCall

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["\ud800", "a\nb", "\x00", "\u2028", '"\\', "\r\n\x1b[31m"]
)


def line(message: Any, *arguments: Any, exc_info: Any = None, **extra: Any) -> dict[str, Any]:
    """What a record becomes, read as a strict reader would."""
    record = logging.LogRecord(
        "shortlist_server.x", logging.WARNING, "x.py", 1, message, arguments, exc_info
    )
    vars(record).update(extra)
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    fields: dict[str, Any] = json.loads(text)
    for value in fields.values():
        if isinstance(value, str):
            value.encode()  # no half of a surrogate pair
    return fields


def test_record_has_time_level_logger_and_message() -> None:
    before = datetime.now(UTC)
    fields = line("%d of %s", 3, "films")
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "warning",
        "logger": "shortlist_server.x",
        "message": "3 of films",
    }
    moment = datetime.fromisoformat(line("x")["time"])
    assert before <= moment <= datetime.now(UTC)


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_one_line_that_strict_readers_take(message: str, argument: str) -> None:
    fields = line("%s", message, **{CALL: {"caller": argument}})
    if message.isascii():
        assert fields["message"] == message
    assert "caller" in fields


@given(ANY_TEXT)
def test_a_message_that_fits_its_arguments_badly_is_shown_all_the_same(message: str) -> None:
    assert line(message, 1, 2)["message"]


def test_an_argument_that_cannot_be_shown_does_not_lose_the_record() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "RuntimeError" in line("%s", Broken())["message"]


def test_exception_is_a_text() -> None:
    try:
        raise ValueError("a\nb \ud800")
    except ValueError:
        fields = line("failed", exc_info=sys.exc_info())
    assert fields["message"] == "failed"
    assert fields["exception"].startswith("Traceback")
    assert "ValueError: a\nb" in fields["exception"]


def test_inside_a_call_its_ids_are_there() -> None:
    class Context:
        trace_id = 0xABC

    ids = current_request_id.set("mine")
    trace = current_trace.set(TracedCall(lambda call: None, "/a.B/C", Context(), None))
    try:
        fields = line("x")
    finally:
        current_request_id.reset(ids)
        current_trace.reset(trace)
    assert fields["request_id"] == "mine"
    assert fields["trace_id"] == "0" * 29 + "abc"
    assert "request_id" not in line("x")
