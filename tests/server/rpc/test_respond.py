"""Values and tensors as messages, there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist.v1 import types_pb2 as types
from shortlist_server.funnel.resolve import type_name
from shortlist_server.rpc.convert import _value
from shortlist_server.rpc.respond import set_tensor, set_value

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_value_of_every_type_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    for held, expected in (
        (data.draw(KINDS[kind]), kind),
        (tuple(data.draw(st.lists(KINDS[kind], min_size=1))), f"{kind}_list"),
    ):
        message = types.Value()
        set_value(message, held)
        assert message.WhichOneof("kind") in (expected, f"{expected}_value")
        back = _value(message)
        assert type_name(back) == expected
        assert back == (list(held) if isinstance(held, tuple) else held)


def test_empty_list_is_a_value_too() -> None:
    message = types.Value()
    set_value(message, ())
    assert _value(message) == []


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (np.float32, "double_list"),
        (np.float64, "double_list"),
        (np.int32, "int64_list"),
        (np.int64, "int64_list"),
        (np.bool_, "bool_list"),
    ],
)
def test_numbers_of_a_tensor_are_written_row_by_row(dtype: type, kind: str) -> None:
    tensor = np.array([[1, 0, 1], [0, 0, 1]], dtype)
    message = types.Value()
    set_tensor(message, tensor.T.copy().T)  # not contiguous
    assert message.WhichOneof("kind") == kind
    assert list(getattr(message, kind).values) == [1, 0, 1, 0, 0, 1]
