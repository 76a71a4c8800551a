from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.bundle.columns import ColumnArray, StringArray

SCALARS = {
    "string": st.text(max_size=8),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
}
COLUMNS = st.sampled_from(sorted(SCALARS)).flatmap(
    lambda kind: st.one_of(
        st.tuples(st.just(kind), st.lists(st.none() | SCALARS[kind], max_size=12)),
        st.tuples(
            st.just(f"{kind}_list"),
            st.lists(st.none() | st.lists(SCALARS[kind], max_size=3).map(tuple), max_size=12),
        ),
    )
)


@given(COLUMNS)
def test_a_column_gives_back_what_went_in(kind_and_cells: tuple[str, list[object]]) -> None:
    kind, cells = kind_and_cells
    column = ColumnArray.of("c", kind, cells)
    assert len(column) == len(cells)
    assert column.tolist() == cells
    assert [column[row] for row in range(len(cells))] == cells
    for row, cell in enumerate(cells):
        assert type(column[row]) is type(cell)


@given(st.lists(st.text()))
def test_strings_give_back_what_went_in(texts: list[str]) -> None:
    packed = StringArray.of(texts)
    assert packed.tolist() == texts
    assert [packed[row] for row in range(len(packed))] == texts


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("string", 1),
        ("int64", 1.0),
        ("int64", True),
        ("double", "1"),
        ("bool", 1),
        ("string_list", ("a", 1)),
    ],
)
def test_a_cell_of_another_type_is_refused_by_column(kind: str, cell: object) -> None:
    with pytest.raises(TypeError, match="column 'c': expected"):
        ColumnArray.of("c", kind, [cell])
