"""What every provider has beside what it is asked for, and how its failures become errors of ours.

SDKs raise what they like, and their messages repeat keys and prompts. So an error of ours is made
of the kind of failure alone, and is raised after the SDK's was let go: nothing hangs on to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.answer import cut, unit_points
from shortlist_server.llm.credentials import ApiKey
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModelError,
    LlmBlocked,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    LlmUnavailable,
    Message,
    TextEmbedder,
    TokenUsage,
)

T = TypeVar("T")
Explain = Callable[[Exception], LanguageModelError]
"""Makes an error of ours of one of an SDK's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How a language model is asked."""

    model: str
    """The provider's name of it."""
    base_url: str | None = None
    """Where the service is; None for the provider's own."""
    key: ApiKey | None = None
    temperature: float | None = 0.0
    """0 answers as much alike as the model can; None sends none."""
    output_tokens_max: int = 2_048
    """What it thinks counts, too."""
    thinking_tokens: int | None = None
    """Most that it may think, in tokens; None leaves it to the model. Gemini alone."""
    answer_bytes_max: int = 1 << 20
    """A response of more bytes is given up."""
    connections_max: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderOptions:
    """How a text embedder is asked."""

    model: str
    dimension: int
    base_url: str | None = None
    key: ApiKey | None = None
    ask_dimension: bool = True
    """Whether the service is asked for points of this dimension; else it must be the model's."""
    query_prefix: str = ""
    item_prefix: str = ""
    """What some models want before a text, as `query: `."""
    text_characters_max: int = 8_000
    """Longer texts are cut."""
    texts_max: int = 100
    """Most texts of one request; more go in several."""
    answer_bytes_max: int = 32 << 20
    connections_max: int = 16


class Provider(Protocol):
    """A language model with nothing around it: it keeps no answers, says what streams cost, and
    can be closed.
    """

    @property
    def identity(self) -> str:
        """Provider and model; see `LanguageModel.identity`."""

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        *,
        deadline_s: float,
        prompt_version: str = "",
    ) -> Completion:
        """Return an object of a schema; see `LanguageModel.complete`."""

    def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_usage: Callable[[TokenUsage], None] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield text as it is written; `on_usage` learns what it cost, if the provider says."""

    async def close(self) -> None:
        """Close the connections."""


class EmbeddingProvider(TextEmbedder, Protocol):
    """A text embedder that can be closed."""

    async def close(self) -> None:
        """Close the connections."""


async def ask(call: Callable[[], Awaitable[T]], explain: Explain, *, deadline_s: float) -> T:
    """Await a call of an SDK until a deadline.

    Raises:
        LanguageModelError: it failed, or was cancelled at the deadline.
    """
    failure: LanguageModelError
    try:
        async with asyncio.timeout(deadline_s):
            return await call()
    except LanguageModelError:
        raise
    except TimeoutError:
        failure = LlmTimeout(f"no answer within {deadline_s * 1e3:.0f} ms")
    except Exception as error:  # each SDK has its own
        failure = explain(error)
    raise failure


async def ask_stream(
    pieces: AsyncGenerator[str, None], explain: Explain, *, deadline_s: float
) -> AsyncGenerator[str, None]:
    """Yield the pieces of a stream of an SDK until a deadline.

    Raises:
        LanguageModelError: it failed, or was cancelled at the deadline.
    """
    until = asyncio.get_running_loop().time() + deadline_s
    async with contextlib.aclosing(pieces):
        while True:
            failure: LanguageModelError | None = None
            try:
                # Not around the loop: it would cancel whoever reads, while they read.
                async with asyncio.timeout_at(until):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except LanguageModelError:
                raise
            except TimeoutError:
                failure = LlmTimeout(f"no whole answer within {deadline_s * 1e3:.0f} ms")
            except Exception as error:  # each SDK has its own
                failure = explain(error)
            if failure is not None:
                raise failure
            if piece:
                yield piece


async def embed_parts(
    texts: Sequence[str],
    kind: Literal["query", "item"],
    call: Callable[[list[list[str]]], Awaitable[Sequence[Sequence[float]]]],
    explain: Explain,
    *,
    options: EmbedderOptions,
    deadline_s: float,
) -> Floats:
    """Return what an SDK makes of texts, at unit length, float32 [n, dimension].

    Args:
        texts: The texts, 0 or more.
        kind: What they are.
        call: Returns the points of all texts, which come as they are sent, in parts of which each
            is one request.
        explain: Makes an error of ours of one of the SDK's.
        options: How the embedder is asked.
        deadline_s: Time from now, in seconds.

    Raises:
        LanguageModelError: there is none; its class says why.
    """
    prefix = options.query_prefix if kind == "query" else options.item_prefix
    sent = cut(texts, prefix, options.text_characters_max)
    if not sent:
        return np.zeros((0, options.dimension), np.float32)
    starts = range(0, len(sent), options.texts_max)
    parts = [sent[start : start + options.texts_max] for start in starts]
    found = await ask(lambda: call(parts), explain, deadline_s=deadline_s)
    return unit_points(found, len(sent), options.dimension)


def check_end(
    identity: str, end: str | None, usage: TokenUsage, *, finished: str, blocked: Collection[str]
) -> None:
    """Return if an answer ended by itself.

    Args:
        identity: Whose it is.
        end: Why it ended, in the service's word; None where it does not say.
        usage: What it cost.
        finished: The word for an end by itself.
        blocked: Those for answers that a filter held back.

    Raises:
        LlmBlocked: it was held back.
        LlmInvalidOutput: it ended otherwise.
    """
    if end in blocked:
        raise LlmBlocked(f"{identity}: the answer was held back", usage=usage)
    if end != finished:
        problem = "has no end" if end is None else "was cut off"
        raise LlmInvalidOutput(f"{identity}: the answer {problem}", usage=usage)


def failure_of_status(
    identity: str, status: int, retry_delay_s: float | None = None
) -> LanguageModelError:
    """Return the error for an HTTP status other than success."""
    if status in (429, 503):
        problem = "it is asked too often" if status == 429 else "it has too much to do"
        return LlmOverloaded(
            f"{identity}: {problem} (HTTP status {status})", retry_delay_s=retry_delay_s
        )
    if status in (408, 504):
        return LlmTimeout(f"{identity}: it gave up (HTTP status {status})")
    hint = {
        400: "; check the model's name and the key",
        401: "; check the key",
        403: "; check the key, and what it may ask",
        404: "; check the model's name and base_url",
    }.get(status, "")
    return LlmUnavailable(f"{identity}: it answered with HTTP status {status}{hint}")


def retry_delay(header: str | None, details: object = None) -> float | None:
    """Return when a service says that it is worth coming back, in seconds; None if it does not.

    Args:
        header: Of `Retry-After`: seconds, or a date.
        details: The body of a Google API's error, which may hold a RetryInfo.
    """
    error = details.get("error", details) if isinstance(details, dict) else {}
    infos = (error.get("details") or []) if isinstance(error, dict) else []
    delays = [
        _seconds(str(info.get("retryDelay", "")).removesuffix("s"))
        for info in infos
        if isinstance(info, dict) and str(info.get("@type", "")).endswith("RetryInfo")
    ]
    known = [delay for delay in (*delays, _seconds(header or "")) if delay is not None]
    return max(known) if known else None


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def quiet(*loggers: str) -> None:
    """Let SDKs log no requests: they hold what users said."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
