"""The funnel's values to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray
from shortlist.v1 import bundle_pb2, types_pb2
from shortlist.v1.types_pb2 import ScoredItem

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.funnel.resolve import SHOWN_MAX
from shortlist_server.funnel.types import (
    Answer,
    ColdStartBasis,
    DegradedReason,
    Outcome,
    RequestWarning,
    Shortfall,
    StageReport,
    WarningReason,
)

OUTCOMES = {
    Outcome.OK: types_pb2.STAGE_OUTCOME_OK,
    Outcome.SKIPPED: types_pb2.STAGE_OUTCOME_SKIPPED,
    Outcome.OUT_OF_TIME: types_pb2.STAGE_OUTCOME_OUT_OF_TIME,
    Outcome.FAILED: types_pb2.STAGE_OUTCOME_FAILED,
}
DEGRADED = {
    DegradedReason.OUT_OF_TIME: types_pb2.DEGRADED_REASON_OUT_OF_TIME,
    DegradedReason.FAILED: types_pb2.DEGRADED_REASON_FAILED,
    DegradedReason.LLM_TIMEOUT: types_pb2.DEGRADED_REASON_LLM_TIMEOUT,
    DegradedReason.LLM_INVALID_OUTPUT: types_pb2.DEGRADED_REASON_LLM_INVALID_OUTPUT,
    DegradedReason.LLM_UNAVAILABLE: types_pb2.DEGRADED_REASON_LLM_UNAVAILABLE,
    DegradedReason.LLM_BREAKER_OPEN: types_pb2.DEGRADED_REASON_LLM_BREAKER_OPEN,
    DegradedReason.LLM_BUDGET_EXCEEDED: types_pb2.DEGRADED_REASON_LLM_BUDGET_EXCEEDED,
    DegradedReason.LLM_BLOCKED: types_pb2.DEGRADED_REASON_LLM_BLOCKED,
    DegradedReason.LLM_SWITCHED_OFF: types_pb2.DEGRADED_REASON_LLM_SWITCHED_OFF,
    DegradedReason.LLM_NOT_ALLOWED: types_pb2.DEGRADED_REASON_LLM_NOT_ALLOWED,
}
COLD_STARTS = {
    None: types_pb2.COLD_START_BASIS_UNSPECIFIED,
    ColdStartBasis.FEATURES: types_pb2.COLD_START_BASIS_FEATURES,
    ColdStartBasis.HISTORY: types_pb2.COLD_START_BASIS_HISTORY,
    ColdStartBasis.NOTHING: types_pb2.COLD_START_BASIS_NOTHING,
}
SHORTFALLS = {
    None: types_pb2.SHORTFALL_REASON_UNSPECIFIED,
    Shortfall.CATALOG_EXHAUSTED: types_pb2.SHORTFALL_REASON_CATALOG_EXHAUSTED,
    Shortfall.POPULARITY_EXHAUSTED: types_pb2.SHORTFALL_REASON_POPULARITY_EXHAUSTED,
    Shortfall.FILTER_EXHAUSTED: types_pb2.SHORTFALL_REASON_FILTER_EXHAUSTED,
    Shortfall.SOURCES_EXHAUSTED: types_pb2.SHORTFALL_REASON_SOURCES_EXHAUSTED,
    Shortfall.SCORE_MIN: types_pb2.SHORTFALL_REASON_SCORE_MIN,
    Shortfall.CAPS: types_pb2.SHORTFALL_REASON_CAPS,
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
    WarningReason.PINNED_ITEM_LEFT_OUT: (
        types_pb2.WARNING_REASON_PINNED_ITEM_LEFT_OUT,
        "a filter, an exclusion or a cap leaves this item out; it was not pinned",
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


def add_items(
    answer: Answer, catalog: ItemTable, messages: RepeatedCompositeFieldContainer[ScoredItem]
) -> None:
    """Write the items of an answer, with the attributes that were asked for, into a response.

    Into the response itself: a message that is built elsewhere is copied when it is put in.
    """
    items = answer.items
    scores = items.scores.tolist()
    candidates, ranked = items.candidate_positions.tolist(), items.ranking_positions.tolist()
    retrieval = None if items.retrieval_scores is None else items.retrieval_scores.tolist()
    ranking = None if items.ranking_scores is None else items.ranking_scores.tolist()
    explored = None if items.exploration_positions is None else items.exploration_positions.tolist()
    reranked = None if items.rerank_positions is None else items.rerank_positions.tolist()
    reasons = {} if answer.reranked is None else answer.reranked.reasons
    ratings = {} if answer.rated is None else answer.rated.ratings
    diverse = None if items.diversity_positions is None else items.diversity_positions.tolist()
    outputs = {name: values.tolist() for name, values in items.outputs.items()}
    for place, row in enumerate(items.rows.tolist()):
        item = messages.add()
        item.id = catalog.item_id(row)
        item.score = scores[place]
        (item.source, item.source_position), *others = items.sources[place]
        for source, position in others:
            item.other_sources.add(source=source, position=position)
        item.candidate_position = candidates[place]
        item.ranking_position = ranked[place]
        if explored is not None:
            item.exploration_position = explored[place]
        if reranked is not None and reranked[place] >= 0:
            item.rerank_position = reranked[place]
            item.rerank_reason = reasons.get(row, "")
        if (rating := ratings.get(row)) is not None:
            item.llm_rating = rating.value
            item.llm_rating_clamped = rating.clamped
        if diverse is not None and diverse[place] >= 0:
            item.diversity_position = diverse[place]
        if retrieval is not None:
            item.retrieval_score = retrieval[place]
        if ranking is not None:
            item.ranking_score = ranking[place]
        for name, values in outputs.items():
            item.outputs[name] = values[place]
        for name in answer.attributes:
            if (cell := catalog.attribute(name, row)) is not None:
                set_value(item.attributes[name], cell)
    if answer.explanation is not None:
        for name, tensor in answer.explanation.items.items():
            for item, fed in zip(messages, tensor, strict=True):
                set_tensor(item.model_inputs[name], fed)


def set_tensor(message: types_pb2.Value, tensor: NDArray[Any]) -> None:
    """Write the numbers of a tensor, in row-major order."""
    flat = np.asarray(tensor).reshape(-1)
    if flat.dtype == np.bool_:
        message.bool_list.values.extend(flat.tolist())
    elif np.issubdtype(flat.dtype, np.integer):
        message.int64_list.values.extend(flat.tolist())
    else:
        message.double_list.values.extend(flat.tolist())


def set_value(message: types_pb2.Value, cell: Any) -> None:
    """Write what one row of a column holds, or a feature."""
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
    message.cold_start = answer.cold_start is not None
    message.cold_start_basis = COLD_STARTS[answer.cold_start]
    message.shortfall_reason = SHORTFALLS[answer.shortfall]
    if answer.seed is not None:
        message.seed = answer.seed
    if (selection := answer.query.allowed.selection) is not None:
        message.match_count = selection.count
    for report in (*answer.stages, last):
        stage = message.stages.add(
            name=report.name,
            items_in=report.items_in,
            items_out=report.items_out,
            outcome=OUTCOMES[report.outcome],
            plan=report.plan,
        )
        stage.duration.seconds, stage.duration.nanos = divmod(report.duration_ns, 10**9)
    for source in answer.sources:
        entry = message.sources.add(
            name=source.name,
            kind=source.kind,
            outcome=OUTCOMES[source.outcome],
            item_count=source.item_count,
            plan=source.plan,
        )
        entry.duration.seconds, entry.duration.nanos = divmod(source.duration_ns, 10**9)
    for degradation in answer.degraded:
        message.degraded.add(
            stage=degradation.stage,
            source=degradation.source,
            reason=DEGRADED[degradation.reason],
            message=degradation.message,
        )
    message.warnings.extend(_warning(warning) for warning in answer.warnings)
    if answer.explanation is not None:
        _fill_inputs(answer.explanation.requests, message)


def _fill_inputs(
    requests: Mapping[str, Mapping[str, NDArray[Any]]], message: types_pb2.AnswerInfo
) -> None:
    for model, tensors in requests.items():
        entry = message.model_inputs.add(model=model)
        for name, tensor in tensors.items():
            set_tensor(entry.inputs[name], tensor)


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
    manifest: Manifest, catalog: ItemTable, identity: types_pb2.BundleId
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
