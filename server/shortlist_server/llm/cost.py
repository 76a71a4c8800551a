"""What calls cost, and how much they may."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shortlist_server.llm.language_model import LlmBudgetExceeded, TokenUsage

HOUR_S = 3_600
SLICE_S = 60
"""Spent money is forgotten a minute at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of a million tokens each, in a currency of one's own choice."""

    input_million: float = 0.0
    output_million: float = 0.0

    def cost(self, usage: TokenUsage) -> float:
        """Return what a call cost."""
        return (
            usage.input_tokens * self.input_million + usage.output_tokens * self.output_million
        ) / 1e6


class HourBudget:
    """Remembers what was spent in the last hour, to the minute."""

    def __init__(
        self, money_max: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing spent.

        Args:
            money_max: Most that an hour may cost; None for no bound.
            clock: Seconds.
        """
        self._money_max = math.inf if money_max is None else money_max
        self._clock = clock
        self._spent: dict[int, float] = {}

    @property
    def spent(self) -> float:
        """What was spent in the last hour."""
        now = int(self._clock() // SLICE_S)
        for minute in [one for one in self._spent if one <= now - HOUR_S // SLICE_S]:
            del self._spent[minute]
        return sum(self._spent.values())

    def check(self) -> None:
        """Return if there is money left for a call.

        Calls under way are paid when they end: it may be exceeded by what those cost.

        Raises:
            LlmBudgetExceeded: there is none.
        """
        if (spent := self.spent) >= self._money_max:
            raise LlmBudgetExceeded(
                f"calls of the last hour cost {spent:g}, of at most {self._money_max:g}"
            )

    def spend(self, money: float) -> None:
        """Note what a call cost."""
        minute = int(self._clock() // SLICE_S)
        self._spent[minute] = self._spent.get(minute, 0.0) + money


def estimated_tokens(texts: Iterable[str]) -> int:
    """Return about how many tokens texts are, where nobody says: one for four bytes."""
    return sum(-(-len(text.encode()) // 4) for text in texts)
