"""Runs the funnel where it is computed, and awaits the language model between two parts of it.

`docs/decisions/017-where-the-language-model-is-awaited.md` says why there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.rating import Rated
from shortlist_server.funnel.reranking import Ranked, Reranked
from shortlist_server.funnel.stages import Rater, Reranker
from shortlist_server.funnel.types import Answer, DegradedReason, Query, Step
from shortlist_server.runtime.compute import ComputePool


class FunnelCalls:
    """Runs the funnel for the servicers, with what a language model may do in it."""

    def __init__(
        self, compute: ComputePool, reranker: Reranker | None, rater: Rater | None = None
    ) -> None:
        """Take where the funnel runs, and who asks a language model for an order, and for ratings;
        None where there is none.
        """
        self._compute = compute
        self._reranker = reranker
        self._rater = rater

    async def recommend(
        self,
        funnel: Funnel,
        query: Query,
        options: Options,
        budget: Budget,
        *,
        behind: bool = False,
    ) -> Answer:
        """Run the whole funnel.

        Args:
            funnel: What answers.
            query: What is asked for.
            options: What the caller chose.
            budget: His time.
            behind: Whether the call stands back for single calls.
        """
        compute = self._compute.of(waits=funnel.waits(query, options), behind=behind)
        if options.rerank is None:
            return await compute(funnel.recommend, query, options, budget)
        return await self._reranked(funnel, await compute(funnel.ranked, query, options, budget))

    async def stream(
        self, funnel: Funnel, query: Query, options: Options, budget: Budget
    ) -> AsyncIterator[Step]:
        """Run the whole funnel; yields the list when it is ranked, and each refinement of it."""
        waits = funnel.waits(query, options)
        compute = self._compute.of(waits=waits)
        lists = funnel.stream(query, options, budget)
        ranked: Ranked | None = None
        while (step := await compute(next, lists, None)) is not None:
            ranked = step.ranked
            yield step
            # There is a list: what refines it stands back for calls that have none, and is not
            # refused for load.
            compute = self._compute.of(waits=waits, behind=True)
        if ranked is not None:
            answer = await self._reranked(funnel, ranked)
            yield Step(answer=answer, refinement="rerank", last=True)

    async def rank(
        self,
        funnel: Funnel,
        query: Query,
        item_ids: Sequence[str],
        options: Options,
        budget: Budget,
    ) -> Answer:
        """Score the items that the caller names."""
        if options.rating is None:
            return await self._compute.run(funnel.rank, query, item_ids, options, budget)
        ranked = await self._compute.run(funnel.named, query, item_ids, options, budget)
        if self._rater is None:
            rated = Rated(
                plan="the server has no language model", failure=DegradedReason.LLM_UNAVAILABLE
            )
        else:
            rated = await self._rater.rate(funnel.to_rate(ranked))
        return await self._compute.run_behind(funnel.rated, ranked, rated)

    async def _reranked(self, funnel: Funnel, ranked: Ranked) -> Answer:
        """Ask the language model, holding nothing while it thinks, and make the list."""
        if self._reranker is None:
            reranked = Reranked(
                plan="the server has no language model", failure=DegradedReason.LLM_UNAVAILABLE
            )
        else:
            reranked = await self._reranker.rerank(funnel.to_rerank(ranked))
        # Its answer is paid for: what is left of the call is not refused for load.
        return await self._compute.run_behind(funnel.selected, ranked, reranked)
