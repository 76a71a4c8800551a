"""A bundle served within this process: the server's own generation and funnel, without a socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query, User
from shortlist_server.generation import load_generation

from shortlist_exporters.evaluation.asking import RATING, Done, Scored, Search

TIMEOUT_S = 60.0
AskedT = TypeVar("AskedT")
ResultT = TypeVar("ResultT")


class InProcess:
    """The funnel of a bundle, asked by as many threads as there are processors."""

    def __init__(self, folder: Path) -> None:
        """Load a bundle.

        Raises:
            BundleError: it is missing, damaged, or its numbers are not those of training.
        """
        self._generation = load_generation(folder)
        self._funnel = self._generation.funnel
        self._item_ids = self._generation.items.item_ids
        manifest = self._generation.bundle.manifest
        self.name, self.version = manifest.name, manifest.version
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._degraded: list[str] = []

    @property
    def degraded_count(self) -> int:
        """See `Served`."""
        return len(self._degraded)

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()
        self._generation.close()

    def recommend(
        self, users: Sequence[str], limit: int, candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """See `Served`."""
        options = _options(limit, candidate_count, search)
        return self._each(
            lambda user: self._ids(self._funnel.recommend(_query(user), options, _budget())),
            users,
            done,
        )

    def retrieve(
        self, users: Sequence[str], candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """See `Served`."""
        options = _options(candidate_count, candidate_count, search)
        return self._each(
            lambda user: self._ids(self._funnel.retrieve(_query(user), options, _budget())),
            users,
            done,
        )

    def rank(
        self, users: Sequence[str], item_ids: Sequence[Sequence[str]], done: Done
    ) -> list[Scored]:
        """See `Served`."""
        return self._each(self._scored, list(zip(users, item_ids, strict=True)), done)

    def _scored(self, asked: tuple[str, Sequence[str]]) -> Scored:
        user, item_ids = asked
        options = Options(limit=len(item_ids))
        answer = self._funnel.rank(_query(user), item_ids, options, _budget())
        ids = self._ids(answer)
        ratings = answer.items.outputs.get(RATING)
        return Scored(
            scores=dict(zip(ids, answer.items.scores.tolist(), strict=True)),
            ratings={} if ratings is None else dict(zip(ids, ratings.tolist(), strict=True)),
            known_user=answer.cold_start is None,
        )

    def _ids(self, answer: Answer) -> list[str]:
        self._degraded += [one.stage for one in answer.degraded[:1]]
        return [self._item_ids[row] for row in answer.items.rows.tolist()]

    def _each(
        self, ask: Callable[[AskedT], ResultT], asked: Sequence[AskedT], done: Done
    ) -> list[ResultT]:
        results = []
        for result in self._pool.map(ask, asked):
            results.append(result)
            done(len(results))
        return results


def _query(user: str) -> Query:
    return Query(subject=User(id=user))


def _budget() -> Budget:
    return Budget(TIMEOUT_S)


def _options(limit: int, candidate_count: int, search: Search) -> Options:
    return Options(
        limit=limit,
        candidate_count=candidate_count,
        exclude_seen=search.exclude_seen,
        exact=search.exact,
        ef=search.ef,
    )
