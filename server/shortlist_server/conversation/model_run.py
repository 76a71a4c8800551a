"""What a language model does in one turn: its stages, what became of them, and what they cost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from shortlist_server.conversation.prompt import ConversePrompt
from shortlist_server.conversation.reply import ReplyUnfit
from shortlist_server.errors import TextEmbedderUnavailable
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.types import Degradation, DegradedReason, Outcome, StageReport
from shortlist_server.llm.language_model import (
    LanguageModel,
    LanguageModelError,
    LlmBudgetExceeded,
    LlmUnavailable,
    TokenUsage,
)

logger = logging.getLogger(__name__)

SPARE_S = 0.05
"""Time that is never the model's, in seconds: of a short budget, a share is too little to answer
without it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What a call cost."""

    usage: TokenUsage = field(default_factory=TokenUsage)
    price: float = 0.0
    """In the currency of the configured prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What the model was asked, and what it cost."""

    model: str
    prompt: str
    intent: ModelCost
    reply: ModelCost
    violations: tuple[str, ...] = ()


class ModelRun:
    """What the model does in one turn."""

    def __init__(self, model: LanguageModel | None, prompt: ConversePrompt, budget: Budget) -> None:
        self._model = model
        self._prompt = prompt
        self._budget = budget
        self.degraded: list[Degradation] = []
        self.stages: list[StageReport] = []
        self.failed: set[str] = set()
        self.violations: frozenset[str] = frozenset()
        self._costs: dict[str, ModelCost] = {}

    def asked(self, name: str, share: float) -> tuple[LanguageModel, float]:
        """Return whom to ask, and the time that is left for it.

        Raises:
            LanguageModelError: there is nobody, or no time.
        """
        if self._model is None:
            raise LlmUnavailable("the server has no language model")
        share_s = (self._budget.share_end_ns(share) - self._budget.now_ns()) / 1e9
        left_s = min(share_s, self._budget.left_s - SPARE_S)
        if left_s <= 0:
            raise LlmBudgetExceeded(f"no time was left for the {name}")
        return self._model, left_s

    def spent(self, name: str, usage: TokenUsage, price: float) -> None:
        """Note what the call of a stage cost; what was noted first stands."""
        self._costs.setdefault(name, ModelCost(usage=usage, price=price))

    def search_failed(self, error: Exception) -> None:
        """Say that items could not be searched by words."""
        reason = DegradedReason.FAILED
        if isinstance(error, TextEmbedderUnavailable):
            reason = DegradedReason[error.problem]
        self.degraded.append(
            Degradation(
                stage="retrieval", source="text", reason=reason, message=str(error), cause=error
            )
        )

    def stage(self, name: str) -> _ModelStage:
        """Return a stage in which the model is asked; what the model raises ends it, no more."""
        return _ModelStage(self, name, self._budget)

    @property
    def plan(self) -> str:
        """What was asked, for people."""
        return "" if self._model is None else f"{self._model.identity}, {self._prompt.version}"

    def use(self) -> ModelUse | None:
        """Return what was asked, and what it cost."""
        if self._model is None:
            return None
        return ModelUse(
            model=self._model.identity,
            prompt=self._prompt.version,
            intent=self._costs.get("intent", ModelCost()),
            reply=self._costs.get("reply", ModelCost()),
            violations=tuple(sorted(self.violations)),
        )


class _ModelStage:
    """A stage in which the model is asked."""

    def __init__(self, run: ModelRun, name: str, budget: Budget) -> None:
        self._run = run
        self._name = name
        self._budget = budget

    def __enter__(self) -> None:
        self._begin_ns = self._budget.now_ns()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False
        if error is not None:
            self._fail(error)
        end_ns = self._budget.now_ns()
        self._run.stages.append(
            StageReport(
                name=self._name,
                begin_ns=self._begin_ns,
                end_ns=end_ns,
                duration_ns=end_ns - self._begin_ns,
                items_in=0,
                items_out=0,
                outcome=Outcome.OK if error is None else Outcome.FAILED,
                plan=self._run.plan if error is None else self._run.degraded[-1].message,
            )
        )
        return error is not None

    def _fail(self, error: Exception) -> None:
        reason, message = DegradedReason.FAILED, "it failed"
        if isinstance(error, LanguageModelError):
            reason, message = DegradedReason[error.reason], str(error)
            if error.usage is not None:
                self._run.spent(self._name, error.usage, error.cost)
        else:
            logger.error("the %s of a turn failed", self._name, exc_info=error)
        if isinstance(error, ReplyUnfit):
            self._run.violations |= {error.violation}
        self._run.failed.add(self._name)
        self._run.degraded.append(
            Degradation(stage=self._name, reason=reason, message=message, cause=error)
        )
