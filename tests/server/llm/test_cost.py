"""Money is counted for an hour."""

from __future__ import annotations

import pytest
from shortlist_server.llm.cost import HourBudget, Prices, estimated_tokens
from shortlist_server.llm.language_model import LlmBudgetExceeded, TokenUsage


def test_prices_are_of_a_million_tokens() -> None:
    prices = Prices(input_million=0.3, output_million=2.5)
    usage = TokenUsage(input_tokens=2_000, output_tokens=400)
    assert prices.cost(usage) == pytest.approx(0.0006 + 0.001)
    assert Prices().cost(usage) == 0


def test_what_was_spent_is_forgotten_after_an_hour() -> None:
    now = [30.0]
    budget = HourBudget(1.0, clock=lambda: now[0])
    budget.spend(0.6)
    now[0] = 1_830.0
    budget.check()
    budget.spend(0.5)
    with pytest.raises(LlmBudgetExceeded, match=r"cost 1\.1, of at most 1"):
        budget.check()
    now[0] = 3_599.0
    assert budget.spent == pytest.approx(1.1)
    now[0] = 3_600.0
    assert budget.spent == pytest.approx(0.5)
    budget.check()
    now[0] = 9_000.0
    assert budget.spent == 0


def test_no_bound_is_none_and_a_bound_of_nothing_is_one() -> None:
    budget = HourBudget(None)
    budget.spend(1e9)
    budget.check()
    with pytest.raises(LlmBudgetExceeded):
        HourBudget(0.0).check()


def test_tokens_are_estimated_by_bytes() -> None:
    assert estimated_tokens(["", "a", "abcd", "abcde", "é" * 4]) == 0 + 1 + 1 + 2 + 2
