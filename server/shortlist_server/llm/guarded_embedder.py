"""A text embedder that can break, delay or cost no request more than it may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.answer_cache import AnswerCache, cache_key
from shortlist_server.llm.cost import HourBudget, estimated_tokens
from shortlist_server.llm.guard import Flight, Guard, GuardOptions
from shortlist_server.llm.language_model import TokenUsage
from shortlist_server.llm.observer import LlmObserver
from shortlist_server.llm.provider import EmbeddingProvider


class GuardedTextEmbedder:
    """A text embedder around another, guarded as `GuardedLanguageModel` is.

    Points are kept text by text. What they cost is estimated, since not every service says.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        options: GuardOptions,
        *,
        cache: AnswerCache,
        budget: HourBudget,
        observer: LlmObserver | None = None,
        settings: str = "",
    ) -> None:
        """Guard a provider; see `GuardedLanguageModel`."""
        self._provider = provider
        self._cache = cache
        self._settings = settings
        self._guard = Guard(provider.identity, options, budget=budget, observer=observer)

    @property
    def identity(self) -> str:
        """Provider, model and dimension."""
        return self._provider.identity

    @property
    def dimension(self) -> int:
        """Number of components."""
        return self._provider.dimension

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point for each text; see `TextEmbedder.embed`."""
        keys = [cache_key(self.identity, self._settings, kind, text) for text in texts]
        if not keys:
            return np.zeros((0, self.dimension), np.float32)

        async def work(flight: Flight) -> tuple[Floats, bool]:
            return await self._embed(flight, texts, keys, kind)

        with self._guard.counted() as counted:
            points, cached = await self._guard.together(
                cache_key(*[key.hex() for key in keys]), work, deadline_s=deadline_s
            )
            counted.outcome = "CACHED" if cached else "OK"
        # Each caller's own: others may have joined.
        return points.copy()

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        await self._guard.close()
        await self._provider.close()
        await self._cache.close()

    async def _embed(
        self,
        flight: Flight,
        texts: Sequence[str],
        keys: Sequence[bytes],
        kind: Literal["query", "item"],
    ) -> tuple[Floats, bool]:
        """Return the points, and whether all were kept."""
        size = 4 * self.dimension
        kept = [
            value if value is not None and len(value) == size else None
            for value in await self._cache.get(keys)
        ]
        missing = [place for place, value in enumerate(kept) if value is None]
        self._guard.observer.llm_looked_up(self.identity, len(keys) - len(missing), len(missing))
        points = (
            np.frombuffer(b"".join(value or bytes(size) for value in kept), dtype="<f4")
            .reshape(len(keys), self.dimension)
            .astype(np.float32)
        )
        if missing:
            asked = [texts[place] for place in missing]
            tokens = estimated_tokens(asked)
            found, _ = await self._guard.attempt(
                flight,
                lambda: self._provider.embed(asked, kind=kind, deadline_s=self._guard.timeout_s),
                usage_of=lambda _: TokenUsage(input_tokens=tokens),
                input_tokens=tokens,
            )
            points[missing] = found
            entries = {
                keys[place]: row.astype("<f4").tobytes()
                for place, row in zip(missing, found, strict=True)
            }
            self._guard.later(self._cache.put(entries))
        return points, not missing
