"""What filters cost and miss: recall and search time by how many items match, and where they are.

    python benchmarks/filter_table.py          (part of make bench)

Two kinds of filter: on a random attribute, and on one that follows the clusters of the vectors,
such that the matching items are those farthest from the query. Every query has filters of its own.
For each query all variants run once, which finds the items that match ("first use"), and once
exactly, for the recall; then once each in random order, which is the time in the table: what else
the machine does, and what is left in its caches, hits all alike.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import synthetic
from numpy.typing import NDArray
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.filter import Filter, IsIn, Range
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query, Vector
from shortlist_server.generation import Generation, load_generation

SHARES = (0.5, 0.1, 0.02, 0.001, 0.0)
COUNTS = (100, 500)
QUERIES = 200


@dataclass(slots=True)
class Row:
    """What was measured of one kind of filter."""

    times_us: list[float] = field(default_factory=list)
    first_us: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    plans: Counter[str] = field(default_factory=Counter)


Variant = tuple[int, str, float]
"""k, the kind of the filter, and the share of the items that match."""


def measure(bundle: Path, queries: int = QUERIES) -> dict[str, Any]:
    """Measure all filters on one bundle."""
    generation = load_generation(bundle)
    vectors = generation.bundle.item_embeddings
    clusters = np.array(generation.bundle.item_columns["cluster"].values)
    centres = synthetic.centres_of(vectors, clusters)
    draw = np.random.default_rng(5)
    rows: dict[Variant, Row] = {}
    for point in synthetic.query_points(centres, queries, draw):
        filters: list[tuple[str, float, Filter | None]] = [("none", 1.0, None)]
        filters += _filters(point, centres, clusters, draw)
        variants = {(k, kind, share): f for k in COUNTS for kind, share, f in filters}
        _measure_query(generation, point, variants, rows, draw)
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
                "ratio": float(np.median(row.times_us) / np.median(rows[k, "none", 1.0].times_us)),
                "plans": dict(row.plans.most_common()),
            }
            for (k, kind, share), row in rows.items()
        ],
    }


def _measure_query(
    generation: Generation,
    point: NDArray[np.float32],
    variants: dict[Variant, Filter | None],
    rows: dict[Variant, Row],
    draw: np.random.Generator,
) -> None:
    truths = {}
    for variant, filter_ in variants.items():
        row = rows.setdefault(variant, Row())
        row.first_us.append(_retrieval_us(_run(generation, point, variant[0], filter_)))
        truths[variant] = _run(generation, point, variant[0], filter_, exact=True).items.rows
    order = list(variants)
    for number in draw.permutation(len(order)):
        variant = order[number]
        answer = _run(generation, point, variant[0], variants[variant])
        row, found, truth = rows[variant], answer.items.rows, truths[variant]
        allowed = answer.query.allowed
        assert len(found) == len(truth) == min(variant[0], allowed.count)
        assert allowed.selection is None or allowed.selection.mask[found].all()
        row.times_us.append(_retrieval_us(answer))
        row.recalls.append(len(np.intersect1d(found, truth)) / len(truth) if len(truth) else 1.0)
        row.plans[_kind(answer.sources[0].plan)] += 1


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


def main() -> None:
    """Print the table of one size."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    found = measure(synthetic.bundle(size, 64), queries=60)
    for row in found["rows"]:
        print(
            f"k={row['k']} {row['filter']:12} {row['share']:6.1%} recall {row['recall']:.3f} "
            f"p50 {row['p50_us']:5.0f} p99 {row['p99_us']:5.0f} first {row['first_p50_us']:5.0f}  "
            f"{row['ratio']:.2f}x {row['plans']}"
        )


if __name__ == "__main__":
    main()
