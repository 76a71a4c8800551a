"""Random requests of random worlds: a machine whose clock chose differently answers the same when
it is told what was chosen.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from random_requests import requests
from request_logs import RESPONSE_STAGE
from shortlist.v1 import types_pb2 as types
from shortlist_server.funnel.budget import Budget
from shortlist_server.replay.decisions import as_logged
from shortlist_server.rpc import check, convert, respond

MODES = ("scan", "rows", "graph", "filtered", "cheapest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@settings(max_examples=400)
@given(
    seed=st.integers(0, 164),
    then=st.sampled_from(MODES),
    now=st.sampled_from(MODES),
    draw=st.data(),
)
def test_choices_of_another_clock_are_taken_from_the_log(
    folder: Path, seed: int, then: str, now: str, draw: st.DataObject
) -> None:
    world = random_world.make(seed, folder)
    request = draw.draw(requests(world))
    check.recommend_request(request)
    query, options = convert.query(request.query), convert.recommend_options(request)
    answer = world.funnels[then].recommend(query, options, Budget(1_000))
    info = types.AnswerInfo()
    respond.fill_info(answer, RESPONSE_STAGE, types.BundleId(), "mine", info)
    replayed = world.funnels[now].recommend(
        query,
        as_logged(options, info, same_bundle=True, catalog_size=world.size),
        Budget(1_000),
    )
    assert replayed.items.rows.tolist() == answer.items.rows.tolist()
    assert replayed.items.scores.tobytes() == answer.items.scores.tobytes()
    assert replayed.seed == answer.seed
    assert replayed.shortfall == answer.shortfall
