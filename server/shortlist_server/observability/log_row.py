"""One answered request, as the request log keeps it."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "RecommendRequest": "recommend",
    "RetrieveRequest": "retrieve",
    "RankRequest": "rank",
    "FindSimilarItemsRequest": "find_similar_items",
}
"""Kind of a row by the name of its request's message. A row of a batch and the last list of a
stream are a `recommend`: they are what `Recommend` would have answered.
"""

FIXED_BYTES = 512
"""About what a row takes beside its request, its items and its info."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A request, its answer, and what identifies both."""

    time_ns: int
    """When the answer was ready, in nanoseconds since 1970-01-01 UTC; kept in microseconds."""
    request_id: str
    """As in the answer; hashed or empty where `masked` is for that reason."""
    kind: str
    """A value of `KINDS`."""
    request: bytes
    """The request's message, serialised."""
    masked: tuple[str, ...]
    """Paths of the request's fields that were hashed or left out; empty where it is as sent."""
    item_ids: tuple[str, ...]
    """The answer, best first."""
    scores: tuple[float, ...]
    """float64, bit by bit as answered, parallel to `item_ids`."""
    info: bytes
    """The answer's AnswerInfo, serialised, without `answered_query` and `model_inputs`."""
    bundle_name: str
    bundle_version: str
    bundle_sha256: str
    duration_ns: int
    """From the request's arrival at its handler to the answer, in nanoseconds."""
    cpu: str
    """Type of the CPU that computed; see `machine.cpu_type`."""
    software: str
    """Versions of what computed; see `machine.software`."""

    @property
    def size_bytes(self) -> int:
        """About how large the row is in memory."""
        of_items = sum(map(len, self.item_ids)) + 8 * len(self.scores)
        return FIXED_BYTES + len(self.request) + len(self.info) + of_items
