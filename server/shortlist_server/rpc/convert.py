"""Messages to the funnel's values. `check.py` has been before; only excluded ids, which may be
thousands, are checked here, as they are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from shortlist.v1 import recommendation_pb2, types_pb2

from shortlist_server.bundle.item_text import clean_text
from shortlist_server.funnel.options import (
    Cap,
    Exploration,
    Named,
    Nearest,
    Options,
    Pin,
    Popular,
    RatingOptions,
    RecentHistory,
    RerankOptions,
    SelectionOptions,
    SourceOptions,
    SourceSettings,
    Text,
)
from shortlist_server.funnel.types import (
    Event,
    Examples,
    FeatureValue,
    Nobody,
    Query,
    Subject,
    User,
    Vector,
)
from shortlist_server.rpc import check_values
from shortlist_server.rpc.convert_filter import filter_or_none, value_of

LIMIT_DEFAULT = 20
CANDIDATES_DEFAULT = 200
EVENTS_DEFAULT = 10
RERANKED_DEFAULT = 20


def recommend_options(request: recommendation_pb2.RecommendRequest) -> Options:
    """Return what a RecommendRequest chooses."""
    limit = request.limit or LIMIT_DEFAULT
    return Options(
        limit=limit,
        candidate_count=request.retrieval.candidate_count or max(CANDIDATES_DEFAULT, limit),
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=excluded_ids("exclusions.item_ids", request.exclusions.item_ids),
        exclude_seen=exclude_seen(request.exclusions),
        filter=filter_or_none(request, "filter"),
        excluded_filter=filter_or_none(request.exclusions, "filter", "exclusions.filter"),
        sources=_sources(request.sources),
        selection=_selection(request.selection),
        rerank=_rerank(request.rerank) if request.HasField("rerank") else None,
        attributes=tuple(request.attributes),
        output_weights=dict(request.output_weights),
        strict=request.strict,
        explain=request.explain,
        debug=request.debug,
    )


def retrieve_options(request: recommendation_pb2.RetrieveRequest) -> Options:
    """Return what a RetrieveRequest chooses."""
    return Options(
        limit=request.retrieval.candidate_count,
        candidate_count=request.retrieval.candidate_count or CANDIDATES_DEFAULT,
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=excluded_ids("exclusions.item_ids", request.exclusions.item_ids),
        exclude_seen=exclude_seen(request.exclusions),
        filter=filter_or_none(request, "filter"),
        excluded_filter=filter_or_none(request.exclusions, "filter", "exclusions.filter"),
        sources=_sources(request.sources),
        attributes=tuple(request.attributes),
        strict=request.strict,
        explain=request.explain,
        debug=request.debug,
    )


def rank_options(request: recommendation_pb2.RankRequest) -> Options:
    """Return what a RankRequest chooses."""
    return Options(
        limit=len(request.item_ids),
        rating=_rating(request),
        excluded_item_ids=excluded_ids("excluded_item_ids", request.excluded_item_ids),
        attributes=tuple(request.attributes),
        output_weights=dict(request.output_weights),
        strict=request.strict,
        explain=request.explain,
        debug=request.debug,
    )


def _rating(request: recommendation_pb2.RankRequest) -> RatingOptions | None:
    if request.ranker not in (types_pb2.RANKER_LLM, types_pb2.RANKER_BLEND):
        return None
    timeout = request.llm_timeout
    return RatingOptions(
        blend=request.ranker == types_pb2.RANKER_BLEND,
        timeout_s=timeout.seconds + timeout.nanos / 1e9
        if request.HasField("llm_timeout")
        else None,
    )


def similar_options(request: recommendation_pb2.FindSimilarItemsRequest) -> Options:
    """Return what a FindSimilarItemsRequest chooses."""
    limit = request.limit or LIMIT_DEFAULT
    by_text = request.similarity == recommendation_pb2.SIMILARITY_TEXT
    return Options(
        limit=limit,
        candidate_count=request.retrieval.candidate_count or limit,
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=excluded_ids("excluded_item_ids", request.excluded_item_ids),
        filter=filter_or_none(request, "filter"),
        # Like the item, whatever the bundle asks for users.
        sources=(SourceOptions(settings=Text(field="similarity") if by_text else Nearest()),),
        attributes=tuple(request.attributes),
        strict=request.strict,
        debug=request.debug,
    )


def query(message: types_pb2.Query) -> Query:
    """Return a Query in the funnel's terms."""
    return Query(
        subject=_subject(message),
        text=clean_text(message.text) if message.text else "",
        context=values(message.context),
    )


def _subject(message: types_pb2.Query) -> Subject:
    match message.WhichOneof("kind"):
        case "user":
            return _user(message.user)
        case "items":
            return Examples(item_ids=tuple(message.items.item_ids))
        case "embedding":
            return Vector(values=np.array(message.embedding.values, np.float32))
    return Nobody()


def similar_query(request: recommendation_pb2.FindSimilarItemsRequest) -> Query:
    """Return the query that asks for items like one item."""
    return Query(subject=Examples(item_ids=(request.item_id,), field="item_id"))


def excluded_ids(field: str, item_ids: Sequence[str]) -> list[str]:
    """Return ids as a list, checked; raises FieldRequired and OutOfRange."""
    # Protobuf decodes a text each time it is looked at.
    decoded = list(item_ids)
    check_values.ids(field, decoded)
    return decoded


def exclude_seen(exclusions: types_pb2.Exclusions) -> bool:
    """Return whether items that the user has seen are left out."""
    return exclusions.seen if exclusions.HasField("seen") else True


def _sources(messages: Sequence[types_pb2.SourceOptions]) -> tuple[SourceOptions, ...]:
    return tuple(
        SourceOptions(
            name=message.name,
            candidate_count=message.candidate_count or None,
            settings=_settings(message, f"sources[{position}]"),
        )
        for position, message in enumerate(messages)
    )


def _settings(message: types_pb2.SourceOptions, field: str) -> SourceSettings | None:
    match message.WhichOneof("kind"):
        case "nearest":
            return Nearest()
        case "recent_history":
            return RecentHistory(event_count=message.recent_history.event_count or EVENTS_DEFAULT)
        case "popularity":
            popularity = message.popularity
            return Popular(
                attribute=popularity.attribute,
                value=value_of(popularity.value) if popularity.HasField("value") else None,
                feature=popularity.feature,
                field=f"{field}.popularity",
            )
        case "caller":
            return Named(item_ids=tuple(message.caller.item_ids))
        case "text":
            return Text(field=f"{field}.text")
    return None


def _selection(message: types_pb2.SelectionOptions) -> SelectionOptions:
    exploration = message.exploration
    return SelectionOptions(
        score_min=message.score_min if message.HasField("score_min") else None,
        diversity=message.diversity,
        caps=tuple(
            Cap(attribute=cap.attribute, item_count_max=cap.item_count_max) for cap in message.caps
        ),
        pins=tuple(
            Pin(item_id=pin.item_id, position=pin.position if pin.HasField("position") else None)
            for pin in message.pinned_items
        ),
        exploration=Exploration(
            temperature=exploration.temperature,
            seed=exploration.seed if exploration.HasField("seed") else None,
        )
        if exploration.temperature
        else None,
    )


def _rerank(message: types_pb2.RerankOptions) -> RerankOptions:
    timeout = message.timeout
    return RerankOptions(
        candidate_count=message.candidate_count or RERANKED_DEFAULT,
        subset=message.subset,
        reasons=message.reasons,
        passes=message.passes or 1,
        timeout_s=timeout.seconds + timeout.nanos / 1e9 if message.HasField("timeout") else None,
        seed=message.seed if message.HasField("seed") else None,
    )


def _user(user: types_pb2.UserQuery) -> User:
    return User(
        id=user.id,
        features=values(user.features),
        history=tuple(
            Event(
                item_id=event.item_id,
                time=event.time.seconds + event.time.nanos / 1e9
                if event.HasField("time")
                else None,
                rating=event.rating if event.HasField("rating") else None,
                action=event.action,
            )
            for event in user.history
        ),
    )


def values(features: Mapping[str, types_pb2.Value]) -> dict[str, FeatureValue]:
    """Return values by name."""
    return {name: _value(value) for name, value in features.items()}


def _value(value: types_pb2.Value) -> FeatureValue:
    kind = value.WhichOneof("kind")
    assert kind is not None
    held: Any = getattr(value, kind)
    return list(held.values) if kind.endswith("_list") else held
