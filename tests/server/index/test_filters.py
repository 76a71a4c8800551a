"""Filters over columns: masks, the text they are cached by, and what is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_requests import FILTERS
from shortlist.v1 import types_pb2 as types
from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.catalog.columns import attribute_column
from shortlist_server.errors import AttributeTypeMismatch, UnknownAttribute
from shortlist_server.funnel.filter import (
    AllOf,
    AnyOf,
    Contains,
    Exists,
    Filter,
    IsIn,
    NoneOf,
    Range,
    canonical,
    joined,
)
from shortlist_server.index.filters import (
    AttributeColumn,
    AttributeFilters,
    FilterOptions,
    near_first,
    value_fits,
)
from shortlist_server.rpc.convert_filter import filter_from

TEXTS = ("", "a", "a,b", '"', "]", "[", "é", "1", "true")
CELLS: dict[str, tuple[str, list[Any]]] = {
    "text": ("string", [*TEXTS, None]),
    "number": ("int64", [-(2**63), -1, 0, 1, 2, 3, 2**63 - 1, None, 1, 2]),
    "price": ("double", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 1e300, None, 1.5, 2.5]),
    "on": ("bool", [True, False, None, True, False, True, False, True, None, False]),
    "texts": (
        "string_list",
        [("a",), ("a", "b"), (), None, ("b",), ('"', "]"), ("a,b",), ("1",), ("é", "a"), ("true",)],
    ),
    "numbers": (
        "int64_list",
        [(1,), (1, 2), (), None, (2, 2), (3,), (0,), (-1, 3), (2**63 - 1,), (-(2**63),)],
    ),
}
SIZE = 10


def filters(cache_masks: int = 100) -> AttributeFilters:
    columns = {
        name: attribute_column(ColumnArray.of(name, kind, cells))
        for name, (kind, cells) in CELLS.items()
    }
    return AttributeFilters(columns, SIZE, FilterOptions(cache_bytes_max=9 * SIZE * cache_masks))


def conditions() -> Iterator[Filter]:
    """Conditions of every kind with every value that might be taken for another."""
    for name, (kind, cells) in CELLS.items():
        yield Exists(attribute=name)
        held = {
            value
            for cell in cells
            if cell is not None
            for value in (cell if isinstance(cell, tuple) else (cell,))
        }
        values = sorted(held)
        if kind.endswith("_list"):
            yield from (Contains(attribute=name, value=value) for value in values)
            continue
        for count in (1, 2):
            for some in itertools.combinations(values, count):
                yield IsIn(attribute=name, values=some)
        if kind == "bool":
            continue
        for value, included in itertools.product(values, (True, False)):
            yield Range(attribute=name, low=value, low_included=included)
            yield Range(attribute=name, high=value, high_included=included)
        for low, high in itertools.combinations(values, 2):
            for low_in, high_in in itertools.product((True, False), repeat=2):
                yield Range(
                    attribute=name, low=low, low_included=low_in, high=high, high_included=high_in
                )


def test_filters_of_one_text_have_one_mask() -> None:
    """Among all single conditions, and lists of two of some of them, none is cached as another."""
    attributes = filters()
    singles = list(conditions())
    some = singles[:: len(singles) // 24]
    pairs = [
        kind(parts)
        for parts in itertools.product(some, repeat=2)
        for kind in (AllOf, AnyOf, NoneOf)
    ]
    nested = [outer((inner,)) for inner in pairs[::7] for outer in (AllOf, AnyOf, NoneOf)]
    nested += [outer((inner, some[0])) for inner in pairs[::7] for outer in (AllOf, AnyOf, NoneOf)]
    masks: dict[str, bytes] = {}
    for filter_ in (*singles, *pairs, *nested):
        attributes.check(filter_)
        mask = attributes.mask(filter_).tobytes()
        assert masks.setdefault(canonical(filter_), mask) == mask, canonical(filter_)
    assert len(masks) > 1_000
    assert len(set(masks.values())) > 100


def respelled(filter_: Filter, draw: random.Random) -> Filter:
    """The same filter in another order, with repetitions and superfluous lists."""
    match filter_:
        case AllOf() | AnyOf() | NoneOf():
            parts = [respelled(part, draw) for part in filter_.filters]
            parts += [
                respelled(draw.choice(filter_.filters), draw) for _ in range(draw.randint(0, 2))
            ]
            draw.shuffle(parts)
            kind = type(filter_)
            if kind is not NoneOf and len(parts) > 1 and draw.random() < 0.5:
                cut = draw.randint(1, len(parts) - 1)
                parts = [kind(tuple(parts[:cut])), *parts[cut:]]
            if kind is NoneOf and draw.random() < 0.5:
                parts = [AnyOf(tuple(parts))]
            again: Filter = kind(tuple(parts))
        case IsIn():
            values = [*filter_.values, draw.choice(filter_.values)]
            draw.shuffle(values)
            again = IsIn(attribute=filter_.attribute, values=tuple(values), field="elsewhere")
        case _:
            again = filter_
    if draw.random() < 0.3:
        again = draw.choice((AllOf, AnyOf))((again,))
    return again


@settings(max_examples=300)
@given(message=FILTERS, seed=st.integers(0, 2**32))
def test_spellings_of_one_filter_have_one_text(message: types.Filter, seed: int) -> None:
    filter_ = filter_from(message, "filter")
    assert canonical(respelled(filter_, random.Random(seed))) == canonical(filter_)


def test_a_whole_double_is_written_like_the_integer_it_equals() -> None:
    def text(value: float) -> str:
        return canonical(IsIn(attribute="price", values=(value,)))

    assert text(2.0) == text(2)
    assert text(-0.0) == text(0)
    assert text(0.5) != text(0)
    assert text(True) != text(1)
    assert canonical(IsIn(attribute="text", values=("1",))) != text(1)


def test_wanted_and_unwanted_join_into_one_filter() -> None:
    one, other = Exists(attribute="text"), Exists(attribute="number")
    attributes = filters()
    assert joined(None, None) is None
    assert joined(one, None) is one
    for wanted, unwanted in ((one, other), (None, other), (one, None)):
        selection = attributes.select(wanted, unwanted)
        assert selection is not None
        expected = np.ones(SIZE, np.bool_) if wanted is None else attributes.mask(one)
        if unwanted is not None:
            expected = expected & ~attributes.mask(other)
        assert selection.mask.tolist() == expected.tolist()
    assert attributes.select(None, None) is None


def test_mask_is_made_once_and_shared_by_all_spellings() -> None:
    attributes = filters()
    one, other = IsIn(attribute="number", values=(1, 2)), IsIn(attribute="number", values=(2, 1, 2))
    first, second = attributes.select(one), attributes.select(AllOf((other,)))
    assert first is second
    assert first is not None
    assert first.mask is first.mask
    with pytest.raises(ValueError, match="read-only"):
        first.mask[0] = True
    with pytest.raises(ValueError, match="read-only"):
        first.rows[0] = 1


def test_masks_of_the_filters_asked_for_last_are_kept() -> None:
    attributes = filters(cache_masks=3)

    def select(value: int) -> Any:
        return attributes.select(IsIn(attribute="number", values=(value,)))

    kept = {value: select(value) for value in (1, 2, 3)}
    assert select(1) is kept[1]
    select(4)  # the one asked for least recently goes: 2
    assert select(3) is kept[3]
    assert select(1) is kept[1]
    assert select(2) is not kept[2]


def test_not_all_masks_are_kept_whatever_the_bound() -> None:
    attributes = AttributeFilters({}, 10**9, FilterOptions(cache_bytes_max=1))
    assert attributes._cache.entries_max == 2


@pytest.mark.parametrize(
    ("filter_", "expected", "got"),
    [
        (
            Contains(attribute="text", value="a"),
            "equals, is_in or range",
            "contains, and text is string",
        ),
        (Range(attribute="on", low=True), "true and false have no order", "range"),
        (Range(attribute="numbers", low=1), "contains or exists", "range"),
        (IsIn(attribute="texts", values=("a",)), "contains or exists", "is_in"),
        (IsIn(attribute="number", values=(1, 2.0)), "int64, the type of number", "double 2.0"),
        (IsIn(attribute="number", values=(True,)), "int64, the type of number", "bool True"),
        (IsIn(attribute="price", values=(2**53 + 1,)), "beyond 2^53", "int64 9007199254740993"),
        (Range(attribute="price", high=-(2**63) + 1), "beyond 2^53", "int64 -9223372036854775807"),
        (IsIn(attribute="on", values=(1,)), "bool, the type of on", "int64 1"),
        (Range(attribute="text", high=3), "string, the type of text", "int64 3"),
        (Contains(attribute="numbers", value="1"), "int64, the type of numbers", "string '1'"),
        (NoneOf((AllOf((IsIn(attribute="text", values=("x" * 300, 7)),)),)), "string", "int64 7"),
    ],
)
def test_condition_that_does_not_fit_its_attribute_is_refused(
    filter_: Filter, expected: str, got: str
) -> None:
    attributes = filters()
    selects: list[Callable[[], object]] = [
        lambda: attributes.select(filter_),
        lambda: attributes.select(None, filter_),
    ]
    for select in selects:
        with pytest.raises(AttributeTypeMismatch) as caught:
            select()
        assert expected in caught.value.expected
        assert caught.value.got.startswith(got)


def test_values_fit_attributes_of_their_own_type_and_integers_doubles() -> None:
    values = {"string": "a", "int64": 1, "double": 1.5, "bool": True}
    fitting = {
        (of, kind) for of, value in values.items() for kind in values if value_fits(value, kind)
    }
    assert fitting == {(kind, kind) for kind in values} | {("int64", "double")}


def test_integers_fit_doubles_where_a_double_holds_them_exactly() -> None:
    holds = (2**53 - 1, 2**53, -(2**53), 2**53 + 2, 2**62, -(2**63))
    assert all(value_fits(value, "double") for value in holds)
    between = (2**53 + 1, -(2**53) - 1, 2**62 + 1, 2**63 - 1)
    assert not any(value_fits(value, "double") for value in between)
    assert all(value_fits(value, "int64") for value in between)


def test_unknown_attribute_lists_those_of_a_similar_name_first() -> None:
    assert near_first("prise", ("on", "price", "text")) == "price, on, text (did you mean 'price'?)"
    assert near_first("x", ("text", "on")) == "on, text"
    assert near_first("x", ()) == "none: the bundle has no item attributes"
    assert near_first("x", [f"a{n:03}" for n in range(200)]).endswith(", a099")
    with pytest.raises(UnknownAttribute) as caught:
        filters().select(Exists(attribute="nmber", field="filter.exists"))
    assert caught.value.field == "filter.exists.attribute"
    assert caught.value.expected.startswith("number, numbers, ")


def test_an_item_without_a_value_fulfils_no_condition() -> None:
    attributes = filters()
    for name, (_, cells) in CELLS.items():
        missing = [row for row, cell in enumerate(cells) if cell is None]
        for condition in conditions():
            if condition.attribute == name:  # type: ignore[union-attr]
                assert not attributes.mask(condition)[missing].any()
                assert attributes.mask(NoneOf((condition,)))[missing].all()


def test_codes_of_an_item_are_equal_where_its_values_are() -> None:
    for kind, cells in CELLS.values():
        column: AttributeColumn = attribute_column(ColumnArray.of("x", kind, cells))
        assert column.size == SIZE
        for row, other in itertools.product(range(SIZE), repeat=2):
            same = column.codes_of(row).tolist() == column.codes_of(other).tolist()
            if None not in (cells[row], cells[other]):
                assert same == (cells[row] == cells[other])
            elif cells[row] is None:
                assert not len(column.codes_of(row))


@pytest.mark.parametrize("kind", [AllOf, AnyOf, NoneOf])
def test_a_filter_of_many_conditions_looks_at_the_clock_before_each(
    kind: type[AllOf | AnyOf | NoneOf],
) -> None:
    attributes = filters()
    parts = tuple(Range(attribute="number", low=bound) for bound in range(9))
    filter_ = AnyOf((Exists(attribute="text"), kind(parts)))
    selection = attributes.select(filter_)
    assert selection is not None
    looks = [0]

    def checkpoint() -> None:
        looks[0] += 1
        if looks[0] == 7:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        selection.make(checkpoint)
    # What was given up is made by who has time.
    selection.make(checkpoint)
    assert looks == [7 + 11]
    assert selection.mask.tolist() == attributes.mask(filter_).tolist()
    assert not selection.mask.flags.writeable
    selection.make(checkpoint)
    assert looks == [7 + 11]


@given(st.data())
def test_joined_columns_are_those_that_are_made_of_all_items_at_once(data: st.DataObject) -> None:
    for name, (kind, cells) in CELLS.items():
        drawn = data.draw(st.lists(st.lists(st.sampled_from(cells), min_size=1), min_size=1))
        parts = [attribute_column(ColumnArray.of(name, kind, part)) for part in drawn]
        every = [cell for part in drawn for cell in part]
        wanted = attribute_column(ColumnArray.of(name, kind, every))
        got = AttributeColumn.joined(parts)
        assert (got.kind, got.is_list, got.size) == (wanted.kind, wanted.is_list, wanted.size)
        assert got.vocabulary == wanted.vocabulary
        assert got.values.dtype == wanted.values.dtype
        assert got.exists().tolist() == wanted.exists().tolist()
        for row, cell in enumerate(every):
            assert got.codes_of(row).tolist() == wanted.codes_of(row).tolist()
            held = cell if isinstance(cell, tuple) else () if cell is None else (cell,)
            for value in held:
                one = [value]
                assert got.one_of(one).tolist() == wanted.one_of(one).tolist()
