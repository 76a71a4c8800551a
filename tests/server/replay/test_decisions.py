from __future__ import annotations

import pytest
from shortlist.v1 import types_pb2 as types
from shortlist_server.funnel.options import Exploration, Options, SelectionOptions
from shortlist_server.replay.decisions import AT_ONCE, as_logged

OK, LATE = types.STAGE_OUTCOME_OK, types.STAGE_OUTCOME_OUT_OF_TIME
FAILED, SKIPPED = types.STAGE_OUTCOME_FAILED, types.STAGE_OUTCOME_SKIPPED


def info_with(plan: str = "", ranking: str = "", **fields: int) -> types.AnswerInfo:
    info = types.AnswerInfo(**fields)  # type: ignore[arg-type]
    info.sources.add(name="two_tower", kind="nearest", outcome=OK, plan=plan)
    info.stages.add(name="ranking", outcome=OK, plan=ranking)
    return info


@pytest.mark.parametrize(
    ("plan", "on_another_bundle"),
    [
        ("exact 60 of 60", True),
        ("exact 7 of 60", True),
        ("last 3 events: exact 7 of 60", True),
        ("exact 100 of 100", False),
        ("hnsw ef=200", False),
        ("hnsw ef=200, over-fetch 90", False),
        ("hnsw ef=200, filtered", False),
        ("popularity", False),
        ("", False),
    ],
)
def test_plans_of_another_bundle_are_taken_where_they_are_scans_of_as_many_items(
    plan: str, on_another_bundle: bool
) -> None:
    info = info_with(plan)
    same = as_logged(Options(), info, same_bundle=True, catalog_size=60).replay
    other = as_logged(Options(), info, same_bundle=False, catalog_size=60).replay
    assert same is not None
    assert same.source_plans == {"two_tower": plan}
    assert other is not None
    assert other.source_plans == ({"two_tower": plan} if on_another_bundle else {})


def test_what_was_left_out_is_left_out_on_every_bundle() -> None:
    info = types.AnswerInfo()
    for name, outcome in (("fast", OK), ("late", LATE), ("broken", FAILED), ("unfit", SKIPPED)):
        info.sources.add(name=name, outcome=outcome)
    info.stages.add(name="retrieval", outcome=OK)
    info.stages.add(name="diversity", outcome=LATE)
    info.stages.add(name="ranking", outcome=SKIPPED)
    for same in (True, False):
        replay = as_logged(Options(), info, same_bundle=same, catalog_size=60).replay
        assert replay is not None
        assert replay.skipped_sources == {"late", "broken"}
        assert replay.skipped_stages == {"diversity"}


@pytest.mark.parametrize(
    ("plan", "chunk"), [("onnx 64 at a time, 1 rating", 64), ("onnx, 1 rating", AT_ONCE)]
)
def test_ranker_takes_as_many_at_once_as_when_it_was_logged(plan: str, chunk: int) -> None:
    info = info_with(ranking=plan)
    same = as_logged(Options(), info, same_bundle=True, catalog_size=60).replay
    other = as_logged(Options(), info, same_bundle=False, catalog_size=60).replay
    assert same is not None
    assert same.ranking_chunk == chunk
    assert other is not None
    assert other.ranking_chunk is None


def test_seed_that_the_server_chose_is_drawn_with() -> None:
    explore = SelectionOptions(exploration=Exploration(temperature=1.0))
    drawn = as_logged(
        Options(selection=explore, explain=True, debug=True),
        info_with(seed=77),
        same_bundle=True,
        catalog_size=60,
    )
    assert drawn.selection.exploration == Exploration(temperature=1.0, seed=77)
    assert not drawn.explain
    assert not drawn.debug
    plain = as_logged(Options(), info_with(seed=77), same_bundle=True, catalog_size=60)
    assert plain.selection == SelectionOptions()
