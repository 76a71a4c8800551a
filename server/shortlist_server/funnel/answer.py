"""What an answer says of itself: why it is short, how cold the start was, what the models saw."""

from __future__ import annotations

from shortlist_server.funnel.options import Options
from shortlist_server.funnel.select import Order
from shortlist_server.funnel.stages import QueryEncoder, Ranker
from shortlist_server.funnel.types import (
    Candidates,
    ColdStartBasis,
    EncodedQuery,
    Explanation,
    Outcome,
    Ranking,
    ResolvedQuery,
    Shortfall,
    ShortList,
)


def cold_start_basis(resolved: ResolvedQuery, encoded: EncodedQuery) -> ColdStartBasis | None:
    """Return what an unknown user was answered from; None where the user is known."""
    if not resolved.cold_start:
        return None
    if encoded.embedding is None:
        return ColdStartBasis.NOTHING
    described = any(name.startswith("user.") for name in resolved.features)
    if encoded.source == "history" or not described:
        return ColdStartBasis.HISTORY
    return ColdStartBasis.FEATURES


def most_candidates(resolved: ResolvedQuery, candidates: Candidates, options: Options) -> int:
    """Return how many candidates the sources that were asked may give together."""
    if len(candidates.reports) > len(resolved.sources):
        return options.candidate_count  # popularity, in place of sources that do not apply
    return sum(source.candidate_count or options.candidate_count for source in resolved.sources)


def shortfall(
    candidates: Candidates, order: Order, resolved: ResolvedQuery, found: int, wanted: int
) -> Shortfall | None:
    """Return why there are fewer items than wanted, the first reason on the way; None where there
    are as many.
    """
    if found >= wanted:
        return None
    count = len(candidates.rows)
    if count < wanted:
        # Not by what was found: pinned items are there without any source.
        if not any(report.outcome is Outcome.OK for report in candidates.reports):
            return Shortfall.POPULARITY_EXHAUSTED
        if count < resolved.allowed.count:
            return Shortfall.SOURCES_EXHAUSTED
        if resolved.allowed.selection is not None:
            return Shortfall.FILTER_EXHAUSTED
        return Shortfall.CATALOG_EXHAUSTED
    return Shortfall.SCORE_MIN if len(order.places) < wanted else Shortfall.CAPS


def explanation(
    resolved: ResolvedQuery,
    encoded: EncodedQuery,
    items: ShortList,
    ranking: Ranking,
    encoder: QueryEncoder,
    ranker: Ranker | None,
) -> Explanation:
    """Return what was fed to the models: made again for the items of the answer, by the same
    functions that fed them.
    """
    requests = {}
    if fed := encoder.inputs(resolved, encoded):
        requests["query_tower"] = fed
    if ranker is None or ranking.scores is None or not len(items.rows):
        return Explanation(requests=requests, items={})
    of_request, of_items = ranker.inputs(resolved, items.rows, items.retrieval_scores)
    return Explanation(requests=requests | {"ranker": of_request}, items=of_items)
