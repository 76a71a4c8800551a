"""A search among the rows that have a vector gives what a scan of them all would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.subset import Subset, SubsetIndex

SIZE = 40


@given(
    kept=st.sets(st.integers(0, SIZE - 1), min_size=1),
    matching=st.none() | st.sets(st.integers(0, SIZE - 1)),
    excluded=st.sets(st.integers(0, SIZE - 1), max_size=10),
    k=st.integers(1, SIZE),
)
def test_found_are_the_nearest_of_the_allowed_rows_that_have_a_vector(
    kept: set[int], matching: set[int] | None, excluded: set[int], k: int
) -> None:
    draw = np.random.default_rng(len(kept))
    rows = np.array(sorted(kept))
    vectors = draw.normal(size=(len(rows), 4)).astype(np.float32)
    query = draw.normal(size=4).astype(np.float32)
    selection = None
    if matching is not None:
        selection = Selection("", lambda: np.isin(np.arange(SIZE), sorted(matching)))
    allowed = Allowed(SIZE, selection, np.array(sorted(excluded), np.int64))
    index = SubsetIndex(ExactIndex(vectors, "inner_product"), Subset(rows, SIZE))
    found = index.search(query, k, allowed=allowed, checkpoint=lambda: None)
    scores = dict(zip(rows.tolist(), (vectors @ query).tolist(), strict=True))
    wanted = [
        row
        for row in sorted(scores, key=lambda row: -scores[row])
        if row not in excluded and (matching is None or row in matching)
    ]
    assert found.rows.tolist() == wanted[:k]
    assert found.scores == pytest.approx([scores[row] for row in wanted[:k]], abs=1e-5)
    assert index.size == SIZE
