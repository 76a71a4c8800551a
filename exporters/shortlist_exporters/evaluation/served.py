"""Evaluation through the server: what is measured is what is served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from shortlist_client import Client

from shortlist_exporters.errors import ExportError
from shortlist_exporters.progress import step

CUTOFFS = (1, 5, 10, 50, 100)
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well a bundle predicts ratings that it was not trained on."""

    bundle: str
    search: str
    """`exact`, `index` or `server's choice`."""
    seen_excluded: bool
    pair_count: int
    """Number of test pairs of user and item."""
    unknown_count: int
    """Pairs whose user or item the bundle does not know; they count as misses."""
    retrieve_hits: dict[int, float]
    """By k: share of the pairs whose item is among the first k that `Retrieve` gives for the
    user.
    """
    recommend_hits: dict[int, float]
    """The same for `Recommend`, with as many candidates as items wanted: k is the whole list."""
    rating_rmse: float | None
    """Root mean squared error of the ratings that `Rank` predicts; None without a ranker or
    ratings.
    """

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return asdict(self)


@contextmanager
def serving(bundle: Path) -> Iterator[str]:
    """Serve a bundle in a process of its own, as `shortlist-server serve` does.

    Yields:
        The address of the server.

    Raises:
        ExportError: the server did not start; its own words are on standard error.
    """
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line.startswith("ready on port "):
                raise ExportError(f"{bundle}: the server did not start: see its message above")
            yield f"127.0.0.1:{int(line.rsplit(maxsplit=1)[-1])}"
        finally:
            server.terminate()


def evaluate(
    bundle: Path,
    test: pa.Table,
    *,
    exclude_seen: bool = True,
    exact: bool = False,
    ef: int | None = None,
) -> Evaluation:
    """Measure a bundle on held-out interactions, over gRPC.

    A hit at k is a test pair whose item is among the first k for its user, every item of the
    catalogue being eligible (but the seen ones, where they are excluded). This is what TensorFlow
    Recommenders calls factorized top-k accuracy.

    Args:
        bundle: The bundle's folder.
        test: `user_id`, `item_id` strings and `rating` (null where there is none).
        exclude_seen: Whether items that the user has seen in training are left out of the lists.
        exact: Whether retrieval compares every item.
        ef: Search width of the index; with neither this nor `exact` the server chooses.
    """
    wanted = max(CUTOFFS)
    search: dict[str, Any] = {"exact": exact, "ef": ef, "exclude_seen": exclude_seen}
    pairs = _by_user(test)
    ranks: dict[str, list[int]] = {"retrieve": [], "recommend": []}
    errors: list[float] = []
    unknown = 0
    with serving(bundle) as target, Client(target, timeout_s=TIMEOUT_S) as client:
        active = client.get_active_bundle()
        predicts = "rating" in active.ranker_outputs
        with step("evaluate users", len(pairs)) as done:
            for number, (user, items) in enumerate(pairs.items()):
                names = [item for item, _ in items]
                retrieved = client.retrieve(user=user, candidate_count=wanted, **search)
                ranks["retrieve"] += _ranks(names, [item.id for item in retrieved.items])
                final = client.recommend(user=user, limit=wanted, candidate_count=wanted, **search)
                ranks["recommend"] += _ranks(names, [item.id for item in final.items])
                scored = client.rank(user=user, item_ids=names)
                unknown += len(names) if scored.info.cold_start else len(scored.unknown_item_ids)
                if predicts:
                    predicted = {item.id: item.outputs["rating"] for item in scored.items}
                    errors += [
                        predicted[item] - rating
                        for item, rating in items
                        if rating is not None and item in predicted
                    ]
                done(number + 1)
    return Evaluation(
        bundle=f"{active.id.name} {active.id.version}",
        search="exact" if exact else f"index, ef={ef}" if ef else "server's choice",
        seen_excluded=exclude_seen,
        pair_count=len(test),
        unknown_count=unknown,
        retrieve_hits=_hits(ranks["retrieve"]),
        recommend_hits=_hits(ranks["recommend"]),
        rating_rmse=float(np.sqrt(np.mean(np.square(errors)))) if errors else None,
    )


def _by_user(test: pa.Table) -> dict[str, list[tuple[str, float | None]]]:
    pairs: dict[str, list[tuple[str, float | None]]] = {}
    columns = (test[name].to_pylist() for name in ("user_id", "item_id", "rating"))
    for user, item, rating in zip(*columns, strict=True):
        pairs.setdefault(user, []).append((item, rating))
    return pairs


def _ranks(wanted: Sequence[str], found: Sequence[str]) -> list[int]:
    """Return the place of each wanted item in the list, 0 for the first; a very large one where it
    is not there.
    """
    places = {item: place for place, item in enumerate(found)}
    return [places.get(item, sys.maxsize) for item in wanted]


def _hits(ranks: Sequence[int]) -> dict[int, float]:
    return {cutoff: float(np.mean([rank < cutoff for rank in ranks])) for cutoff in CUTOFFS}
