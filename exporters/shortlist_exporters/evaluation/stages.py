"""What each stage of the funnel costs: from every item compared to the list that is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shortlist_exporters.evaluation.holdout import Holdout, Integers
from shortlist_exporters.evaluation.list_metrics import pair_hit, ranks
from shortlist_exporters.evaluation.measures import Measure

AMONG_ALL = "hit_among_all"
"""Name of the share of the pairs that are anywhere among the candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLists:
    """The lists of each stage, [users, length] each."""

    exact: Integers
    """Retrieval that compares every item."""
    index: Integers
    """Retrieval by the index alone."""
    candidates: Integers
    """Retrieval as it is served: what ranking is given."""
    served: Integers
    """What comes out at the end."""


def stage_measures(
    lists: StageLists, holdout: Holdout, cutoffs: Sequence[int]
) -> dict[str, dict[str, Measure]]:
    """Return by stage the share of the pairs among the first k, and of retrieval among all that it
    found.

    The stages are `exact`, `index`, `candidates` and `served` as in `StageLists`, and
    `best_ranking`: what a ranker that never errs would make of the candidates, which no ranker
    surpasses.
    """
    found = {
        stage: _hits(retrieved, holdout, cutoffs)
        | {AMONG_ALL: _pair_hit(retrieved, holdout, retrieved.shape[1])}
        for stage, retrieved in (
            ("exact", lists.exact),
            ("index", lists.index),
            ("candidates", lists.candidates),
        )
    }
    found["served"] = _hits(lists.served, holdout, cutoffs)
    among = found["candidates"][AMONG_ALL]
    found["best_ranking"] = {
        f"hit_at_{k}": Measure(
            numerators=np.minimum(among.numerators, k), denominators=among.denominators
        )
        for k in cutoffs
    }
    return found


def index_recall(exact: Integers, index: Integers) -> Measure:
    """Return the share of what exact retrieval finds that the index finds, over all users."""
    wanted = (exact >= 0).sum(axis=1).astype(np.float64)
    found = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(exact, index, strict=True)]
    return Measure(numerators=np.array(found, np.float64), denominators=wanted)


def _hits(lists: Integers, holdout: Holdout, cutoffs: Sequence[int]) -> dict[str, Measure]:
    return {f"hit_at_{k}": _pair_hit(lists, holdout, k) for k in cutoffs}


def _pair_hit(lists: Integers, holdout: Holdout, k: int) -> Measure:
    return pair_hit(ranks(lists, holdout.offsets, holdout.items), holdout.offsets, k)
