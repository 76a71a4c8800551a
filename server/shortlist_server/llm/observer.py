"""Who is told what calls of language models and text embedders came to."""

from __future__ import annotations

from typing import Protocol


class LlmObserver(Protocol):
    """Counts; every method returns at once. `model` is the identity of what was called."""

    def llm_called(self, model: str, outcome: str, seconds: float) -> None:
        """Count a caller's call: OK, CACHED, CANCELLED, or the reason of its error."""

    def llm_spent(self, model: str, input_tokens: int, output_tokens: int, cost: float) -> None:
        """Count what one call of the service cost, in the currency of the configured prices."""

    def llm_retried(self, model: str) -> None:
        """Count a call of the service that was made again."""

    def llm_looked_up(self, model: str, hits: int, misses: int) -> None:
        """Count answers that were looked for in the cache."""

    def llm_breaker(self, model: str, state: str) -> None:
        """Learn the state of the circuit breaker: closed, half_open or open."""


class NoObserver:
    """Counts nothing."""

    def llm_called(self, model: str, outcome: str, seconds: float) -> None:
        """Count nothing."""

    def llm_spent(self, model: str, input_tokens: int, output_tokens: int, cost: float) -> None:
        """Count nothing."""

    def llm_retried(self, model: str) -> None:
        """Count nothing."""

    def llm_looked_up(self, model: str, hits: int, misses: int) -> None:
        """Count nothing."""

    def llm_breaker(self, model: str, state: str) -> None:
        """Learn nothing."""
