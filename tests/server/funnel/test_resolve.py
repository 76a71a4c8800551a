from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from shortlist_server.errors import (
    FeatureTypeMismatch,
    ItemNotFound,
    UnknownAttribute,
    UnknownFeature,
    UnknownItem,
)
from shortlist_server.funnel.allowed import Selection
from shortlist_server.funnel.arrays import Rows
from shortlist_server.funnel.filter import Filter
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.resolve import fits, resolve, type_name
from shortlist_server.funnel.types import (
    Event,
    Examples,
    FeatureValue,
    Query,
    ResolvedQuery,
    User,
    WarningReason,
)


class FakeCatalog:
    """Ten items `i0`..`i9`; user `u` is 30 and has seen items 1 and 2."""

    size = row_count = 10
    alive = None
    attribute_names: Sequence[str] = ("title", "year")
    feature_types: Mapping[str, str] = {
        "user.age": "double",
        "user.tags": "string_list",
        "context.hour": "int64",
    }

    def row(self, item_id: str) -> int | None:
        number = item_id.removeprefix("i")
        return int(number) if number.isdigit() and int(number) < self.size else None

    def rows(self, item_ids: Sequence[str]) -> Rows:
        return np.array([row for row in map(self.row, item_ids) if row is not None], np.int64)

    def item_id(self, row: int) -> str:
        return f"i{row}"

    def select(self, wanted: Filter | None, unwanted: Filter | None) -> Selection | None:
        return None

    def check_attribute(self, name: str, field: str) -> None:
        if name not in self.attribute_names:
            raise UnknownAttribute(field, expected="title, year", got=name)

    def attribute_codes(self, name: str, row: int) -> Sequence[int]:
        return [row % 2]

    def user_features(self, user_id: str) -> Mapping[str, FeatureValue] | None:
        return {"user.age": 30.0} if user_id == "u" else None

    def seen(self, user_id: str) -> Rows:
        return np.array([1, 2] if user_id == "u" else [], np.int64)


def ask(
    subject: User | Examples, context: Mapping[str, FeatureValue] | None = None, **options: object
) -> ResolvedQuery:
    return resolve(Query(subject=subject, context=context or {}), Options(**options), FakeCatalog())  # type: ignore[arg-type]


def test_what_the_request_says_wins_over_what_the_bundle_knows() -> None:
    assert ask(User(id="u")).features == {"user.age": 30.0}
    assert ask(User(id="u", features={"age": 31.0})).features == {"user.age": 31.0}


def test_unknown_user_is_a_cold_start_and_a_known_one_is_not() -> None:
    assert ask(User(id="nobody")).cold_start
    assert ask(User()).cold_start
    assert not ask(User(id="u")).cold_start
    assert not ask(Examples(item_ids=("i1",))).cold_start


def test_unknown_features_become_a_warning_and_have_no_effect() -> None:
    resolved = ask(User(id="u", features={"agee": 1.0}), {"minute": 5})
    assert [(w.reason, w.field, w.subjects) for w in resolved.warnings] == [
        (WarningReason.UNKNOWN_FEATURE, "query.user.features", ("agee",)),
        (WarningReason.UNKNOWN_FEATURE, "query.context", ("minute",)),
    ]
    assert "user.agee" not in resolved.features


@pytest.mark.parametrize(
    ("subject", "context", "options", "error", "field"),
    [
        (User(features={"agee": 1.0}), {}, {}, UnknownFeature, "query.user.features"),
        (User(), {"minute": 1}, {}, UnknownFeature, "query.context"),
        (User(history=(Event(item_id="x"),)), {}, {}, UnknownItem, "query.user.history"),
        (Examples(item_ids=("i1", "x")), {}, {}, UnknownItem, "query.items.item_ids"),
        (User(), {}, {"attributes": ("titel",)}, UnknownAttribute, "attributes"),
    ],
)
def test_strict_refuses_what_would_be_a_warning(
    subject: User | Examples,
    context: dict[str, int],
    options: dict[str, object],
    error: type,
    field: str,
) -> None:
    assert len(ask(subject, context, **options).warnings) == 1
    with pytest.raises(error) as caught:
        ask(subject, context, strict=True, **options)
    assert caught.value.field == field  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["old", True, ["a"], [1.0]])
def test_feature_of_another_type_is_refused_by_name(value: FeatureValue) -> None:
    with pytest.raises(
        FeatureTypeMismatch, match=r'query.user.features\["age"\]: expected double, got'
    ):
        ask(User(features={"age": value}))


def test_an_integer_may_stand_for_a_double_but_not_the_other_way() -> None:
    assert fits(3, "double")
    assert fits([1, 2], "double_list")
    assert not fits(3.0, "int64")
    assert not fits(True, "int64")
    assert fits([], "string_list")
    assert not fits([], "string")
    assert type_name([True]) == "bool_list"


def test_history_keeps_its_order_and_loses_unknown_items_with_a_warning() -> None:
    events = tuple(Event(item_id=name, rating=4.0) for name in ("i7", "x", "i3", "i7"))
    resolved = ask(User(id="u", history=events))
    assert resolved.history_rows.tolist() == [7, 3, 7]
    assert [event.item_id for event in resolved.history] == ["i7", "i3", "i7"]
    assert resolved.warnings[0].subjects == ("x",)


def test_known_history_and_sent_history_are_both_excluded_unless_asked_otherwise() -> None:
    user = User(id="u", history=(Event(item_id="i7"),))
    assert ask(user).allowed.excluded.tolist() == [1, 2, 7]
    assert ask(
        user, exclude_seen=False, excluded_item_ids=("i9", "x", "i9")
    ).allowed.excluded.tolist() == [9]


def test_the_bundles_history_stands_in_where_none_is_sent() -> None:
    assert ask(User(id="u")).history_rows.tolist() == [1, 2]
    assert ask(User(id="nobody")).history_rows.tolist() == []


def test_examples_are_excluded_and_none_known_is_not_found() -> None:
    assert ask(Examples(item_ids=("i4", "i2", "i4"))).allowed.excluded.tolist() == [2, 4]
    with pytest.raises(ItemNotFound, match="x, y"):
        ask(Examples(item_ids=("x", "y")))


def test_a_star_asks_for_all_attributes() -> None:
    assert ask(User(), attributes=("*",)).attributes == ("title", "year")
    assert ask(User(), attributes=("year", "year", "titel")).attributes == ("year",)
