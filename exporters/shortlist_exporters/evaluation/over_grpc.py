"""A bundle that a server serves, over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from shortlist_client import Client, RecommendRequest, ShortlistError

from shortlist_exporters.errors import ExportError
from shortlist_exporters.evaluation.asking import RATING, Done, Scored, Search

TIMEOUT_S = 60.0
BATCH_TIMEOUT_S = 600.0
BATCH_ROWS = 256
P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class OverGrpc:
    """What a server answers; `Recommend` in batches, the others one by one."""

    def __init__(self, target: str) -> None:
        """Find out what a server serves.

        Raises:
            ExportError: it cannot be reached, or refuses to say.
        """
        self._target = target
        self._client = Client(target, timeout_s=TIMEOUT_S)
        self.degraded_count = 0
        label = self._told(self._client.get_active_bundle).id
        self.name, self.version = label.name, label.version

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def recommend(
        self, users: Sequence[str], limit: int, candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """See `Served`."""
        lists: list[list[str]] = []
        for begin in range(0, len(users), BATCH_ROWS):
            requests = [
                RecommendRequest(
                    user=user,
                    limit=limit,
                    candidate_count=candidate_count,
                    exclude_seen=search.exclude_seen,
                    exact=search.exact,
                    ef=search.ef,
                )
                for user in users[begin : begin + BATCH_ROWS]
            ]
            lists += self._told(self._batch, requests)
            done(len(lists))
        return lists

    def _batch(self, requests: list[RecommendRequest]) -> list[list[str]]:
        lists: list[list[str]] = [[] for _ in requests]
        with self._client.recommend_batch(requests, timeout_s=BATCH_TIMEOUT_S) as rows:
            for index, answer in rows:
                if isinstance(answer, ShortlistError):
                    raise answer
                lists[index] = [item.id for item in answer.items]
                self.degraded_count += bool(answer.info.degraded)
        return lists

    def retrieve(
        self, users: Sequence[str], candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """See `Served`."""
        lists = []
        for user in users:
            found = self._told(
                self._client.retrieve,
                user=user,
                candidate_count=candidate_count,
                exclude_seen=search.exclude_seen,
                exact=search.exact,
                ef=search.ef,
            )
            lists.append([item.id for item in found.items])
            self.degraded_count += bool(found.info.degraded)
            done(len(lists))
        return lists

    def rank(
        self, users: Sequence[str], item_ids: Sequence[Sequence[str]], done: Done
    ) -> list[Scored]:
        """See `Served`."""
        scored = []
        for user, items in zip(users, item_ids, strict=True):
            answer = self._told(self._client.rank, user=user, item_ids=items)
            self.degraded_count += bool(answer.info.degraded)
            scored.append(
                Scored(
                    scores={item.id: item.score for item in answer.items},
                    ratings={
                        item.id: item.outputs[RATING]
                        for item in answer.items
                        if RATING in item.outputs
                    },
                    known_user=not answer.info.cold_start,
                )
            )
            done(len(scored))
        return scored

    def _told(self, ask: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        try:
            return ask(*args, **kwargs)
        except ShortlistError as error:
            raise ExportError(f"{self._target}: {error}") from error
