"""What is at its bound, and not beyond, is answered."""

from __future__ import annotations

import pytest
from request_messages import (
    EXISTS,
    Call,
    cap,
    equals,
    is_in,
    joined,
    nested,
    pin,
    recommend,
    select,
    sources,
    texts,
)
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub

ACCEPTED = {
    "a filter of 16 levels": recommend(filter=nested(16)),
    "1,024 parts": recommend(filter=joined("any_of", *[EXISTS] * 1_023)),
    "10,000 values": is_in("title", string_list=texts(*(f"t{n}" for n in range(10_000)))),
    "an integer where a double is": equals("year", int64_value=2**63 - 1),
    "16 sources": sources(
        *[
            types.SourceOptions(name=f"s{n}", nearest=types.NearestSource(), candidate_count=256)
            for n in range(16)
        ]
    ),
    "a name of 64 bytes": sources(
        types.SourceOptions(name="é" * 32, nearest=types.NearestSource())
    ),
    "4,096 named items": sources(
        types.SourceOptions(
            candidate_count=4_096, caller=types.CallerSource(item_ids=["i1"] * 4_096)
        )
    ),
    "1,000 events": sources(
        types.SourceOptions(recent_history=types.HistorySource(event_count=1_000))
    ),
    "16 caps": select(caps=[cap(most=500)] * 16),
    "100 pins": select(100, pinned_items=[pin(f"i{n}", position=n) for n in range(100)]),
    "diversity of 1": select(diversity=1.0),
    "the least temperature": select(exploration=types.Exploration(temperature=1e-6)),
    "the largest temperature": select(exploration=types.Exploration(temperature=1e6)),
    "the largest score_min": select(score_min=1.7e308),
    "the largest weights": recommend(output_weights={"rating": 1e15, "like": -1e15}),
    "ef at its largest": recommend(retrieval=types.RetrievalOptions(ef=4_096)),
    "the largest counts": recommend(
        limit=500, retrieval=types.RetrievalOptions(candidate_count=4_096, exact=True)
    ),
}


@pytest.mark.parametrize("call", ACCEPTED.values(), ids=ACCEPTED)
def test_option_at_its_bound_is_answered(stub: Stub, call: Call) -> None:
    answer = getattr(stub, call[0])(call[1], timeout=20)
    assert answer.info.request_id
    assert not answer.info.degraded
