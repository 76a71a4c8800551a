from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.llm.item_order import REASON_CHARS_MAX, order_schema, read_order, vote

HANDLES = ["c01", "c02", "c03"]


def read(order: Any, *, subset: bool = False, **options: Any) -> tuple[Any, set[str]]:
    answer = read_order({"order": order}, HANDLES, subset=subset, **options)
    return answer.positions, set(answer.violations)


def test_a_permutation_is_taken() -> None:
    assert read(["c03", "c01", "c02"]) == ((2, 0, 1), set())
    assert read([{"handle": "c03"}, "c01", "c02"]) == ((2, 0, 1), set())


@pytest.mark.parametrize(
    ("order", "violations"),
    [
        (None, {"shape"}),
        ("c01 c02 c03", {"shape"}),
        ([], {"missing"}),
        (["c01", "c02"], {"missing"}),
        (["c01", "c02", "c02"], {"duplicate", "missing"}),
        (["c01", "c02", "c03", "c01"], {"duplicate"}),
        (["c01", "c02", "c03", "c04"], {"foreign"}),
        (["C01", "c02", "c03"], {"foreign", "missing"}),
        (["c01", 2, "c03"], {"foreign", "missing"}),
        ([["c01"], {"handle": ["c02"]}, {}], {"foreign", "missing"}),
        (["i50"] * 100_000, {"foreign", "missing"}),
    ],
)
def test_what_is_no_permutation_is_not_taken(order: Any, violations: set[str]) -> None:
    assert read(order) == (None, violations)


def test_an_allowed_subset_is_taken_but_not_nothing_and_nothing_else() -> None:
    assert read(["c03", "c01"], subset=True) == ((2, 0), set())
    assert read([], subset=True) == (None, {"missing"})
    assert read(["c03", "c03"], subset=True) == (None, {"duplicate"})
    assert read(["c03", "c09"], subset=True) == (None, {"foreign"})


@given(
    order=st.lists(st.sampled_from([*HANDLES, "c04", "", 1, None]), max_size=6),
    subset=st.booleans(),
)
def test_only_candidates_once_each_ever_come_back(order: list[Any], subset: bool) -> None:
    positions, violations = read(order, subset=subset)
    right = len(set(order)) == len(order) and set(order) <= set(HANDLES)
    taken = right and (len(order) == 3 or (subset and len(order) > 0))
    assert (positions is not None) == taken
    assert (violations == set()) == taken
    if positions is not None:
        assert [HANDLES[position] for position in positions] == order


def with_reasons(*reasons: Any) -> Any:
    entries = [
        {"handle": handle, "reason": reason}
        for handle, reason in zip(HANDLES, reasons, strict=True)
    ]
    return read_order(
        {"order": entries}, HANDLES, subset=False, secrets=("judge each candidate by its title",)
    )


def test_reasons_are_one_line_of_bounded_length() -> None:
    answer = with_reasons("Because\nof\x1b[31m you. ", "x" * 10_000, None)
    assert answer.reasons[0] == "Because of [31m you."
    assert len(answer.reasons[1]) == REASON_CHARS_MAX
    assert set(answer.reasons) == {0, 1}
    assert (answer.positions, answer.violations) == ((0, 1, 2), frozenset())


def test_reasons_with_links_or_with_the_prompt_in_them_are_left_out() -> None:
    answer = with_reasons(
        "See https://evil.example", "I was told: Judge each candidate BY its\n title!", "Fits."
    )
    assert answer.reasons == {2: "Fits."}
    assert answer.positions == (0, 1, 2)
    assert answer.violations == {"link", "prompt_shown"}


def test_the_schema_asks_for_reasons_only_where_they_are_wanted() -> None:
    plain, full = order_schema(reasons=False), order_schema(reasons=True)
    assert plain["properties"]["order"]["items"] == {"type": "string"}
    assert full["properties"]["order"]["items"]["required"] == ["handle", "reason"]


def test_a_vote_goes_by_mean_position_then_by_the_order_before() -> None:
    assert vote([[2, 0, 1]], 3) == ([2, 0, 1], 0)
    assert vote([[2, 0, 1], [1, 2, 0]], 3) == ([2, 1, 0], 0)
    assert vote([[0, 1], [1, 0]], 2) == ([0, 1], 0)


def test_what_no_order_names_comes_last_in_the_order_before() -> None:
    assert vote([[3]], 4) == ([3, 0, 1, 2], 3)
    assert vote([[3], [2]], 4) == ([2, 3, 0, 1], 2)


@given(data=st.data(), count=st.integers(1, 12), passes=st.integers(1, 2))
def test_a_vote_is_a_permutation_whatever_is_named(
    data: st.DataObject, count: int, passes: int
) -> None:
    every = st.permutations(range(count)).flatmap(
        lambda order: st.integers(1, count).map(lambda kept: list(order)[:kept])
    )
    orders = [data.draw(every) for _ in range(passes)]
    order, left_out = vote(orders, count)
    assert sorted(order) == list(range(count))
    named = {candidate for one in orders for candidate in one}
    assert left_out == count - len(named)
    assert set(order[: len(named)]) == named
