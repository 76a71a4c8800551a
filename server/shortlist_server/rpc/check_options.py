"""Filters, sources and selection as callers send them: is every field in its range?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shortlist.v1 import types_pb2

from shortlist_server.errors import FieldRequired, InvalidValue, OutOfRange
from shortlist_server.rpc.check_values import (
    CANDIDATES_MAX,
    LIMIT_MAX,
    count_at_most,
    finite,
    ids,
    in_range,
    one_id,
    text_at_most,
)

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from shortlist.v1 import recommendation_pb2

FILTER_DEPTH_MAX = 16
FILTER_PARTS_MAX = 1_024
FILTER_VALUES_MAX = 10_000
SOURCES_MAX = 16
SOURCE_NAME_BYTES_MAX = 64
EVENTS_MAX = 1_000
CAPS_MAX = 16
PINS_MAX = 100
TEMPERATURE_MIN, TEMPERATURE_MAX = 1e-6, 1e6
RERANKED_MIN, RERANKED_MAX = 2, 100
PASSES_MAX = 2
RATED_MAX = 50
DURATION_S_MAX = 315_576_000_000
"""The most that a google.protobuf.Duration may say, by its definition: 10,000 years."""

ONE_KIND = "one of all_of, any_of, none_of, equals, is_in, range, contains, exists"


def filter_(field: str, message: types_pb2.Filter) -> None:
    """Check a filter.

    Raises:
        RequestError: a part of it is not set or out of its range; the error names it.
    """
    parts = _filter(field, message, 1)
    if parts > FILTER_PARTS_MAX:
        raise OutOfRange(
            field, expected=f"at most {FILTER_PARTS_MAX} conditions and lists", got=str(parts)
        )


def _filter(field: str, message: types_pb2.Filter, depth: int) -> int:
    """Check a filter; returns of how many conditions and lists it is made."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise FieldRequired(field, expected=ONE_KIND, got="none")
    if depth > FILTER_DEPTH_MAX:
        raise OutOfRange(
            field, expected=f"at most {FILTER_DEPTH_MAX} levels", got=f"{depth} or more"
        )
    body: Any = getattr(message, kind)
    where = f"{field}.{kind}"
    if kind in ("all_of", "any_of", "none_of"):
        if not body.filters:
            raise FieldRequired(f"{where}.filters", expected="1 or more filters", got="none")
        count_at_most(f"{where}.filters", len(body.filters), FILTER_PARTS_MAX)
        return 1 + sum(
            _filter(f"{where}.filters[{position}]", part, depth + 1)
            for position, part in enumerate(body.filters)
        )
    if not body.attribute:
        raise FieldRequired(f"{where}.attribute", expected="the name of an attribute", got="none")
    if kind in ("equals", "contains"):
        _scalar(f"{where}.value", body.value)
    elif kind == "is_in":
        _values(f"{where}.values", body.values)
    elif kind == "range":
        _bounds(where, body)
    return 1


def _bounds(where: str, message: types_pb2.RangeCondition) -> None:
    names = ("at_least", "above", "at_most", "below")
    given = [name for name in names if message.HasField(name)]  # type: ignore[arg-type]
    if not given:
        raise FieldRequired(where, expected="one or two of " + ", ".join(names), got="none")
    for first, second in (("at_least", "above"), ("at_most", "below")):
        if first in given and second in given:
            raise InvalidValue(where, expected=f"{first} or {second}", got="both")
    for name in given:
        _scalar(f"{where}.{name}", getattr(message, name))


def _scalar(field: str, value: types_pb2.Value) -> None:
    kind = value.WhichOneof("kind")
    if kind is None or kind.endswith("_list"):
        got = "none" if kind is None else kind
        raise InvalidValue(field, expected="one string, int64, double or bool", got=got)
    if kind == "double_value":
        finite(field, value.double_value)


def _values(field: str, value: types_pb2.Value) -> None:
    kind = value.WhichOneof("kind")
    if kind is None or not kind.endswith("_list"):
        raise InvalidValue(field, expected="a list of values", got=kind or "none")
    values: Sequence[Any] = getattr(value, kind).values
    if not values:
        raise FieldRequired(field, expected="1 or more values", got="none")
    count_at_most(field, len(values), FILTER_VALUES_MAX)
    if kind == "double_list":
        for position, number in enumerate(values):
            finite(f"{field}[{position}]", number)


def sources(messages: Sequence[types_pb2.SourceOptions], count_default: int) -> None:
    """Check a list of sources; raises like `filter_`.

    Args:
        messages: The sources.
        count_default: Number of candidates of a source that says nothing else.
    """
    count_at_most("sources", len(messages), SOURCES_MAX)
    names: set[str] = set()
    for position, source in enumerate(messages):
        where = f"sources[{position}]"
        text_at_most(f"{where}.name", source.name, SOURCE_NAME_BYTES_MAX)
        in_range(
            f"{where}.candidate_count",
            source.candidate_count,
            CANDIDATES_MAX,
            default="retrieval.candidate_count",
        )
        kind = source.WhichOneof("kind")
        if kind is None and not source.name:
            raise FieldRequired(
                where, expected="a name that the bundle configures, or a kind", got="neither"
            )
        name = source.name or str(kind)
        if name in names:
            raise InvalidValue(
                f"{where}.name", expected="a name for each source", got=f"{name} twice"
            )
        names.add(name)
        _source(where, source, kind)
    total = sum(source.candidate_count or count_default for source in messages)
    if total > CANDIDATES_MAX:
        raise OutOfRange(
            "sources",
            expected=f"at most {CANDIDATES_MAX} candidates of all sources together",
            got=str(total),
        )


def _source(where: str, source: types_pb2.SourceOptions, kind: str | None) -> None:
    if kind == "recent_history":
        in_range(
            f"{where}.recent_history.event_count",
            source.recent_history.event_count,
            EVENTS_MAX,
            default="10",
        )
    elif kind == "popularity":
        _popularity(f"{where}.popularity", source.popularity)
    elif kind == "caller":
        field = f"{where}.caller.item_ids"
        if not source.caller.item_ids:
            raise FieldRequired(field, expected=f"1..{CANDIDATES_MAX} ids", got="none")
        count_at_most(field, len(source.caller.item_ids), CANDIDATES_MAX)
        ids(field, source.caller.item_ids)


def _popularity(where: str, message: types_pb2.PopularitySource) -> None:
    has_value, has_feature = message.HasField("value"), bool(message.feature)
    if not message.attribute:
        if has_value or has_feature:
            raise FieldRequired(
                f"{where}.attribute", expected="the attribute that has the value", got="none"
            )
        return
    if has_value == has_feature:
        raise InvalidValue(
            where,
            expected="one of value and feature beside attribute",
            got="both" if has_value else "neither",
        )
    if has_value:
        _scalar(f"{where}.value", message.value)


def selection(message: types_pb2.SelectionOptions, limit: int) -> None:
    """Check how the list is to be made; raises like `filter_`."""
    if message.HasField("score_min"):
        finite("selection.score_min", message.score_min)
    if not 0 <= message.diversity <= 1:  # NaN compares as false, too
        raise OutOfRange("selection.diversity", expected="0..1", got=f"{message.diversity:g}")
    count_at_most("selection.caps", len(message.caps), CAPS_MAX)
    for position, cap in enumerate(message.caps):
        where = f"selection.caps[{position}]"
        if not cap.attribute:
            raise FieldRequired(
                f"{where}.attribute", expected="the name of an attribute", got="none"
            )
        if not 1 <= cap.item_count_max <= LIMIT_MAX:
            raise OutOfRange(
                f"{where}.item_count_max", expected=f"1..{LIMIT_MAX}", got=str(cap.item_count_max)
            )
    _pins(message.pinned_items, limit)
    if message.HasField("exploration"):
        temperature = message.exploration.temperature
        if temperature and not TEMPERATURE_MIN <= temperature <= TEMPERATURE_MAX:
            raise OutOfRange(
                "selection.exploration.temperature",
                expected=f"{TEMPERATURE_MIN:g}..{TEMPERATURE_MAX:g}, or 0 for none",
                got=f"{temperature:g}",
            )


def _pins(pins: Sequence[types_pb2.PinnedItem], limit: int) -> None:
    count_at_most("selection.pinned_items", len(pins), PINS_MAX)
    if len(pins) > limit:
        raise OutOfRange(
            "selection.pinned_items",
            expected=f"at most limit, which is {limit}",
            got=f"{len(pins)} entries",
        )
    names: set[str] = set()
    positions: set[int] = set()
    for number, pin in enumerate(pins):
        where = f"selection.pinned_items[{number}]"
        one_id(f"{where}.item_id", pin.item_id)
        if pin.item_id in names:
            raise InvalidValue(f"{where}.item_id", expected="no item twice", got=pin.item_id)
        names.add(pin.item_id)
        if not pin.HasField("position"):
            continue
        if not 0 <= pin.position < limit:
            raise OutOfRange(
                f"{where}.position", expected=f"0..{limit - 1}, below limit", got=str(pin.position)
            )
        if pin.position in positions:
            raise InvalidValue(
                f"{where}.position", expected="no position twice", got=str(pin.position)
            )
        positions.add(pin.position)


def rerank(message: types_pb2.RerankOptions) -> None:
    """Check what a language model is to do; raises like `filter_`."""
    count = message.candidate_count
    if count and not RERANKED_MIN <= count <= RERANKED_MAX:
        raise OutOfRange(
            "rerank.candidate_count",
            expected=f"{RERANKED_MIN}..{RERANKED_MAX}, or unset for 20",
            got=str(count),
        )
    in_range("rerank.passes", message.passes, PASSES_MAX, default="1")
    if message.HasField("timeout"):
        _timeout("rerank.timeout", message.timeout)


def ranker(request: recommendation_pb2.RankRequest) -> None:
    """Check whose word items are to be scored by; raises like `filter_`."""
    if request.ranker not in types_pb2.Ranker.values():
        raise InvalidValue("ranker", expected="a value of Ranker", got=str(int(request.ranker)))
    asks = request.ranker in (types_pb2.RANKER_LLM, types_pb2.RANKER_BLEND)
    if asks and len(request.item_ids) > RATED_MAX:
        raise OutOfRange(
            "item_ids",
            expected=f"1..{RATED_MAX} ids where ranker asks a language model",
            got=f"{len(request.item_ids)} ids",
        )
    if request.HasField("llm_timeout"):
        if not asks:
            raise InvalidValue(
                "llm_timeout",
                expected="none where ranker asks no language model",
                got="a Duration",
            )
        _timeout("llm_timeout", request.llm_timeout)


def _timeout(field: str, timeout: Duration) -> None:
    seconds, nanos = timeout.seconds, timeout.nanos
    if not 0 < seconds * 10**9 + nanos <= DURATION_S_MAX * 10**9:
        got = f"{seconds + nanos / 1e9:g} s"
        raise OutOfRange(field, expected=f"more than 0, at most {DURATION_S_MAX} s", got=got)
    if not 0 <= nanos < 10**9:
        raise InvalidValue(f"{field}.nanos", expected="0..999999999", got=str(nanos))
