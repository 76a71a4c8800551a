"""Messages of the service from queries and options."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from shortlist.v1 import types_pb2

from shortlist_client.errors import InvalidValue, OutOfRange
from shortlist_client.filters import (
    AllOf,
    AnyOf,
    Contains,
    Equals,
    Exists,
    Filter,
    IsIn,
    NoneOf,
    Range,
)
from shortlist_client.options import (
    CallerItems,
    Cap,
    Configured,
    Nearest,
    PinnedItem,
    Popularity,
    RecentHistory,
    Rerank,
    Source,
    Text,
)
from shortlist_client.queries import Embedding, Event, FeatureValue, Items, Query, User
from shortlist_client.values import (
    count,
    duration_to_proto,
    flag,
    int64,
    invalid,
    number,
    optional_flag,
    optional_text,
    optional_texts,
    position,
    text,
    texts,
    time_to_proto,
    value_to_proto,
)

_FILTER_DEPTH_MAX = 32
"""More than the server admits, and well within the 100 levels that protobuf reads."""


def query_to_proto(
    query: Query | None,
    user: User | str | None,
    context: Mapping[str, FeatureValue] | None,
    words: str | None = None,
) -> types_pb2.Query:
    """Return the message of a query; without a kind, which the server refuses, where both are None.

    Args:
        query: Whom or what the items should suit.
        user: The same said shorter. A string is the user's id.
        context: Features of the situation.
        words: The text that is searched for.
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
    for name, value in values_to_proto(context or {}, "query.context").items():
        message.context[name].CopyFrom(value)
    message.text = optional_text(words, "query.text")
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
                number(component, f"query.embedding.values[{place}]")
                for place, component in enumerate(query.values)
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
        features=values_to_proto(user.features, "query.user.features"),
        history=[
            _event_to_proto(event, f"query.user.history[{place}]")
            for place, event in enumerate(user.history)
        ],
    )


def _event_to_proto(event: Event, field: str) -> types_pb2.HistoryEvent:
    return types_pb2.HistoryEvent(
        item_id=text(event.item_id, f"{field}.item_id"),
        time=None if event.time is None else time_to_proto(event.time, f"{field}.time"),
        rating=None if event.rating is None else number(event.rating, f"{field}.rating"),
        action=text(event.action, f"{field}.action"),
    )


def values_to_proto(features: Mapping[str, FeatureValue], field: str) -> dict[str, types_pb2.Value]:
    """Return the Values of features or attributes by name; raises as `value_to_proto` does."""
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


def retrieval_to_proto(
    candidate_count: int | None, ef: int | None, exact: bool | None
) -> types_pb2.RetrievalOptions:
    """Return the message of how candidates are retrieved."""
    return types_pb2.RetrievalOptions(
        candidate_count=count(candidate_count, "retrieval.candidate_count"),
        ef=count(ef, "retrieval.ef"),
        exact=optional_flag(exact, "retrieval.exact"),
    )


def exclusions_to_proto(
    item_ids: Collection[str] | None, *, seen: bool | None, filter_: Filter | None
) -> types_pb2.Exclusions:
    """Return the message of what must not be in an answer."""
    return types_pb2.Exclusions(
        item_ids=optional_texts(item_ids, "exclusions.item_ids"),
        seen=None if seen is None else flag(seen, "exclusions.seen"),
        filter=filter_to_proto(filter_, "exclusions.filter"),
    )


def filter_to_proto(
    filter_: Filter | None, field: str, *, depth: int = 1
) -> types_pb2.Filter | None:
    """Return the message of a filter, None for none.

    Args:
        filter_: The filter.
        field: Where it stands in the request, for errors.
        depth: How many levels down it stands, 1 for the top.

    Raises:
        InvalidValue: It is no Filter, or a value in it is none.
        OutOfRange: It is deeper than can be read again.
    """
    if depth > _FILTER_DEPTH_MAX:
        raise OutOfRange.about(
            field,
            reason="OUT_OF_RANGE",
            expected=f"at most {_FILTER_DEPTH_MAX} levels",
            got="more",
        )
    match filter_:
        case None:
            return None
        case AllOf(filters):
            parts = _filters_to_proto(filters, f"{field}.all_of", depth)
            return types_pb2.Filter(all_of=parts)
        case AnyOf(filters):
            parts = _filters_to_proto(filters, f"{field}.any_of", depth)
            return types_pb2.Filter(any_of=parts)
        case NoneOf(filters):
            parts = _filters_to_proto(filters, f"{field}.none_of", depth)
            return types_pb2.Filter(none_of=parts)
        case Filter():
            return _condition_to_proto(filter_, field)
    raise invalid(field, 'a filter, such as attribute("year").at_least(1990)', filter_)


def _filters_to_proto(filters: Sequence[Filter], field: str, depth: int) -> types_pb2.FilterList:
    messages = types_pb2.FilterList()
    for place, part in enumerate(filters):
        message = filter_to_proto(part, f"{field}.filters[{place}]", depth=depth + 1)
        if message is None:
            raise invalid(f"{field}.filters[{place}]", "a filter", part)
        messages.filters.append(message)
    return messages


def _condition_to_proto(condition: Filter, field: str) -> types_pb2.Filter:
    match condition:
        case Equals(attribute, value):
            equals = types_pb2.EqualsCondition(
                attribute=text(attribute, f"{field}.equals.attribute"),
                value=value_to_proto(value, f"{field}.equals.value"),
            )
            return types_pb2.Filter(equals=equals)
        case IsIn(attribute, values):
            if not isinstance(values, tuple):
                raise invalid(f"{field}.is_in.values", "a list of values", values)
            is_in = types_pb2.InCondition(
                attribute=text(attribute, f"{field}.is_in.attribute"),
                values=value_to_proto(values, f"{field}.is_in.values"),
            )
            return types_pb2.Filter(is_in=is_in)
        case Range(attribute, bounds):
            range_ = types_pb2.RangeCondition(attribute=text(attribute, f"{field}.range.attribute"))
            for name, value in bounds:
                sent = value_to_proto(value, f"{field}.range.{name}")
                getattr(range_, name).CopyFrom(sent)
            return types_pb2.Filter(range=range_)
        case Contains(attribute, value):
            contains = types_pb2.ContainsCondition(
                attribute=text(attribute, f"{field}.contains.attribute"),
                value=value_to_proto(value, f"{field}.contains.value"),
            )
            return types_pb2.Filter(contains=contains)
        case Exists(attribute):
            exists = types_pb2.ExistsCondition(
                attribute=text(attribute, f"{field}.exists.attribute")
            )
            return types_pb2.Filter(exists=exists)
    raise invalid(field, "a filter of this package", condition)


def sources_to_proto(sources: Sequence[Source | str] | None) -> list[types_pb2.SourceOptions]:
    """Return the messages of the sources of candidates; none means the bundle's own list."""
    if sources is None:
        return []
    if isinstance(sources, str | bytes) or not isinstance(sources, Sequence):
        raise invalid("sources", "a list of sources", sources)
    return [_source_to_proto(source, f"sources[{place}]") for place, source in enumerate(sources)]


def _source_to_proto(source: Source | str, field: str) -> types_pb2.SourceOptions:
    if isinstance(source, str):
        return types_pb2.SourceOptions(name=text(source, f"{field}.name"))
    if not isinstance(source, Source):
        raise invalid(field, "Nearest(), Popularity(), ... or the name of a configured one", source)
    message = types_pb2.SourceOptions(
        name=_optional_text(source.name, f"{field}.name"),
        candidate_count=count(source.candidate_count, f"{field}.candidate_count"),
    )
    match source:
        case Nearest():
            message.nearest.SetInParent()
        case RecentHistory():
            # An empty one, too, says which kind it is.
            message.recent_history.SetInParent()
            field = f"{field}.recent_history.event_count"
            message.recent_history.event_count = count(source.event_count, field)
        case Popularity():
            message.popularity.CopyFrom(_popularity_to_proto(source, f"{field}.popularity"))
        case CallerItems():
            message.caller.SetInParent()
            message.caller.item_ids.extend(texts(source.item_ids, f"{field}.caller.item_ids"))
        case Text():
            message.text.SetInParent()
        case Configured():
            pass
    return message


def _popularity_to_proto(source: Popularity, field: str) -> types_pb2.PopularitySource:
    value = source.value
    return types_pb2.PopularitySource(
        attribute=_optional_text(source.attribute, f"{field}.attribute"),
        value=None if value is None else value_to_proto(value, f"{field}.value"),
        feature=_optional_text(source.feature, f"{field}.feature"),
    )


def selection_to_proto(
    *,
    score_min: float | None,
    diversity: float | None,
    caps: Mapping[str, int] | Sequence[Cap] | None,
    pinned_items: Sequence[PinnedItem | str] | None,
    temperature: float | None,
    seed: int | None,
) -> types_pb2.SelectionOptions | None:
    """Return the message of how the list is made; None where all is left to the server."""
    selection = types_pb2.SelectionOptions(
        score_min=_optional_number(score_min, "selection.score_min"),
        diversity=_optional_number(diversity, "selection.diversity") or 0.0,
        caps=[] if caps is None else _caps_to_proto(caps),
        pinned_items=[] if pinned_items is None else _pinned_items_to_proto(pinned_items),
    )
    if temperature is not None or seed is not None:
        field = "selection.exploration"
        exploration = types_pb2.Exploration(
            temperature=_optional_number(temperature, f"{field}.temperature") or 0.0,
            seed=None if seed is None else int64(seed, f"{field}.seed"),
        )
        selection.exploration.CopyFrom(exploration)
    return selection if selection.ListFields() else None


def _caps_to_proto(caps: Mapping[str, int] | Sequence[Cap]) -> list[types_pb2.Cap]:
    field = "selection.caps"
    if isinstance(caps, Mapping):
        caps = [Cap(attribute, item_count_max) for attribute, item_count_max in caps.items()]
    if isinstance(caps, str | bytes) or not isinstance(caps, Sequence):
        raise invalid(field, "numbers of items by attribute, or a list of Cap", caps)
    messages = []
    for place, cap in enumerate(caps):
        if not isinstance(cap, Cap):
            raise invalid(f"{field}[{place}]", "a Cap", cap)
        messages.append(
            types_pb2.Cap(
                attribute=text(cap.attribute, f"{field}[{place}].attribute"),
                item_count_max=count(cap.item_count_max, f"{field}[{place}].item_count_max"),
            )
        )
    return messages


def _pinned_items_to_proto(
    pinned_items: Sequence[PinnedItem | str],
) -> list[types_pb2.PinnedItem]:
    field = "selection.pinned_items"
    # Their order counts, which that of a set does not have.
    if isinstance(pinned_items, str | bytes) or not isinstance(pinned_items, Sequence):
        raise invalid(field, "a list of ids or of PinnedItem", pinned_items)
    messages = []
    for place, pinned in enumerate(pinned_items):
        if isinstance(pinned, str):
            pinned = PinnedItem(pinned)
        if not isinstance(pinned, PinnedItem):
            raise invalid(f"{field}[{place}]", "an id or a PinnedItem", pinned)
        where = pinned.position
        messages.append(
            types_pb2.PinnedItem(
                item_id=text(pinned.item_id, f"{field}[{place}].item_id"),
                position=None if where is None else position(where, f"{field}[{place}].position"),
            )
        )
    return messages


def rerank_to_proto(rerank: Rerank | None) -> types_pb2.RerankOptions | None:
    """Return the message of what a language model is to do; None where none is asked."""
    if rerank is None:
        return None
    if not isinstance(rerank, Rerank):
        raise invalid("rerank", "a Rerank", rerank)
    seed, timeout_s = rerank.seed, rerank.timeout_s
    message = types_pb2.RerankOptions(
        candidate_count=count(rerank.candidate_count, "rerank.candidate_count"),
        subset=optional_flag(rerank.subset, "rerank.subset"),
        reasons=optional_flag(rerank.reasons, "rerank.reasons"),
        passes=count(rerank.passes, "rerank.passes"),
        seed=None if seed is None else int64(seed, "rerank.seed"),
    )
    if timeout_s is not None:
        message.timeout.CopyFrom(duration_to_proto(timeout_s, "rerank.timeout"))
    return message


def _optional_text(value: str | None, field: str) -> str:
    return "" if value is None else text(value, field)


def _optional_number(value: float | None, field: str) -> float | None:
    return None if value is None else number(value, field)
