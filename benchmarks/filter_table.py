"""What filters cost and miss: recall and search time by how many items match, and where they are.

    python benchmarks/filter_table.py          (part of make bench)

Two kinds of filter: on a random attribute, and on one that follows the clusters of the vectors,
such that the matching items are those farthest from the query. Every query has filters of its own.
The variants of one query run one after the other: what else the machine does hits all alike;
each runs twice, first with a filter that nobody has asked for before, then with its mask known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from numpy.typing import NDArray
from shortlist_server.app import Generation, load_generation
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.filter import Filter, IsIn, Range
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query, Vector

ROOT = Path(__file__).resolve().parent.parent
SHARES = (0.5, 0.1, 0.02, 0.001, 0.0)
COUNTS = (100, 500)
QUERIES = 200


@dataclass(slots=True)
class Row:
    """What was measured of one kind of filter."""

    times_us: list[float] = field(default_factory=list)
    first_us: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    plans: Counter[str] = field(default_factory=Counter)


def measure(bundle: Path, queries: int = QUERIES) -> dict[str, Any]:
    """Measure all filters on one bundle."""
    generation = load_generation(bundle)
    vectors = generation.bundle.item_embeddings
    clusters = np.array(generation.bundle.item_columns["cluster"].values)
    centres = synthetic.centres_of(vectors, clusters)
    draw = np.random.default_rng(5)
    points = synthetic.query_points(centres, queries, draw)
    rows: dict[tuple[int, str, float], Row] = {}
    for point in points:
        for k in COUNTS:
            plain = _run(generation, point, k, None)
            base_us = min(_retrieval_us(plain), _retrieval_us(_run(generation, point, k, None)))
            row = rows.setdefault((k, "none", 1.0), Row())
            _note(row, generation, point, k, None, base_us)
            for kind, share, filter_ in _filters(point, centres, clusters, draw):
                row = rows.setdefault((k, kind, share), Row())
                _note(row, generation, point, k, filter_, base_us)
    generation.close()
    return {
        "item_count": len(vectors),
        "dimension": vectors.shape[1],
        "query_count": queries,
        "rows": [
            {
                "k": k,
                "filter": kind,
                "share": share,
                "recall": float(np.mean(row.recalls)),
                "p50_us": float(np.median(row.times_us)),
                "p99_us": float(np.percentile(row.times_us, 99)),
                "first_p50_us": float(np.median(row.first_us)),
                "ratio": float(np.median(row.ratios)),
                "plans": dict(row.plans.most_common()),
            }
            for (k, kind, share), row in rows.items()
        ],
    }


def _filters(
    point: NDArray[np.float32],
    centres: NDArray[np.float32],
    clusters: NDArray[np.int64],
    draw: np.random.Generator,
) -> Iterator[tuple[str, float, Filter]]:
    sizes = np.bincount(clusters, minlength=len(centres))
    far_first = np.argsort(centres @ point, kind="stable")
    for share in SHARES:
        count = int(share * synthetic.DRAW_COUNT)
        low = int(draw.integers(0, synthetic.DRAW_COUNT - count + 1))
        # A share of nothing: values beyond all that there are.
        low += 2 * synthetic.DRAW_COUNT * (not count)
        yield (
            "random",
            share,
            Range(attribute="draw", low=low, high=low + count, high_included=False),
        )
        if share < 1 / len(centres):
            continue  # less than a cluster
        needed = int(np.searchsorted(np.cumsum(sizes[far_first]), share * sizes.sum())) + 1
        values = tuple(int(cluster) for cluster in far_first[:needed])
        yield "far clusters", share, IsIn(attribute="cluster", values=values)


def _note(
    row: Row,
    generation: Generation,
    point: NDArray[np.float32],
    k: int,
    filter_: Filter | None,
    base_us: float,
) -> None:
    row.first_us.append(_retrieval_us(_run(generation, point, k, filter_)))
    answer = _run(generation, point, k, filter_)
    truth = _run(generation, point, k, filter_, exact=True).items.rows
    found = answer.items.rows
    selection = answer.query.allowed.selection
    assert len(found) == len(truth) == min(k, answer.query.allowed.count)
    assert selection is None or selection.mask[found].all()
    row.times_us.append(_retrieval_us(answer))
    row.ratios.append(row.times_us[-1] / base_us)
    row.recalls.append(len(np.intersect1d(found, truth)) / max(1, len(truth)))
    row.plans[_kind(answer.sources[0].plan)] += 1


def _run(
    generation: Generation,
    point: NDArray[np.float32],
    k: int,
    filter_: Filter | None,
    exact: bool = False,
) -> Answer:
    options = Options(limit=k, candidate_count=k, filter=filter_, exact=exact)
    return generation.funnel.retrieve(Query(subject=Vector(values=point)), options, Budget(10))


def _retrieval_us(answer: Answer) -> float:
    return next(stage.duration_ns for stage in answer.stages if stage.name == "retrieval") / 1e3


def _kind(plan: str) -> str:
    for kind in ("over-fetch", "filtered", "hnsw", "none"):
        if kind in plan:
            return kind
    _, scanned, _, size = plan.split()
    return "scan all" if scanned == size else "scan matching"


if __name__ == "__main__":
    print(json.dumps(measure(ROOT / "build/bench/100000x64-2", queries=50), indent=1))
