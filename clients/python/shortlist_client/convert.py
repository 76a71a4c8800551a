"""Messages of the service from queries, and results from its messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC
from enum import StrEnum
from typing import TypeVar

from shortlist.v1 import bundle_pb2, recommendation_pb2, types_pb2

from shortlist_client import results
from shortlist_client.errors import InvalidValue
from shortlist_client.queries import Embedding, Event, FeatureValue, Items, Query, User
from shortlist_client.values import (
    AttributeValue,
    flag,
    number,
    text,
    texts,
    time_to_proto,
    value_from_proto,
    value_to_proto,
)

EnumT = TypeVar("EnumT", bound=StrEnum)
ValueT = TypeVar("ValueT")


def query_to_proto(
    query: Query | None, user: User | str | None, context: Mapping[str, FeatureValue] | None
) -> types_pb2.Query:
    """Return the message of a query; without a kind, which the server refuses, where both are None.

    Args:
        query: Whom or what the items should suit.
        user: The same said shorter. A string is the user's id.
        context: Features of the situation.
    """
    if query is not None and user is not None:
        raise InvalidValue.about(
            "query", reason="INVALID_VALUE", expected="either a query or `user=`", got="both"
        )
    if isinstance(user, User):
        query = user
    elif user is not None:
        query = User(id=user)
    message = _kind_to_proto(query)
    for name, value in _features_to_proto(context or {}, "query.context").items():
        message.context[name].CopyFrom(value)
    return message


def _kind_to_proto(query: Query | None) -> types_pb2.Query:
    match query:
        case None:
            return types_pb2.Query()
        case User():
            return types_pb2.Query(user=_user_to_proto(query))
        case Items():
            ids = texts(query.item_ids, "query.items.item_ids")
            return types_pb2.Query(items=types_pb2.ItemsQuery(item_ids=ids))
        case Embedding():
            components = [
                number(component, f"query.embedding.values[{position}]")
                for position, component in enumerate(query.values)
            ]
            return types_pb2.Query(embedding=types_pb2.Embedding(values=components))
    raise InvalidValue.about(
        "query",
        reason="INVALID_VALUE",
        expected="a User, Items or Embedding; `user=` takes a user's id",
        got=f"{type(query).__name__}",
    )


def _user_to_proto(user: User) -> types_pb2.UserQuery:
    return types_pb2.UserQuery(
        id=text(user.id, "query.user.id"),
        features=_features_to_proto(user.features, "query.user.features"),
        history=[
            _event_to_proto(event, f"query.user.history[{position}]")
            for position, event in enumerate(user.history)
        ],
    )


def _event_to_proto(event: Event, field: str) -> types_pb2.HistoryEvent:
    return types_pb2.HistoryEvent(
        item_id=text(event.item_id, f"{field}.item_id"),
        time=None if event.time is None else time_to_proto(event.time, f"{field}.time"),
        rating=None if event.rating is None else number(event.rating, f"{field}.rating"),
        action=text(event.action, f"{field}.action"),
    )


def _features_to_proto(
    features: Mapping[str, FeatureValue], field: str
) -> dict[str, types_pb2.Value]:
    return {
        text(name, f"{field}: a name"): value_to_proto(value, f'{field}["{name}"]')
        for name, value in features.items()
    }


def weights_to_proto(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return the weights of the ranker's outputs; none means the bundle's own."""
    return {
        text(name, "output_weights: a name"): number(weight, f'output_weights["{name}"]')
        for name, weight in (weights or {}).items()
    }


def exclusions_to_proto(item_ids: Collection[str], *, seen: bool) -> types_pb2.Exclusions:
    """Return the message of what must not be in an answer."""
    return types_pb2.Exclusions(
        item_ids=texts(item_ids, "exclusions.item_ids"), seen=flag(seen, "exclusions.seen")
    )


def recommendations_from_proto(
    response: recommendation_pb2.RecommendResponse,
) -> results.Recommendations:
    """Return the answer of Recommend."""
    return results.Recommendations(
        items=tuple(map(_item_from_proto, response.items)), info=_info_from_proto(response.info)
    )


def candidates_from_proto(response: recommendation_pb2.RetrieveResponse) -> results.Candidates:
    """Return the answer of Retrieve."""
    return results.Candidates(
        items=tuple(map(_item_from_proto, response.items)), info=_info_from_proto(response.info)
    )


def ranking_from_proto(response: recommendation_pb2.RankResponse) -> results.Ranking:
    """Return the answer of Rank."""
    return results.Ranking(
        items=tuple(map(_item_from_proto, response.items)),
        unknown_item_ids=tuple(response.unknown_item_ids),
        info=_info_from_proto(response.info),
    )


def similar_items_from_proto(
    response: recommendation_pb2.FindSimilarItemsResponse,
) -> results.SimilarItems:
    """Return the answer of FindSimilarItems."""
    return results.SimilarItems(
        items=tuple(map(_item_from_proto, response.items)), info=_info_from_proto(response.info)
    )


def bundle_from_proto(response: bundle_pb2.GetActiveBundleResponse) -> results.BundleInfo:
    """Return the answer of GetActiveBundle."""
    bundle = response.bundle
    return results.BundleInfo(
        id=_bundle_id_from_proto(bundle.id),
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


def _item_from_proto(item: types_pb2.ScoredItem) -> results.ScoredItem:
    return results.ScoredItem(
        id=item.id,
        score=item.score,
        retrieval_score=item.retrieval_score if item.HasField("retrieval_score") else None,
        ranking_score=item.ranking_score if item.HasField("ranking_score") else None,
        outputs=_sorted(item.outputs),
        source=item.source,
        source_position=item.source_position,
        attributes=_attributes_from_proto(item.attributes),
    )


def _attributes_from_proto(
    attributes: Mapping[str, types_pb2.Value],
) -> dict[str, AttributeValue]:
    values = {name: value_from_proto(value) for name, value in attributes.items()}
    return _sorted({name: value for name, value in values.items() if value is not None})


def _info_from_proto(info: types_pb2.AnswerInfo) -> results.AnswerInfo:
    shortfall = None
    if info.shortfall_reason != types_pb2.SHORTFALL_REASON_UNSPECIFIED:
        shortfall = _SHORTFALL_REASONS.get(
            info.shortfall_reason, results.ShortfallReason.UNRECOGNIZED
        )
    return results.AnswerInfo(
        request_id=info.request_id,
        bundle=_bundle_id_from_proto(info.bundle),
        stages=tuple(map(_stage_from_proto, info.stages)),
        cold_start=info.cold_start,
        warnings=tuple(map(_warning_from_proto, info.warnings)),
        shortfall_reason=shortfall,
    )


def _bundle_id_from_proto(bundle: types_pb2.BundleId) -> results.BundleId:
    return results.BundleId(name=bundle.name, version=bundle.version, sha256=bundle.sha256)


def _stage_from_proto(stage: types_pb2.StageReport) -> results.StageReport:
    return results.StageReport(
        name=stage.name,
        duration_ms=stage.duration.seconds * 1e3 + stage.duration.nanos / 1e6,
        items_in=stage.items_in,
        items_out=stage.items_out,
        outcome=_STAGE_OUTCOMES.get(stage.outcome, results.StageOutcome.UNRECOGNIZED),
        plan=stage.plan,
    )


def _warning_from_proto(warning: types_pb2.Warning) -> results.RequestWarning:
    return results.RequestWarning(
        reason=_WARNING_REASONS.get(warning.reason, results.WarningReason.UNRECOGNIZED),
        field=warning.field,
        subjects=tuple(warning.subjects),
        subject_count=warning.subject_count,
        message=warning.message,
    )


def _field_from_proto(field: bundle_pb2.FieldInfo) -> results.FieldInfo:
    return results.FieldInfo(
        name=field.name,
        type=_VALUE_TYPES.get(field.type, results.ValueType.UNRECOGNIZED),
    )


def _sorted(values: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """Return a map by name: on the wire it has no order, and equal answers should print equally."""
    return dict(sorted(values.items()))


def _by_number(
    kind: type[EnumT], values: Iterable[tuple[str, int]], prefix: str
) -> dict[int, EnumT]:
    """Return the members of a Python enum by the numbers of their namesakes in the proto enum."""
    names = {number: name.removeprefix(prefix) for name, number in values}
    return {number: kind(name) for number, name in names.items() if name in kind.__members__}


_SHORTFALL_REASONS = _by_number(
    results.ShortfallReason, types_pb2.ShortfallReason.items(), "SHORTFALL_REASON_"
)
_STAGE_OUTCOMES = _by_number(results.StageOutcome, types_pb2.StageOutcome.items(), "STAGE_OUTCOME_")
_VALUE_TYPES = _by_number(results.ValueType, types_pb2.ValueType.items(), "VALUE_TYPE_")
_WARNING_REASONS = _by_number(
    results.WarningReason, types_pb2.WarningReason.items(), "WARNING_REASON_"
)
