"""Embeds texts by a service: no faster than it lets, and again where it was too busy."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.sections import ServiceEmbedder
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmBlocked,
    LlmOverloaded,
    LlmTimeout,
)
from shortlist_server.llm.make import ProviderName, make_embedding_provider, text_space
from shortlist_server.llm.provider import EmbedderOptions

TRIES_MAX = 10
"""How often one request is made: with the pauses below, a service may be away for minutes."""
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 60.0
"""Pause before a request is made again where the service names none; it doubles with each."""
TIMEOUT_S = 120.0
"""Time for one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Which service embeds, and how it is asked."""

    provider: ProviderName
    options: EmbedderOptions
    requests_per_minute: float | None = None
    """Most requests in a minute; None for no bound of one's own."""

    @property
    def identity(self) -> str:
        """As the server has it."""
        return f"{self.space.api}/{self.options.model}/{self.options.dimension}"

    @property
    def space(self) -> ServiceEmbedder:
        """What the points depend on, beside their dimension."""
        options = self.options
        return text_space(
            self.provider,
            model=options.model,
            query_prefix=options.query_prefix,
            item_prefix=options.item_prefix,
        )


class PatientEmbedder:
    """Embeds by a service, which may say that it is asked too often."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            settings: Which service, and how.
            sleep: Lets seconds pass.
            clock: Seconds.
        """
        options = settings.options
        self.dimension = options.dimension
        self.together = options.texts_max
        """Texts of one request."""
        # Points that another run has left behind are the same only if all of this is.
        self.identity = json.dumps(
            [
                settings.identity,
                settings.space.model_dump(),
                options.base_url,
                options.ask_dimension,
                options.text_characters_max,
            ]
        )
        per_minute = settings.requests_per_minute
        self._interval_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._sleep = sleep
        self._clock = clock
        self._next_at = 0.0
        self._answered = False
        self._service = EmbeddingService(
            lambda observer: make_embedding_provider(settings.provider, options),
            identity=settings.identity,
            dimension=options.dimension,
            space=settings.space,
        )

    def embed_now(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> NDArray[np.float32]:
        """Return a point at unit length for each text, float32 [n, dimension].

        Args:
            texts: The texts.
            kind: What they are.
            deadline_s: Longest that one request may take, in seconds; waiting does not count.

        Raises:
            LanguageModelError: the service does not answer, or not with points.
            MissingExtra: the provider's SDK is not installed.
        """
        for tried in range(1, TRIES_MAX + 1):
            self._pace()
            try:
                points = self._service.embed_now(
                    texts, kind=kind, deadline_s=min(deadline_s, TIMEOUT_S)
                )
            except LanguageModelError as error:
                pause_s = self._pause_s(error, tried)
                if pause_s is None or tried == TRIES_MAX:
                    raise
                print(f"{error}; again in {pause_s:.1f} s", file=sys.stderr, flush=True)
                self._sleep(pause_s)
            else:
                self._answered = True
                return points
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _pace(self) -> None:
        now = self._clock()
        if now < self._next_at:
            self._sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._interval_s

    def _pause_s(self, error: LanguageModelError, tried: int) -> float | None:
        """Return when it is worth asking again, in seconds; None if it is not."""
        pause_s = min(PAUSE_S_MIN * 2.0 ** (tried - 1), PAUSE_S_MAX)
        if isinstance(error, LlmOverloaded):
            return max(pause_s, error.retry_delay_s or 0.0)
        if isinstance(error, LlmBlocked):
            return None
        # What has never answered is set up wrongly: a key, a name, an address, a dimension.
        return pause_s if self._answered or isinstance(error, LlmTimeout) else None
