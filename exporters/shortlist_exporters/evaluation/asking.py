"""What an evaluation asks of a served bundle, however it is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

RATING = "rating"
"""The ranker's output that predicts ratings."""

Done = Callable[[int], None]
"""Told how many users are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How candidates are found."""

    exclude_seen: bool = True
    exact: bool = False
    """Whether every item is compared."""
    ef: int | None = None
    """Search width of the index; with neither this nor `exact` the server chooses."""

    @property
    def text(self) -> str:
        """The search in words."""
        return "exact" if self.exact else f"index, ef={self.ef}" if self.ef else "server's choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What `Rank` says of a user and some items; items that the bundle does not know are not in
    it.
    """

    scores: Mapping[str, float]
    ratings: Mapping[str, float]
    """The ratings that it predicts; empty where it predicts none."""
    known_user: bool


class Served(Protocol):
    """A bundle that answers."""

    name: str
    version: str

    @property
    def degraded_count(self) -> int:
        """Answers so far that a part of the funnel was left out of, as where time was short."""

    def recommend(
        self, users: Sequence[str], limit: int, candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """Return the whole funnel's list for each user, item ids, best first.

        Args:
            users: Their ids.
            limit: 1..500.
            candidate_count: Of each source, `limit` to 4,096.
            search: How they are found.
            done: Is told how many users are done.

        Raises:
            ShortlistError: a user cannot be answered.
        """

    def retrieve(
        self, users: Sequence[str], candidate_count: int, search: Search, done: Done
    ) -> list[list[str]]:
        """Return the candidates alone for each user, item ids, in retrieval's order."""

    def rank(
        self, users: Sequence[str], item_ids: Sequence[Sequence[str]], done: Done
    ) -> list[Scored]:
        """Score items that are named, for each user his own."""
