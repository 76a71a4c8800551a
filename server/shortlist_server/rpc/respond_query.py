"""The query that was answered, with all defaults filled in: what `debug` returns."""

from __future__ import annotations

from shortlist.v1 import types_pb2

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.funnel.options import (
    Named,
    Nearest,
    Options,
    Popular,
    RecentHistory,
    RerankOptions,
    SelectionOptions,
    SourceOptions,
    Text,
)
from shortlist_server.funnel.rating import Rated
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.types import Answer
from shortlist_server.rpc.respond import set_value


def fill_answered_query(
    answer: Answer,
    options: Options,
    budget_s: float,
    catalog: ItemTable,
    message: types_pb2.AnsweredQuery,
) -> None:
    """Write the query that was answered.

    Args:
        answer: The answer.
        options: What the caller chose.
        budget_s: The time budget, in seconds.
        catalog: The bundle's items.
        message: Where to write.
    """
    query, encoded = answer.query, answer.encoded
    if encoded.embedding is not None:
        message.embedding.extend(encoded.embedding.tolist())
    message.embedding_source = encoded.source
    for name, value in query.features.items():
        set_value(message.features[name], tuple(value) if isinstance(value, list) else value)
    message.history_item_ids.extend(catalog.item_id(row) for row in query.history_rows.tolist())
    if query.allowed.selection is not None:
        message.filter = query.allowed.selection.text
    message.excluded_item_count = len(query.allowed.excluded)
    message.text = query.text
    message.limit = answer.limit
    for source in query.sources:
        nearest = "nearest" if encoded.embedding is None else encoded.source
        _source(source, nearest, options.candidate_count, message.sources.add())
    message.output_weights.update(answer.weights)
    _selection(options.selection, answer.seed, message.selection)
    if (rerank := options.rerank) is not None:
        _rerank(rerank, answer.reranked, message.rerank)
    if (rating := options.rating) is not None:
        message.ranker = types_pb2.RANKER_BLEND if rating.blend else types_pb2.RANKER_LLM
    message.ef = options.ef or 0
    message.exact = options.exact
    message.budget.FromNanoseconds(int(budget_s * 1e9))


def _source(
    source: SourceOptions, nearest_name: str, count: int, message: types_pb2.SourceOptions
) -> None:
    settings = source.settings
    message.name = source.name or (nearest_name if isinstance(settings, Nearest) else source.kind)
    message.candidate_count = source.candidate_count or count
    match settings:
        case Nearest():
            message.nearest.SetInParent()
        case RecentHistory():
            message.recent_history.event_count = settings.event_count
        case Popular():
            message.popularity.SetInParent()
            message.popularity.attribute = settings.attribute
            message.popularity.feature = settings.feature
            if settings.value is not None:
                set_value(message.popularity.value, settings.value)
        case Text():
            message.text.SetInParent()
        case Named():
            message.caller.item_ids.extend(settings.item_ids)


def _selection(
    selection: SelectionOptions, seed: int | None, message: types_pb2.SelectionOptions
) -> None:
    message.SetInParent()
    if selection.score_min is not None:
        message.score_min = selection.score_min
    message.diversity = selection.diversity
    for cap in selection.caps:
        message.caps.add(attribute=cap.attribute, item_count_max=cap.item_count_max)
    for pin in selection.pins:
        message.pinned_items.add(item_id=pin.item_id, position=pin.position)
    if selection.exploration is not None:
        message.exploration.temperature = selection.exploration.temperature
        if seed is not None:
            message.exploration.seed = seed


def fill_rerank_info(reranked: Reranked, catalog: ItemTable, message: types_pb2.RerankInfo) -> None:
    """Write what a language model was asked, and what it cost."""
    message.prompt = reranked.prompt
    message.model = reranked.model
    message.item_ids.extend(catalog.item_id(row) for row in reranked.rows.tolist())
    message.left_out_count = reranked.left_out_count
    message.pass_count = reranked.pass_count
    message.seed = reranked.seed
    message.input_token_count = reranked.input_token_count
    message.output_token_count = reranked.output_token_count
    message.price = reranked.price
    message.violations.extend(reranked.violations)


def fill_rating_info(rated: Rated, catalog: ItemTable, message: types_pb2.RatingInfo) -> None:
    """Write what a language model was asked that predicts ratings, and what it cost."""
    message.prompt = rated.prompt
    message.model = rated.model
    message.item_ids.extend(map(catalog.item_id, rated.ratings))
    message.ratings.extend(rating.value for rating in rated.ratings.values())
    message.clamped_count = sum(rating.clamped for rating in rated.ratings.values())
    if rated.ratings:
        message.llm_weight = rated.llm_weight
        message.ranker_weight = rated.ranker_weight
    message.input_token_count = rated.input_token_count
    message.output_token_count = rated.output_token_count
    message.price = rated.price
    message.violations.extend(rated.violations)


def _rerank(
    options: RerankOptions, reranked: Reranked | None, message: types_pb2.RerankOptions
) -> None:
    message.candidate_count = options.candidate_count
    message.subset = options.subset
    message.reasons = options.reasons
    message.passes = options.passes
    if options.timeout_s is not None:
        message.timeout.FromNanoseconds(int(options.timeout_s * 1e9))
    if options.seed is not None:
        message.seed = options.seed
    elif reranked is not None and reranked.prompt:
        message.seed = reranked.seed
