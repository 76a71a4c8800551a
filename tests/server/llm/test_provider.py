"""Retry delays are understood as services write them; answers are what the schema says."""

from __future__ import annotations

import email.utils
import time

import numpy as np
import pytest
from shortlist_server.llm.answer import cut, parse_object, unit_points
from shortlist_server.llm.language_model import LlmInvalidOutput
from shortlist_server.llm.provider import retry_delay

INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo"}


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        ("3", None, 3.0),
        ("0.25", None, 0.25),
        (None, {"error": {"details": [INFO | {"retryDelay": "1.5s"}]}}, 1.5),
        (None, {"details": [{"@type": "other"}, INFO | {"retryDelay": "2s"}]}, 2.0),
        ("4", {"error": {"details": [INFO | {"retryDelay": "1.5s"}]}}, 4.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None, 0.0),
        (None, None, None),
        ("soon", {"error": "no"}, None),
        ("-1", {"error": {"details": ["no", INFO, INFO | {"retryDelay": "-1s"}]}}, None),
        ("1e9", [1, 2], None),
    ],
)
def test_retry_delays(header: str | None, details: object, expected: float | None) -> None:
    assert retry_delay(header, details) == expected


def test_a_retry_date_is_a_time_from_now() -> None:
    delay = retry_delay(email.utils.formatdate(time.time() + 3_600, usegmt=True))
    assert delay is not None
    assert 3_500 < delay <= 3_600


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    "text", ['{"n": 1}', ' {"n": 1}\n', '```json\n{"n": 1}\n```', '```{"n":1}```']
)
def test_an_object_is_found(text: str) -> None:
    assert parse_object(text, SCHEMA) == {"n": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "got nothing"),
        ("{", "1 characters that are no JSON"),
        ('{"n": NaN}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "got a list"),
        ('{"n": "whisper"}', "'type', 1 levels deep"),
        ("{}", "'required', 0 levels deep"),
    ],
)
def test_what_is_no_object_of_the_schema_is_described_not_shown(text: str, problem: str) -> None:
    with pytest.raises(LlmInvalidOutput, match=problem) as caught:
        parse_object(text, SCHEMA)
    assert "whisper" not in str(caught.value)
    assert caught.value.__context__ is None


def test_points_are_brought_to_unit_length() -> None:
    points = unit_points([[3.0, 4.0], [0.0, -2.0]], 2, 2)
    assert points.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, -1.0]]
    assert points.dtype == np.float32


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([[1.0, 2.0]], "expected 2 embeddings, got 1"),
        ([[1.0, 2.0], [1.0]], "dimension 2, got 1"),
        ([[1.0, 2.0], ["a", "b"]], "something else"),
        ([[1.0, 2.0], [0.0, 0.0]], "with a direction"),
        ([[1.0, 2.0], [float("nan"), 0.0]], "with a direction"),
    ],
)
def test_other_points_are_refused(points: list[list[float]], problem: str) -> None:
    with pytest.raises(LlmInvalidOutput, match=problem):
        unit_points(points, 2, 2)


def test_texts_are_cut_and_never_empty() -> None:
    assert cut(["abc", "", " \n"], "q: ", 5) == ["q: ab", "q:  ", "q:  "]
    assert cut([""], "", 5) == [" "]
