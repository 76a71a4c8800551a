"""Results from the messages of the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from shortlist.v1 import bundle_pb2, catalog_pb2, recommendation_pb2, types_pb2

from shortlist_client import explanation, options, results
from shortlist_client.errors import Internal, ShortlistError
from shortlist_client.language_models import (
    ranker_from_proto,
    rating_from_proto,
    rerank_from_proto,
)
from shortlist_client.status import error_from_row
from shortlist_client.values import AttributeValue, value_from_proto

EnumT = TypeVar("EnumT", bound=StrEnum)
ValueT = TypeVar("ValueT")


def recommendations_from_proto(
    response: recommendation_pb2.RecommendResponse,
) -> results.Recommendations:
    """Return the answer of Recommend."""
    return results.Recommendations(
        items=tuple(map(item_from_proto, response.items)), info=info_from_proto(response.info)
    )


def streamed_from_proto(
    response: recommendation_pb2.StreamRecommendResponse,
) -> results.StreamedRecommendations:
    """Return one answer of StreamRecommend."""
    return results.StreamedRecommendations(
        items=tuple(map(item_from_proto, response.response.items)),
        info=info_from_proto(response.response.info),
        refinement=response.refinement,
        last=response.last,
    )


def row_from_proto(
    response: recommendation_pb2.BatchRecommendResponse, *, request_id: str
) -> tuple[int, results.Recommendations | ShortlistError]:
    """Return the index of a row of BatchRecommend, and its answer or its error.

    Args:
        response: One response of the call.
        request_id: That of the call, for an error that names none.
    """
    match response.WhichOneof("result"):
        case "response":
            return response.index, recommendations_from_proto(response.response)
        case "error":
            return response.index, error_from_row(response.error, request_id=request_id)
    return response.index, Internal(
        "the row came back with neither an answer nor an error", request_id=request_id
    )


def candidates_from_proto(response: recommendation_pb2.RetrieveResponse) -> results.Candidates:
    """Return the answer of Retrieve."""
    return results.Candidates(
        items=tuple(map(item_from_proto, response.items)), info=info_from_proto(response.info)
    )


def ranking_from_proto(response: recommendation_pb2.RankResponse) -> results.Ranking:
    """Return the answer of Rank."""
    return results.Ranking(
        items=tuple(map(item_from_proto, response.items)),
        unknown_item_ids=tuple(response.unknown_item_ids),
        info=info_from_proto(response.info),
    )


def similar_items_from_proto(
    response: recommendation_pb2.FindSimilarItemsResponse,
) -> results.SimilarItems:
    """Return the answer of FindSimilarItems."""
    return results.SimilarItems(
        items=tuple(map(item_from_proto, response.items)), info=info_from_proto(response.info)
    )


def bundle_from_proto(response: bundle_pb2.GetActiveBundleResponse) -> results.ActiveBundle:
    """Return the answer of GetActiveBundle."""
    active = _bundle_info_from_proto(response.bundle)
    return results.ActiveBundle(
        **{field.name: getattr(active, field.name) for field in fields(active)},
        others=tuple(
            results.LabeledBundle(
                label=other.label, bundle=_bundle_info_from_proto(other.bundle), share=other.share
            )
            for other in response.others
        ),
    )


def _bundle_info_from_proto(bundle: bundle_pb2.BundleInfo) -> results.BundleInfo:
    return results.BundleInfo(
        id=bundle_id_from_proto(bundle.id),
        create_time=(
            bundle.create_time.ToDatetime(tzinfo=UTC) if bundle.HasField("create_time") else None
        ),
        data_name=bundle.data_name,
        data_simulated=bundle.data_simulated,
        item_count=bundle.item_count,
        user_count=bundle.user_count,
        dimension=bundle.dimension,
        metric=bundle.metric,
        item_attributes=tuple(map(_field_from_proto, bundle.item_attributes)),
        features=tuple(map(_field_from_proto, bundle.features)),
        ranker_outputs=tuple(bundle.ranker_outputs),
        framework_versions=_sorted(bundle.framework_versions),
    )


def stats_from_proto(response: catalog_pb2.GetCatalogStatsResponse) -> results.CatalogStats:
    """Return the answer of GetCatalogStats."""
    return results.CatalogStats(
        item_count=response.item_count,
        recall=tuple(map(_recall_from_proto, response.recall)),
        recall_dropped_count=response.recall_dropped_count,
        live=response.live,
        revision=response.revision,
        store_age_ms=_milliseconds(response.store_age) if response.HasField("store_age") else None,
        changed_item_count=response.changed_item_count,
        deleted_item_count=response.deleted_item_count,
        tail_row_count=response.tail_row_count,
        misfit_count=response.misfit_count,
        misfits=tuple(
            results.Misfit(
                item_id=misfit.item_id,
                revision=misfit.revision,
                served=misfit.served,
                message=misfit.message,
            )
            for misfit in response.misfits
        ),
        unembedded_text_count=response.unembedded_text_count,
    )


def _recall_from_proto(bucket: catalog_pb2.RecallBucket) -> results.RecallBucket:
    return results.RecallBucket(
        selectivity_min=bucket.selectivity_min,
        selectivity_max=bucket.selectivity_max,
        query_count=bucket.query_count,
        recall=bucket.recall if bucket.HasField("recall") else None,
    )


def item_from_proto(item: types_pb2.ScoredItem) -> results.ScoredItem:
    """Return an item of an answer."""
    return results.ScoredItem(
        id=item.id,
        score=item.score,
        retrieval_score=item.retrieval_score if item.HasField("retrieval_score") else None,
        ranking_score=item.ranking_score if item.HasField("ranking_score") else None,
        outputs=_sorted(item.outputs),
        source=item.source,
        source_position=item.source_position,
        other_sources=tuple(
            explanation.SourcePosition(source=other.source, position=other.position)
            for other in item.other_sources
        ),
        candidate_position=item.candidate_position,
        ranking_position=item.ranking_position,
        exploration_position=(
            item.exploration_position if item.HasField("exploration_position") else None
        ),
        diversity_position=item.diversity_position if item.HasField("diversity_position") else None,
        model_inputs=values_from_proto(item.model_inputs),
        attributes=values_from_proto(item.attributes),
        rerank_position=item.rerank_position if item.HasField("rerank_position") else None,
        rerank_reason=item.rerank_reason,
        llm_rating=item.llm_rating if item.HasField("llm_rating") else None,
        llm_rating_clamped=item.llm_rating_clamped,
    )


def values_from_proto(values: Mapping[str, types_pb2.Value]) -> dict[str, AttributeValue]:
    """Return values by name, without those of a kind that this version does not know."""
    read = {name: value_from_proto(value) for name, value in values.items()}
    return _sorted({name: value for name, value in read.items() if value is not None})


def info_from_proto(info: types_pb2.AnswerInfo) -> results.AnswerInfo:
    """Return what identifies and explains an answer."""
    shortfall = basis = None
    if info.shortfall_reason != types_pb2.SHORTFALL_REASON_UNSPECIFIED:
        shortfall = _SHORTFALL_REASONS.get(
            info.shortfall_reason, explanation.ShortfallReason.UNRECOGNIZED
        )
    if info.cold_start_basis != types_pb2.COLD_START_BASIS_UNSPECIFIED:
        basis = _COLD_START_BASES.get(
            info.cold_start_basis, explanation.ColdStartBasis.UNRECOGNIZED
        )
    return results.AnswerInfo(
        request_id=info.request_id,
        bundle=bundle_id_from_proto(info.bundle),
        stages=tuple(map(stage_from_proto, info.stages)),
        cold_start=info.cold_start,
        warnings=tuple(map(_warning_from_proto, info.warnings)),
        shortfall_reason=shortfall,
        degraded=tuple(map(degradation_from_proto, info.degraded)),
        sources=tuple(map(_source_report_from_proto, info.sources)),
        cold_start_basis=basis,
        seed=info.seed if info.HasField("seed") else None,
        match_count=info.match_count if info.HasField("match_count") else None,
        answered_query=(
            _answered_from_proto(info.answered_query) if info.HasField("answered_query") else None
        ),
        model_inputs=tuple(
            explanation.ModelInputs(model=fed.model, inputs=values_from_proto(fed.inputs))
            for fed in info.model_inputs
        ),
        catalog_revision=info.catalog_revision,
        bundle_label=info.bundle_label,
        rerank=rerank_from_proto(info.rerank) if info.HasField("rerank") else None,
        rating=rating_from_proto(info.rating) if info.HasField("rating") else None,
    )


def bundle_id_from_proto(bundle: types_pb2.BundleId) -> results.BundleId:
    """Return the identity of a bundle."""
    return results.BundleId(name=bundle.name, version=bundle.version, sha256=bundle.sha256)


def _asked_from_proto(rerank: types_pb2.RerankOptions) -> options.Rerank:
    return options.Rerank(
        candidate_count=rerank.candidate_count,
        subset=rerank.subset,
        reasons=rerank.reasons,
        passes=rerank.passes,
        timeout_s=_milliseconds(rerank.timeout) / 1e3 if rerank.HasField("timeout") else None,
        seed=rerank.seed if rerank.HasField("seed") else None,
    )


def stage_from_proto(stage: types_pb2.StageReport) -> explanation.StageReport:
    """Return what a stage reports."""
    return explanation.StageReport(
        name=stage.name,
        duration_ms=_milliseconds(stage.duration),
        items_in=stage.items_in,
        items_out=stage.items_out,
        outcome=_STAGE_OUTCOMES.get(stage.outcome, explanation.StageOutcome.UNRECOGNIZED),
        plan=stage.plan,
    )


def _warning_from_proto(warning: types_pb2.Warning) -> explanation.RequestWarning:
    return explanation.RequestWarning(
        reason=_WARNING_REASONS.get(warning.reason, explanation.WarningReason.UNRECOGNIZED),
        field=warning.field,
        subjects=tuple(warning.subjects),
        subject_count=warning.subject_count,
        message=warning.message,
    )


def degradation_from_proto(degradation: types_pb2.Degradation) -> explanation.Degradation:
    """Return what was left out."""
    return explanation.Degradation(
        stage=degradation.stage,
        source=degradation.source,
        reason=_DEGRADED_REASONS.get(degradation.reason, explanation.DegradedReason.UNRECOGNIZED),
        message=degradation.message,
    )


def _source_report_from_proto(source: types_pb2.SourceReport) -> explanation.SourceReport:
    return explanation.SourceReport(
        name=source.name,
        kind=source.kind,
        outcome=_STAGE_OUTCOMES.get(source.outcome, explanation.StageOutcome.UNRECOGNIZED),
        duration_ms=_milliseconds(source.duration),
        item_count=source.item_count,
        plan=source.plan,
    )


def _answered_from_proto(query: types_pb2.AnsweredQuery) -> explanation.AnsweredQuery:
    return explanation.AnsweredQuery(
        embedding=tuple(query.embedding),
        embedding_source=query.embedding_source,
        features=values_from_proto(query.features),
        history_item_ids=tuple(query.history_item_ids),
        text=query.text,
        filter=query.filter,
        excluded_item_count=query.excluded_item_count,
        limit=query.limit,
        sources=tuple(map(_source_from_proto, query.sources)),
        output_weights=_sorted(query.output_weights),
        selection=_selection_from_proto(query.selection),
        ef=query.ef or None,
        exact=query.exact,
        budget_ms=_milliseconds(query.budget),
        rerank=_asked_from_proto(query.rerank) if query.HasField("rerank") else None,
        ranker=ranker_from_proto(query.ranker),
    )


def _source_from_proto(source: types_pb2.SourceOptions) -> options.Source:
    name, candidate_count = source.name or None, source.candidate_count or None
    match source.WhichOneof("kind"):
        case "nearest":
            return options.Nearest(name=name, candidate_count=candidate_count)
        case "recent_history":
            event_count = source.recent_history.event_count or None
            return options.RecentHistory(
                event_count=event_count, name=name, candidate_count=candidate_count
            )
        case "popularity":
            return options.Popularity(
                attribute=source.popularity.attribute or None,
                value=_scalar_from_proto(source.popularity.value),
                feature=source.popularity.feature or None,
                name=name,
                candidate_count=candidate_count,
            )
        case "caller":
            ids = tuple(source.caller.item_ids)
            return options.CallerItems(ids, name=name, candidate_count=candidate_count)
        case "text":
            return options.Text(name=name, candidate_count=candidate_count)
    # Of the bundle, or of a kind that this version does not know: the name is what it has.
    return options.Configured(source.name, candidate_count=candidate_count)


def _scalar_from_proto(value: types_pb2.Value) -> str | int | float | bool | None:
    scalar = value_from_proto(value)
    return None if isinstance(scalar, tuple) else scalar


def _selection_from_proto(selection: types_pb2.SelectionOptions) -> explanation.Selection:
    exploration = selection.exploration
    return explanation.Selection(
        score_min=selection.score_min if selection.HasField("score_min") else None,
        diversity=selection.diversity,
        caps=tuple(options.Cap(cap.attribute, cap.item_count_max) for cap in selection.caps),
        pinned_items=tuple(
            options.PinnedItem(
                pinned.item_id, pinned.position if pinned.HasField("position") else None
            )
            for pinned in selection.pinned_items
        ),
        temperature=exploration.temperature,
        seed=exploration.seed if exploration.HasField("seed") else None,
    )


def _field_from_proto(field: bundle_pb2.FieldInfo) -> results.FieldInfo:
    return results.FieldInfo(
        name=field.name,
        type=_VALUE_TYPES.get(field.type, results.ValueType.UNRECOGNIZED),
    )


def _milliseconds(duration: Duration) -> float:
    return duration.seconds * 1e3 + duration.nanos / 1e6


def _sorted(values: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Return a map by name: on the wire it has no order, and equal answers should print equally."""
    return dict(sorted(values.items()))


def by_number(
    kind: type[EnumT], values: Iterable[tuple[str, int]], prefix: str
) -> dict[int, EnumT]:
    """Return the members of a Python enum by the numbers of their namesakes in the proto enum."""
    names = {number: name.removeprefix(prefix) for name, number in values}
    return {number: kind(name) for number, name in names.items() if name in kind.__members__}


_SHORTFALL_REASONS = by_number(
    explanation.ShortfallReason, types_pb2.ShortfallReason.items(), "SHORTFALL_REASON_"
)
_STAGE_OUTCOMES = by_number(
    explanation.StageOutcome, types_pb2.StageOutcome.items(), "STAGE_OUTCOME_"
)
_VALUE_TYPES = by_number(results.ValueType, types_pb2.ValueType.items(), "VALUE_TYPE_")
_WARNING_REASONS = by_number(
    explanation.WarningReason, types_pb2.WarningReason.items(), "WARNING_REASON_"
)
_DEGRADED_REASONS = by_number(
    explanation.DegradedReason, types_pb2.DegradedReason.items(), "DEGRADED_REASON_"
)
_COLD_START_BASES = by_number(
    explanation.ColdStartBasis, types_pb2.ColdStartBasis.items(), "COLD_START_BASIS_"
)
