"""The shared request vectors, sent by the Python stubs; and that nothing lacks one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from request_vectors import differences, methods, send, vectors
from shortlist.v1 import errors_pb2
from vector_server import VectorServers, vector_servers

VECTORS = vectors()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorServers]:
    with vector_servers(tmp_path_factory.mktemp("vectors")) as running:
        yield running


def test_every_vector_is_answered_as_expected(servers: VectorServers) -> None:
    wrong: list[str] = []
    answered: Counter[str] = Counter()
    # In one test: they are sent in their order, whatever the order of tests.
    for vector in VECTORS:
        found = differences(vector.expected, send(vector, servers), method=vector.method)
        wrong += [f"{vector.name}: {difference}" for difference in found]
        answered[vector.method] += not found
    report(answered)
    assert not wrong, "\n".join(wrong)


def report(answered: Counter[str]) -> None:
    """Tell `make test-clients` how many vectors of each method were answered as expected."""
    if file := os.environ.get("SHORTLIST_VECTORS_REPORT"):
        Path(file).write_text(json.dumps(answered))


@pytest.mark.parametrize("method", methods())
def test_every_method_has_a_vector_with_an_answer(method: str) -> None:
    answers = [
        vector.expected.get("responses", []) for vector in VECTORS if vector.method == method
    ]
    assert any(response for responses in answers for response in responses)


def test_every_reason_has_a_vector() -> None:
    named = {vector.expected["error"]["reason"] for vector in VECTORS if "error" in vector.expected}
    assert named == {
        name.removeprefix("ERROR_REASON_")
        for name, number in errors_pb2.ErrorReason.items()
        if number != errors_pb2.ERROR_REASON_UNSPECIFIED
    }


def test_vectors_are_numbered_and_each_is_expected_to_give_something() -> None:
    assert len(VECTORS) > 50
    assert len({vector.name[:3] for vector in VECTORS}) == len(VECTORS)
    for vector in VECTORS:
        (kind,) = vector.expected
        assert kind in ("responses", "error"), vector.name


@pytest.mark.parametrize(
    ("expected", "got", "where"),
    [
        ({"responses": [{"a": 1.0}]}, {"responses": [{"a": 1.000001}]}, []),
        ({"responses": [{"a": 1.0}]}, {"responses": [{"a": 1.001}]}, ["responses[0].a"]),
        ({"responses": [{"a": 1000.0}]}, {"responses": [{"a": 1000.001}]}, []),
        ({"responses": [{"a": "1"}]}, {"responses": [{"a": 1}]}, ["responses[0].a"]),
        ({"responses": [{"a": True}]}, {"responses": [{"a": 1}]}, ["responses[0].a"]),
        ({"responses": [{"a": 1}]}, {"responses": [{}]}, ["responses[0].a"]),
        ({"responses": [{}]}, {"responses": [{"b": ""}]}, ["responses[0].b"]),
        ({"responses": [{"requestId": "1"}]}, {"responses": [{"requestId": "2"}]}, []),
        ({"responses": [{}]}, {"responses": [{}, {}]}, ["responses"]),
        ({"responses": [{}]}, {"error": {}}, ["error", "responses"]),
    ],
)
def test_answers_are_compared_by_the_rules(expected: object, got: object, where: list[str]) -> None:
    found = differences(expected, got, method="")
    assert [difference.partition(":")[0] for difference in found] == where


def test_rows_of_a_batch_may_come_in_any_order() -> None:
    rows = [{"error": {"code": 3}}, {"index": 1}]
    method = "shortlist.v1.RecommendationService/BatchRecommend"
    assert not differences({"responses": rows}, {"responses": rows[::-1]}, method=method)
    assert differences({"responses": rows}, {"responses": rows[::-1]}, method="")
