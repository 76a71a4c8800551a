"""An observer of language models that remembers."""

from __future__ import annotations


class Noted:
    """Everything that was told, in order."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.spent: list[tuple[int, int, float]] = []
        self.retries = 0
        self.hits = 0
        self.misses = 0
        self.breaker: list[str] = []

    def llm_called(self, model: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append(outcome)

    def llm_spent(self, model: str, input_tokens: int, output_tokens: int, cost: float) -> None:
        self.spent.append((input_tokens, output_tokens, cost))

    def llm_retried(self, model: str) -> None:
        self.retries += 1

    def llm_looked_up(self, model: str, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def llm_breaker(self, model: str, state: str) -> None:
        self.breaker.append(state)
