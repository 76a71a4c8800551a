"""Language models in `rank`: what is asked of them, and what answers say of them."""

from __future__ import annotations

from typing import get_args

from shortlist.v1 import types_pb2

from shortlist_client.explanation import RatingInfo, RerankInfo
from shortlist_client.options import Ranker
from shortlist_client.values import invalid


def rerank_from_proto(rerank: types_pb2.RerankInfo) -> RerankInfo:
    """Return what a language model was asked that put candidates in order."""
    return RerankInfo(
        prompt=rerank.prompt,
        model=rerank.model,
        item_ids=tuple(rerank.item_ids),
        left_out_count=rerank.left_out_count,
        pass_count=rerank.pass_count,
        seed=rerank.seed,
        input_token_count=rerank.input_token_count,
        output_token_count=rerank.output_token_count,
        price=rerank.price,
        violations=tuple(rerank.violations),
    )


def rating_from_proto(rating: types_pb2.RatingInfo) -> RatingInfo:
    """Return what a language model was asked that predicts ratings."""
    return RatingInfo(
        prompt=rating.prompt,
        model=rating.model,
        ratings=dict(zip(rating.item_ids, rating.ratings, strict=False)),
        clamped_count=rating.clamped_count,
        llm_weight=rating.llm_weight,
        ranker_weight=rating.ranker_weight,
        input_token_count=rating.input_token_count,
        output_token_count=rating.output_token_count,
        price=rating.price,
        violations=tuple(rating.violations),
    )


def ranker_to_proto(ranker: object) -> types_pb2.Ranker.ValueType:
    """Return whose word items are scored by; unspecified for None.

    Raises:
        InvalidValue: It is none of those that there are.
    """
    if ranker is None:
        return types_pb2.RANKER_UNSPECIFIED
    for name in get_args(Ranker):
        if ranker == name:
            return types_pb2.Ranker.Value(f"RANKER_{name.upper()}")
    raise invalid("ranker", f"one of {', '.join(map(repr, get_args(Ranker)))}", ranker)


def ranker_from_proto(ranker: types_pb2.Ranker.ValueType) -> str:
    """Return whose word items were to be scored by; empty where it was the bundle's."""
    return _RANKERS.get(ranker, "unrecognized")


_RANKERS: dict[int, str] = {
    types_pb2.RANKER_UNSPECIFIED: "",
    types_pb2.RANKER_BUNDLE: "",
    types_pb2.RANKER_LLM: "llm",
    types_pb2.RANKER_BLEND: "blend",
}
