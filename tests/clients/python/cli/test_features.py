"""Feature values as people type them."""

from __future__ import annotations

from typing import Any

import pytest
from shortlist_client import FieldInfo, InvalidValue, ValueType
from shortlist_client.cli.features import features_from_text


def read(value: str, kind: ValueType) -> Any:
    declared = [FieldInfo(name="user.x", type=kind)]
    features = features_from_text([("x", value)], declared, scope="user", flag="--feature")
    return features["x"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (ValueType.STRING, "01234", "01234"),
        (ValueType.STRING, "a,b", "a,b"),
        (ValueType.INT64, "33", 33),
        (ValueType.INT64, "-1", -1),
        (ValueType.DOUBLE, "33", 33.0),
        (ValueType.DOUBLE, "1e-3", 0.001),
        (ValueType.BOOL, "true", True),
        (ValueType.BOOL, "No", False),
        (ValueType.STRING_LIST, "Drama, Sci-Fi", ["Drama", "Sci-Fi"]),
        (ValueType.STRING_LIST, "", []),
        (ValueType.INT64_LIST, "1,2", [1, 2]),
        (ValueType.DOUBLE_LIST, "1,2.5", [1.0, 2.5]),
        (ValueType.BOOL_LIST, "yes,0", [True, False]),
        (ValueType.UNRECOGNIZED, "33", "33"),
    ],
)
def test_values_take_the_type_that_the_bundle_declares(
    kind: ValueType, value: str, expected: Any
) -> None:
    result = read(value, kind)
    assert result == expected
    assert type(result) is type(expected)


def test_every_type_can_be_typed() -> None:
    typed = {"STRING": "a", "BOOL": "true"}
    for kind in ValueType:
        read(typed.get(kind.removesuffix("_LIST"), "1"), kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ValueType.INT64, "old"),
        (ValueType.INT64, "1.5"),
        (ValueType.INT64, ""),
        (ValueType.DOUBLE, "x"),
        (ValueType.BOOL, "maybe"),
        (ValueType.INT64_LIST, "1,,2"),
    ],
)
def test_values_of_another_type_are_refused_by_name(kind: ValueType, value: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(value, kind)
    expected = f"--feature x={value}: expected {kind.lower()}, as the bundle declares user.x"
    assert str(caught.value).startswith(expected)


def test_undeclared_names_and_names_of_another_scope_stay_text() -> None:
    declared = [FieldInfo(name="context.hour", type=ValueType.INT64)]
    features = features_from_text(
        [("hour", "20"), ("agee", "33")], declared, scope="user", flag="--feature"
    )
    assert features == {"hour": "20", "agee": "33"}


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(InvalidValue, match="--feature x=2: expected it once, got twice"):
        features_from_text([("x", "1"), ("x", "2")], [], scope="user", flag="--feature")
