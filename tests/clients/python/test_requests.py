"""What filters, sources and selection look like on the wire, and what is refused before."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from shortlist.v1 import types_pb2
from shortlist_client import (
    CallerItems,
    Cap,
    Configured,
    InvalidValue,
    Nearest,
    OutOfRange,
    PinnedItem,
    Popularity,
    RecentHistory,
    Text,
    attribute,
    calls,
)
from shortlist_client.filters import AllOf, AnyOf, Filter
from shortlist_client.requests import filter_to_proto

Value = types_pb2.Value
YEAR = attribute("year")


def on_the_wire(filter_: Filter) -> types_pb2.Filter:
    message = filter_to_proto(filter_, "filter")
    assert message is not None
    return message


def year_range(**bounds: int) -> types_pb2.Filter:
    sent = {name: Value(int64_value=bound) for name, bound in bounds.items()}
    return types_pb2.Filter(range=types_pb2.RangeCondition(attribute="year", **sent))


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (YEAR.at_least(1), year_range(at_least=1)),
        (YEAR.above(0), year_range(above=0)),
        (YEAR.at_most(1), year_range(at_most=1)),
        (YEAR.below(1), year_range(below=1)),
        (YEAR.between(1, 2), year_range(at_least=1, at_most=2)),
        (
            YEAR.equals(1.5),
            types_pb2.Filter(
                equals=types_pb2.EqualsCondition(attribute="year", value=Value(double_value=1.5))
            ),
        ),
        (
            attribute("new").equals(True),
            types_pb2.Filter(
                equals=types_pb2.EqualsCondition(attribute="new", value=Value(bool_value=True))
            ),
        ),
        (
            YEAR.is_in([1, 2]),
            types_pb2.Filter(
                is_in=types_pb2.InCondition(
                    attribute="year",
                    values=Value(int64_list=types_pb2.Int64List(values=[1, 2])),
                )
            ),
        ),
        (
            attribute("genres").contains("Drama"),
            types_pb2.Filter(
                contains=types_pb2.ContainsCondition(
                    attribute="genres", value=Value(string_value="Drama")
                )
            ),
        ),
        (
            YEAR.exists(),
            types_pb2.Filter(exists=types_pb2.ExistsCondition(attribute="year")),
        ),
        (
            ~YEAR.at_least(1) & (YEAR.above(1) | YEAR.above(2)),
            types_pb2.Filter(
                all_of=types_pb2.FilterList(
                    filters=[
                        types_pb2.Filter(
                            none_of=types_pb2.FilterList(filters=[year_range(at_least=1)])
                        ),
                        types_pb2.Filter(
                            any_of=types_pb2.FilterList(
                                filters=[year_range(above=1), year_range(above=2)]
                            )
                        ),
                    ]
                )
            ),
        ),
    ],
)
def test_every_kind_of_filter_is_sent_as_its_kind(
    filter_: Filter, expected: types_pb2.Filter
) -> None:
    assert on_the_wire(filter_) == expected


def test_every_kind_of_the_proto_can_be_said() -> None:
    kinds = {field.name for field in types_pb2.Filter.DESCRIPTOR.oneofs_by_name["kind"].fields}
    a, b = YEAR.exists(), YEAR.equals(1)
    said = [a & b, a | b, ~a, a, b, YEAR.is_in([1]), YEAR.above(1), YEAR.contains(1)]
    assert {on_the_wire(filter_).WhichOneof("kind") for filter_ in said} == kinds


def test_hundreds_of_conditions_in_a_chain_are_one_level() -> None:
    years: list[Filter] = [YEAR.equals(year) for year in range(500)]
    assert len(on_the_wire(reduce(lambda a, b: a | b, years)).any_of.filters) == 500


def nested(depth: int) -> Filter:
    filter_ = YEAR.exists()
    for level in range(depth - 1):
        filter_ = AnyOf((filter_,)) if level % 2 else AllOf((filter_,))
    return filter_


def test_filters_deeper_than_protobuf_reads_are_refused_here() -> None:
    on_the_wire(nested(32))
    with pytest.raises(OutOfRange, match="at most 32 levels"):
        on_the_wire(nested(33))
    with pytest.raises(OutOfRange):
        on_the_wire(nested(100_000))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("trending", types_pb2.SourceOptions(name="trending")),
        (
            Configured("trending", candidate_count=5),
            types_pb2.SourceOptions(name="trending", candidate_count=5),
        ),
        (Nearest(), types_pb2.SourceOptions(nearest=types_pb2.NearestSource())),
        (
            Nearest(name="mine", candidate_count=5),
            types_pb2.SourceOptions(
                name="mine", candidate_count=5, nearest=types_pb2.NearestSource()
            ),
        ),
        (RecentHistory(), types_pb2.SourceOptions(recent_history=types_pb2.HistorySource())),
        (
            RecentHistory(event_count=3),
            types_pb2.SourceOptions(recent_history=types_pb2.HistorySource(event_count=3)),
        ),
        (Popularity(), types_pb2.SourceOptions(popularity=types_pb2.PopularitySource())),
        (
            Popularity(attribute="new", value=False),
            types_pb2.SourceOptions(
                popularity=types_pb2.PopularitySource(
                    attribute="new", value=Value(bool_value=False)
                )
            ),
        ),
        (
            Popularity(attribute="country", feature="user.country"),
            types_pb2.SourceOptions(
                popularity=types_pb2.PopularitySource(attribute="country", feature="user.country")
            ),
        ),
        (Text(), types_pb2.SourceOptions(text=types_pb2.TextSource())),
        (
            CallerItems(["9", "8"], name="editors"),
            types_pb2.SourceOptions(
                name="editors", caller=types_pb2.CallerSource(item_ids=["9", "8"])
            ),
        ),
    ],
)
def test_every_source_is_sent_as_its_kind(source: Any, expected: types_pb2.SourceOptions) -> None:
    assert list(calls.recommend(sources=[source]).request.sources) == [expected]
    assert list(calls.retrieve(sources=[source]).request.sources) == [expected]


def test_every_source_of_the_proto_can_be_said() -> None:
    kinds = types_pb2.SourceOptions.DESCRIPTOR.oneofs_by_name["kind"].fields
    said = calls.recommend(
        sources=[Nearest(), RecentHistory(), Popularity(), CallerItems(["9"]), Text()]
    ).request.sources
    assert {source.WhichOneof("kind") for source in said} == {kind.name for kind in kinds}


def test_caps_may_be_a_map_or_a_list() -> None:
    expected = [types_pb2.Cap(attribute="genres", item_count_max=3)]
    for caps in ({"genres": 3}, [Cap("genres", 3)]):
        assert list(calls.recommend(caps=caps).request.selection.caps) == expected


def test_pinned_items_take_a_place_or_the_first_free_one() -> None:
    pinned = calls.recommend(pinned_items=["9", PinnedItem("8", 0)]).request.selection.pinned_items
    assert [item.item_id for item in pinned] == ["9", "8"]
    assert [item.HasField("position") for item in pinned] == [False, True]


def test_a_least_score_of_zero_and_a_seed_of_zero_are_not_absent() -> None:
    selection = calls.recommend(score_min=0, seed=0).request.selection
    assert selection.HasField("score_min")
    assert selection.exploration.HasField("seed")
    selection = calls.recommend(temperature=0.5).request.selection
    assert not selection.HasField("score_min")
    assert not selection.exploration.HasField("seed")


def test_a_list_that_is_not_selected_in_any_way_has_no_selection() -> None:
    assert not calls.recommend(user="42").request.HasField("selection")
    assert not calls.recommend(user="42").request.HasField("filter")
    assert not calls.recommend(user="42").request.exclusions.HasField("filter")


@pytest.mark.parametrize(
    ("fields", "field", "error_type"),
    [
        ({"filter": True}, "filter", InvalidValue),
        ({"filter": YEAR}, "filter", InvalidValue),
        ({"filter": Filter()}, "filter", InvalidValue),
        ({"excluded_filter": "year>1"}, "exclusions.filter", InvalidValue),
        ({"filter": YEAR.equals(None)}, "filter.equals.value", InvalidValue),  # type: ignore[arg-type]  # on purpose
        ({"filter": attribute(1).exists()}, "filter.exists.attribute", InvalidValue),  # type: ignore[arg-type]  # on purpose
        ({"filter": YEAR.is_in("abc")}, "filter.is_in.values", InvalidValue),
        ({"filter": YEAR.is_in([1, "a"])}, "filter.is_in.values", InvalidValue),
        ({"filter": YEAR.between(1, None)}, "filter.range.at_most", InvalidValue),  # type: ignore[arg-type]  # on purpose
        ({"filter": YEAR.above(float("nan"))}, "filter.range.above", InvalidValue),
        (
            {"filter": YEAR.exists() & YEAR.below(2**63)},
            "filter.all_of.filters[1].range.below",
            OutOfRange,
        ),
        ({"filter": AnyOf((None,))}, "filter.any_of.filters[0]", InvalidValue),  # type: ignore[arg-type]  # on purpose
        ({"sources": "trending"}, "sources", InvalidValue),
        ({"sources": [Nearest]}, "sources[0]", InvalidValue),
        ({"sources": ["a", Nearest(candidate_count=0)]}, "sources[1].candidate_count", OutOfRange),
        (
            {"sources": [RecentHistory(event_count=0)]},
            "sources[0].recent_history.event_count",
            OutOfRange,
        ),
        ({"sources": [CallerItems("9")]}, "sources[0].caller.item_ids", InvalidValue),
        (
            {"sources": [Popularity(attribute="a", value=float("inf"))]},
            "sources[0].popularity.value",
            InvalidValue,
        ),
        ({"score_min": "1"}, "selection.score_min", InvalidValue),
        ({"diversity": float("nan")}, "selection.diversity", InvalidValue),
        ({"caps": "genres"}, "selection.caps", InvalidValue),
        ({"caps": ["genres"]}, "selection.caps[0]", InvalidValue),
        ({"caps": {"genres": 0}}, "selection.caps[0].item_count_max", OutOfRange),
        ({"pinned_items": "9"}, "selection.pinned_items", InvalidValue),
        ({"pinned_items": {"9"}}, "selection.pinned_items", InvalidValue),
        ({"pinned_items": [9]}, "selection.pinned_items[0]", InvalidValue),
        (
            {"pinned_items": [PinnedItem("9", -1)]},
            "selection.pinned_items[0].position",
            OutOfRange,
        ),
        (
            {"pinned_items": [PinnedItem("9", True)]},
            "selection.pinned_items[0].position",
            InvalidValue,
        ),
        ({"temperature": "hot"}, "selection.exploration.temperature", InvalidValue),
        ({"seed": 2**63}, "selection.exploration.seed", OutOfRange),
        ({"seed": 1.5}, "selection.exploration.seed", InvalidValue),
        ({"explain": 1}, "explain", InvalidValue),
        ({"debug": "yes"}, "debug", InvalidValue),
    ],
)
def test_what_the_wire_cannot_hold_is_refused_by_field(
    fields: dict[str, Any], field: str, error_type: type[InvalidValue | OutOfRange]
) -> None:
    with pytest.raises(error_type) as caught:
        calls.recommend(**fields)
    assert caught.value.field == field
