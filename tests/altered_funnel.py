"""A real funnel with some of its parts wrapped or replaced, and clocks that tests drive."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.options import SourceOptions
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import Found
from shortlist_server.generation import Generation


def kinds_of(generation: Generation) -> dict[str, Any]:
    """The real sources by kind."""
    return dict(generation.funnel._gatherer._kinds)


def altered(
    generation: Generation,
    *,
    kinds: Mapping[str, Any] | None = None,
    sources: tuple[SourceOptions, ...] | None = None,
    shares: Shares | None = None,
    **parts: Any,
) -> Generation:
    """Return the generation with some parts of its funnel replaced.

    Args:
        generation: The real one.
        kinds: Sources by kind that take the place of the real ones, or stand beside them.
        sources: Those of requests that name none.
        shares: How the budget is split.
        parts: `catalog`, `encoder` or `ranker`.
    """
    own = generation.funnel
    shares = shares or Shares()
    encoder = parts.get("encoder", own._encoder)
    stages: dict[str, Any] = {
        "catalog": own._catalog,
        "encoder": encoder,
        "ranker": own._ranker,
        "gatherer": Gatherer(
            {**kinds_of(generation), **(kinds or {})}, encoder, share=shares.sources
        ),
        "sources": own._sources if sources is None else sources,
        "shares": shares,
    }
    return dataclasses.replace(generation, funnel=Funnel(**(stages | parts)))


class SetClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


class TickingClock:
    """A clock that goes on by a nanosecond each time it is read."""

    def __init__(self) -> None:
        self.now_ns = 0
        """What it told last."""

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


class AlteredSource:
    """A real source with something done before it is asked."""

    def __init__(
        self, source: Any, before: Callable[[SourceQuery], None], *, waits: bool = False
    ) -> None:
        self._source = source
        self._before = before
        self.waits = waits
        self.filters: bool = source.filters
        self.call_count = 0

    def skip_reason(self, ask: SourceQuery) -> str:
        return str(self._source.skip_reason(ask))

    def retrieve(self, ask: SourceQuery) -> Found:
        self.call_count += 1
        self._before(ask)
        found: Found = self._source.retrieve(ask)
        return found


def stalled(generation: Generation) -> tuple[Generation, threading.Event, threading.Semaphore]:
    """The generation whose nearest source waits for the event, and tells when it begins."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def wait(ask: Any) -> None:
        begun.release()
        assert gate.wait(timeout=20)

    source = AlteredSource(kinds_of(generation)["nearest"], wait)
    return altered(generation, kinds={"nearest": source}), gate, begun
