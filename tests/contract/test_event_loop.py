"""The default way to compute: in the event loop, without threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.generation import Generation


def test_answers_are_those_of_threads_also_when_many_ask_at_once(
    tiny_bundle: Path, generation: Generation, server: Any
) -> None:
    requests = [
        pb.RecommendRequest(query=types.Query(user=types.UserQuery(id=f"u{number % 14}")), limit=7)
        for number in range(60)
    ]
    looped = type(server)(tiny_bundle, generation, compute_threads=0)
    try:
        answers = []
        for target in (server.target, looped.target):
            with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(8) as callers:
                stub = RecommendationServiceStub(channel)
                answers.append(list(callers.map(partial(stub.Recommend, timeout=20), requests)))
    finally:
        looped.stop()
    for threaded, inline in zip(*answers, strict=True):
        assert threaded.items == inline.items
        assert len(inline.items) == 7
