"""What the service asks of a language model and of a text embedder. Providers live beside this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from shortlist_server.errors import ShortlistError
from shortlist_server.funnel.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One part of what a model is told."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """What a call cost, in the model's own tokens; 0 where the provider does not say."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered."""

    value: Mapping[str, Any]
    """The object, valid by the schema that was asked for."""
    usage: TokenUsage
    cost: float = 0.0
    """What it cost, in the currency of the configured prices; 0 where they are not known."""
    cached: bool = False
    """Whether it was answered before, and cost nothing now."""


class LanguageModelError(ShortlistError):
    """A language model or a text embedder gave no answer that can be used.

    Neither the message nor an attribute holds a key, or what was asked.

    Attributes:
        reason: Why, as stage reports and metrics name it.
        usage: What the attempt cost; None if nobody says.
        cost: The same in the currency of the configured prices; 0 where they are not known.
    """

    reason: ClassVar[str]

    def __init__(self, message: str, *, usage: TokenUsage | None = None) -> None:
        super().__init__(message)
        self.usage = usage
        self.cost = 0.0


class LlmTimeout(LanguageModelError):
    """It had not answered when its time was over."""

    reason = "LLM_TIMEOUT"


class LlmUnavailable(LanguageModelError):
    """It cannot be reached, refuses calls, or failed."""

    reason = "LLM_UNAVAILABLE"


class LlmOverloaded(LlmUnavailable):
    """It has too much to do, or the caller asks too often: the same call may succeed later.

    Attributes:
        retry_delay_s: When it says that it is worth coming back, in seconds; None if it does not.
    """

    def __init__(self, message: str, *, retry_delay_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_delay_s = retry_delay_s


class LlmBreakerOpen(LanguageModelError):
    """It has failed often of late, and is not asked for a while.

    Attributes:
        retry_delay_s: How long, in seconds.
    """

    reason = "LLM_BREAKER_OPEN"

    def __init__(self, message: str, *, retry_delay_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_delay_s = retry_delay_s


class LlmBudgetExceeded(LanguageModelError):
    """There is no time, no money or no place among the calls under way left for this call."""

    reason = "LLM_BUDGET_EXCEEDED"


class LlmNotAllowed(LanguageModelError):
    """The caller may not have it asked."""

    reason = "LLM_NOT_ALLOWED"


class LlmBlocked(LanguageModelError):
    """The provider's safety filter held the answer back."""

    reason = "LLM_BLOCKED"


class LlmInvalidOutput(LanguageModelError):
    """The answer is not an object of the schema, or was cut off."""

    reason = "LLM_INVALID_OUTPUT"


class LanguageModel(Protocol):
    """Answers messages with an object of a JSON schema, or with text."""

    @property
    def identity(self) -> str:
        """Provider and model, as `gemini/gemini-2.5-flash`: what answers may be cached under."""

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        *,
        deadline_s: float,
        prompt_version: str = "",
        usable: Callable[[Mapping[str, Any]], bool] = lambda value: True,
    ) -> Completion:
        """Return an object of a schema.

        Args:
            messages: What to answer, oldest first.
            schema: JSON schema (2020-12) of the object.
            deadline_s: Time from now until the answer is no use any more, in seconds. The call
                has ended by then, whatever the provider does.
            prompt_version: Which template the messages were made from. Answers are cached by it,
                beside the messages.
            usable: Whether an object is of any use, beyond its schema. One that is not is returned,
                too, but not kept: who asks again may get a better one.

        Raises:
            LanguageModelError: there is none; its class says why.
        """

    def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_cost: Callable[[TokenUsage, float], None] = lambda usage, cost: None,
    ) -> AsyncIterator[str]:
        """Yield text as it is written, piece by piece.

        Args:
            messages: What to answer, oldest first.
            deadline_s: Time from now until the text is no use any more, in seconds.
            on_cost: Told once, when it has ended, failed, or is read no further: in tokens, and in
                the currency of the configured prices.

        Raises:
            LanguageModelError: it ended before its end; its class says why.
        """


class TextEmbedder(Protocol):
    """Turns texts into points: near where they mean alike."""

    @property
    def identity(self) -> str:
        """Provider, model and version: points of another identity are of another space."""

    @property
    def dimension(self) -> int:
        """Number of components."""

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point at unit length for each text, float32 [n, dimension].

        Args:
            texts: The texts, 0 or more; what is longer than the model takes is cut.
            kind: What they are: some models embed what is searched for otherwise than what is
                found.
            deadline_s: Time from now until the answer is no use any more, in seconds.

        Raises:
            LanguageModelError: there is none; its class says why.
        """
