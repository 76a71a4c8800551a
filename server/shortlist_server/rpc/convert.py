"""Messages to the funnel's values and back. Nothing is checked here: `check.py` has been before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import bundle_pb2, recommendation_pb2, types_pb2
from shortlist.v1.types_pb2 import ScoredItem

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.funnel.resolve import SHOWN_MAX
from shortlist_server.funnel.types import (
    Answer,
    Event,
    Examples,
    FeatureValue,
    Options,
    Outcome,
    Query,
    RequestWarning,
    Shortfall,
    StageReport,
    User,
    Vector,
    WarningReason,
)

LIMIT_DEFAULT = 20
CANDIDATES_DEFAULT = 200

OUTCOMES = {
    Outcome.OK: types_pb2.STAGE_OUTCOME_OK,
    Outcome.SKIPPED: types_pb2.STAGE_OUTCOME_SKIPPED,
}
SHORTFALLS = {
    None: types_pb2.SHORTFALL_REASON_UNSPECIFIED,
    Shortfall.CATALOG_EXHAUSTED: types_pb2.SHORTFALL_REASON_CATALOG_EXHAUSTED,
    Shortfall.POPULARITY_EXHAUSTED: types_pb2.SHORTFALL_REASON_POPULARITY_EXHAUSTED,
}
WARNINGS = {
    WarningReason.UNKNOWN_FEATURE: (
        types_pb2.WARNING_REASON_UNKNOWN_FEATURE,
        "the bundle declares no such feature; it had no effect",
    ),
    WarningReason.UNKNOWN_ITEM: (
        types_pb2.WARNING_REASON_UNKNOWN_ITEM,
        "the bundle has no such item; it had no effect",
    ),
    WarningReason.UNKNOWN_ATTRIBUTE: (
        types_pb2.WARNING_REASON_UNKNOWN_ATTRIBUTE,
        "the bundle has no such item attribute; it is in no item of the answer",
    ),
}
VALUE_TYPES = {
    "string": types_pb2.VALUE_TYPE_STRING,
    "int64": types_pb2.VALUE_TYPE_INT64,
    "double": types_pb2.VALUE_TYPE_DOUBLE,
    "bool": types_pb2.VALUE_TYPE_BOOL,
    "string_list": types_pb2.VALUE_TYPE_STRING_LIST,
    "int64_list": types_pb2.VALUE_TYPE_INT64_LIST,
    "double_list": types_pb2.VALUE_TYPE_DOUBLE_LIST,
    "bool_list": types_pb2.VALUE_TYPE_BOOL_LIST,
}


# From messages.


def recommend_options(request: recommendation_pb2.RecommendRequest) -> Options:
    """Return what a RecommendRequest chooses."""
    limit = request.limit or LIMIT_DEFAULT
    return Options(
        limit=limit,
        candidate_count=request.retrieval.candidate_count or max(CANDIDATES_DEFAULT, limit),
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=request.exclusions.item_ids,
        exclude_seen=_exclude_seen(request.exclusions),
        attributes=tuple(request.attributes),
        output_weights=dict(request.output_weights),
        strict=request.strict,
    )


def retrieve_options(request: recommendation_pb2.RetrieveRequest) -> Options:
    """Return what a RetrieveRequest chooses."""
    count = request.retrieval.candidate_count or CANDIDATES_DEFAULT
    return Options(
        limit=count,
        candidate_count=count,
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=request.exclusions.item_ids,
        exclude_seen=_exclude_seen(request.exclusions),
        attributes=tuple(request.attributes),
        strict=request.strict,
    )


def rank_options(request: recommendation_pb2.RankRequest) -> Options:
    """Return what a RankRequest chooses."""
    return Options(
        limit=len(request.item_ids),
        excluded_item_ids=request.excluded_item_ids,
        attributes=tuple(request.attributes),
        output_weights=dict(request.output_weights),
        strict=request.strict,
    )


def similar_options(request: recommendation_pb2.FindSimilarItemsRequest) -> Options:
    """Return what a FindSimilarItemsRequest chooses."""
    limit = request.limit or LIMIT_DEFAULT
    return Options(
        limit=limit,
        candidate_count=request.retrieval.candidate_count or limit,
        ef=request.retrieval.ef or None,
        exact=request.retrieval.exact,
        excluded_item_ids=request.excluded_item_ids,
        attributes=tuple(request.attributes),
        strict=request.strict,
    )


def query(message: types_pb2.Query) -> Query:
    """Return a Query in the funnel's terms."""
    context = _features(message.context)
    kind = message.WhichOneof("kind")
    if kind == "user":
        return Query(subject=_user(message.user), context=context)
    if kind == "items":
        return Query(subject=Examples(item_ids=tuple(message.items.item_ids)), context=context)
    return Query(
        subject=Vector(values=np.array(message.embedding.values, np.float32)), context=context
    )


def similar_query(request: recommendation_pb2.FindSimilarItemsRequest) -> Query:
    """Return the query that asks for items like one item."""
    return Query(subject=Examples(item_ids=(request.item_id,), field="item_id"))


def _exclude_seen(exclusions: types_pb2.Exclusions) -> bool:
    return exclusions.seen if exclusions.HasField("seen") else True


def _user(user: types_pb2.UserQuery) -> User:
    return User(
        id=user.id,
        features=_features(user.features),
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


def _features(features: Mapping[str, types_pb2.Value]) -> dict[str, FeatureValue]:
    return {name: _value(value) for name, value in features.items()}


def _value(value: types_pb2.Value) -> FeatureValue:
    kind = value.WhichOneof("kind")
    assert kind is not None
    held: Any = getattr(value, kind)
    return list(held.values) if kind.endswith("_list") else held


# To messages.


def add_items(
    answer: Answer, catalog: BundleCatalog, messages: RepeatedCompositeFieldContainer[ScoredItem]
) -> None:
    """Write the items of an answer, with the attributes that were asked for, into a response.

    Into the response itself: a message that is built elsewhere is copied when it is put in.
    """
    items = answer.items
    scores = items.scores.tolist()
    positions = items.source_positions.tolist()
    retrieval = None if items.retrieval_scores is None else items.retrieval_scores.tolist()
    ranking = None if items.ranking_scores is None else items.ranking_scores.tolist()
    outputs = {name: values.tolist() for name, values in items.outputs.items()}
    for place, row in enumerate(items.rows.tolist()):
        item = messages.add()
        item.id = catalog.item_id(row)
        item.score = scores[place]
        item.source = answer.source
        item.source_position = positions[place]
        if retrieval is not None:
            item.retrieval_score = retrieval[place]
        if ranking is not None:
            item.ranking_score = ranking[place]
        for name, values in outputs.items():
            item.outputs[name] = values[place]
        for name in answer.attributes:
            if (cell := catalog.attribute(name, row)) is not None:
                _set_value(item.attributes[name], cell)


def _set_value(message: types_pb2.Value, cell: Any) -> None:
    # bool before int, of which it is a subclass
    if isinstance(cell, str):
        message.string_value = cell
    elif isinstance(cell, bool):
        message.bool_value = cell
    elif isinstance(cell, int):
        message.int64_value = cell
    elif isinstance(cell, float):
        message.double_value = cell
    elif not cell or isinstance(cell[0], str):
        message.string_list.SetInParent()
        message.string_list.values.extend(cell)
    elif isinstance(cell[0], bool):
        message.bool_list.values.extend(cell)
    elif isinstance(cell[0], int):
        message.int64_list.values.extend(cell)
    else:
        message.double_list.values.extend(cell)


def fill_info(
    answer: Answer,
    last: StageReport,
    identity: types_pb2.BundleId,
    request_id: str,
    message: types_pb2.AnswerInfo,
) -> None:
    """Write what identifies and explains an answer into a response.

    Args:
        answer: The answer.
        last: The stage after the funnel's own: writing the items.
        identity: The bundle.
        request_id: The request.
        message: Where to write.
    """
    message.request_id = request_id
    message.bundle.CopyFrom(identity)
    message.cold_start = answer.cold_start
    message.shortfall_reason = SHORTFALLS[answer.shortfall]
    for report in (*answer.stages, last):
        stage = message.stages.add(
            name=report.name,
            items_in=report.items_in,
            items_out=report.items_out,
            outcome=OUTCOMES[report.outcome],
            plan=report.plan,
        )
        stage.duration.seconds, stage.duration.nanos = divmod(report.duration_ns, 10**9)
    message.warnings.extend(_warning(warning) for warning in answer.warnings)


def _warning(warning: RequestWarning) -> types_pb2.Warning:
    reason, message = WARNINGS[warning.reason]
    return types_pb2.Warning(
        reason=reason,
        field=warning.field,
        subjects=warning.subjects[:SHOWN_MAX],
        subject_count=len(warning.subjects),
        message=message,
    )


# The bundle.


def bundle_id(manifest: Manifest, sha256: str) -> types_pb2.BundleId:
    """Return the identity of a bundle."""
    return types_pb2.BundleId(name=manifest.name, version=manifest.version, sha256=sha256)


def bundle_info(
    manifest: Manifest, catalog: BundleCatalog, identity: types_pb2.BundleId
) -> bundle_pb2.BundleInfo:
    """Return the description of a bundle."""
    created = Timestamp()
    created.FromDatetime(manifest.created)
    ranker = manifest.ranker
    return bundle_pb2.BundleInfo(
        id=identity,
        create_time=created,
        data_name=manifest.data.name,
        data_simulated=manifest.data.simulated,
        item_count=catalog.size,
        user_count=catalog.user_count,
        dimension=manifest.dimension,
        metric=manifest.metric,
        item_attributes=_fields((column.name, column.type) for column in manifest.items.columns),
        features=_fields(catalog.feature_types.items()),
        ranker_outputs=[] if ranker is None else [output.name for output in ranker.model.outputs],
        framework_versions=manifest.framework_versions,
    )


def _fields(fields: Any) -> Sequence[bundle_pb2.FieldInfo]:
    return [bundle_pb2.FieldInfo(name=name, type=VALUE_TYPES[kind]) for name, kind in fields]
