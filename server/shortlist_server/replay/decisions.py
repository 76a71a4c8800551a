"""What the clock decided when a request was answered, read from its AnswerInfo."""

from __future__ import annotations

import re
from dataclasses import replace

from shortlist.v1 import types_pb2

from shortlist_server.funnel.options import Options, Replay
from shortlist_server.index.plan import SearchPlan

RANKED_IN_PARTS = re.compile(r"onnx (\d+) at a time, ")
AT_ONCE = 1 << 20
"""Candidates ranked at once where the log does not say that they were ranked in parts: all."""
LEFT_OUT = (types_pb2.STAGE_OUTCOME_OUT_OF_TIME, types_pb2.STAGE_OUTCOME_FAILED)


def as_logged(
    options: Options, info: types_pb2.AnswerInfo, *, same_bundle: bool, catalog_size: int
) -> Options:
    """Return the options of a logged request, with what was decided by the clock or by chance.

    What was left out stays left out on every bundle: a difference is never the clock's. How the
    index was searched, and how many candidates the ranker took at once, belong to the bundle that
    was logged; another one decides for itself, but for scans of as many items as it has.

    Args:
        options: What the caller chose.
        info: The logged answer's.
        same_bundle: Whether the bundle that answers now is the one that answered then.
        catalog_size: Number of its items.
    """
    plans = {
        source.name: source.plan
        for source in info.sources
        if same_bundle or _fits(source.plan, catalog_size)
    }
    replayed = replace(
        options,
        explain=False,
        debug=False,
        replay=Replay(
            source_plans=plans,
            skipped_sources=frozenset(
                source.name for source in info.sources if source.outcome in LEFT_OUT
            ),
            skipped_stages=frozenset(
                stage.name for stage in info.stages if stage.outcome in LEFT_OUT
            ),
            ranking_chunk=_ranking_chunk(info) if same_bundle else None,
            reranked_item_ids=tuple(info.rerank.item_ids),
            ratings=dict(zip(info.rating.item_ids, info.rating.ratings, strict=False)),
            rating_weights=(info.rating.llm_weight, info.rating.ranker_weight),
        ),
    )
    exploration = options.selection.exploration
    if exploration is None or not info.HasField("seed"):
        return replayed
    drawn = replace(exploration, seed=info.seed)
    return replace(replayed, selection=replace(options.selection, exploration=drawn))


def _fits(plan: str, catalog_size: int) -> bool:
    """Whether a plan says as much on another bundle: a scan of a catalogue of the same size. The
    width of a graph search belongs to a graph.
    """
    search = SearchPlan.parse(plan.rpartition(": ")[2])
    return search is not None and not search.approximate and search.size == catalog_size


def _ranking_chunk(info: types_pb2.AnswerInfo) -> int:
    for stage in info.stages:
        if stage.name == "ranking" and (found := RANKED_IN_PARTS.match(stage.plan)):
            return int(found[1])
    return AT_ONCE
