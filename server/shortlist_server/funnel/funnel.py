"""The funnel: a request from top to bottom. Read this first.

Each method is one RPC. It runs its stages in order; every stage asks the budget before it
begins and reports what it did. Nothing here knows a framework, and no stage knows another.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from shortlist_server.errors import ExcludedItemRequested, UnknownItem, UnknownOutput
from shortlist_server.funnel.answer import (
    cold_start_basis,
    explanation,
    most_candidates,
    shortfall,
)
from shortlist_server.funnel.budget import Budget, Shares, Trace
from shortlist_server.funnel.compose import Composer
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.named import named_candidates, with_pinned
from shortlist_server.funnel.options import Options, SourceOptions
from shortlist_server.funnel.rating import Rated, applied
from shortlist_server.funnel.rating import replayed as replayed_ratings
from shortlist_server.funnel.reranking import Ranked, Reranked, checked, replayed, report
from shortlist_server.funnel.resolve import default_sources, resolve, shown
from shortlist_server.funnel.select import reordered, short_list, weighted_sum
from shortlist_server.funnel.stages import (
    Catalog,
    QueryEncoder,
    Ranker,
    RatingQuery,
    RerankQuery,
)
from shortlist_server.funnel.types import (
    Answer,
    Candidates,
    Degradation,
    EncodedQuery,
    Query,
    Ranking,
    RequestWarning,
    ResolvedQuery,
    Shortfall,
    Step,
    WarningReason,
)


class Funnel:
    """The stages of one bundle, in order."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        encoder: QueryEncoder,
        gatherer: Gatherer,
        sources: Sequence[SourceOptions],
        ranker: Ranker | None,
        shares: Shares,
        has_texts: bool = False,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        """Take the stages.

        Args:
            catalog: The items and the users that are known.
            encoder: Turns queries into embeddings.
            gatherer: Asks the sources of candidates.
            sources: The sources that are asked where a request names none.
            ranker: None where the bundle has none: the list is then in order of retrieval.
            shares: How the budget is split.
            has_texts: Whether items can be found by their texts.
            prompts: The bundle's own prompts for language models, by what they are for.
        """
        self._catalog = catalog
        self._encoder = encoder
        self._gatherer = gatherer
        self._sources = sources
        self._ranker = ranker
        self.has_texts = has_texts
        """Whether items can be found by their texts."""
        self._composer = Composer(catalog, encoder, share=shares.diversity)
        self._shares = shares
        self._prompts = prompts or {}

    def recommend(self, query: Query, options: Options, budget: Budget) -> Answer:
        """Run the whole funnel, without a language model: for that, `selected` comes after what
        is awaited.
        """
        return self.selected(self.ranked(query, options, budget))

    def ranked(self, query: Query, options: Options, budget: Budget) -> Ranked:
        """Run the funnel as far as the candidates are ranked."""
        trace = Trace(budget)
        self._check_weights(options)
        options = _with_seed(options)
        resolved, encoded = self._encode(query, options, trace)
        candidates = self._retrieve(resolved, encoded, options, trace)
        return Ranked(
            resolved=resolved,
            encoded=encoded,
            candidates=candidates,
            ranking=self._rank(resolved, encoded, candidates, options, trace),
            options=options,
            trace=trace,
        )

    def to_rerank(self, ranked: Ranked) -> RerankQuery:
        """Return what a language model is asked before `selected`."""
        rerank, budget = ranked.options.rerank, ranked.trace.budget
        assert rerank is not None
        return RerankQuery(
            query=ranked.resolved,
            catalog=self._catalog,
            rows=ranked.shown(ranked.order()),
            options=rerank,
            template=self._prompts.get("rerank", ""),
            deadline_s=budget.share_left_s(self._shares.rerank, at_most_s=rerank.timeout_s),
        )

    def selected(self, ranked: Ranked, reranked: Reranked | None = None) -> Answer:
        """Make the list.

        Args:
            ranked: Of this funnel.
            reranked: What a language model said; None where none was asked.
        """
        replay = ranked.options.replay
        if replay is not None and ranked.options.rerank is not None:
            reranked = replayed(ranked, self._catalog.rows(replay.reranked_item_ids))
        return self._select(ranked, reranked)

    def stream(self, query: Query, options: Options, budget: Budget) -> Iterator[Step]:
        """Run the whole funnel; yields the list in the order of ranking as soon as there is one,
        and each refinement of it, but for the last one where a language model makes it.
        """
        ranked = self.ranked(query, options, budget)
        asked = options.rerank is not None
        refinement = ""
        if options.selection.diversity:
            refinement = "diversity"
            plain = replace(
                ranked.options, selection=replace(ranked.options.selection, diversity=0.0)
            )
            first = replace(ranked, options=plain, trace=ranked.trace.fork())
            yield Step(answer=self._select(first), refinement="", last=False)
        final = replace(ranked, trace=ranked.trace.fork()) if asked else ranked
        answer = self._select(final)
        yield Step(
            answer=answer,
            refinement=refinement,
            last=not asked,
            ranked=ranked if asked else None,
        )

    def waits(self, query: Query, options: Options) -> bool:
        """Whether a source of such a request may wait for something outside this process."""
        return self._gatherer.waits(
            options.sources or default_sources(query, options, self._sources)
        )

    def close(self) -> None:
        """Take no more requests."""
        self._gatherer.close()

    def retrieve(self, query: Query, options: Options, budget: Budget) -> Answer:
        """Find candidates and leave it at that."""
        trace = Trace(budget)
        resolved, encoded = self._encode(query, options, trace)
        candidates = self._retrieve(resolved, encoded, options, trace)
        found = Ranked(
            resolved=resolved,
            encoded=encoded,
            candidates=candidates,
            ranking=Ranking(),
            options=options,
            trace=trace,
        )
        if options.limit:
            return self._select(found)
        limit = most_candidates(resolved, candidates, options)
        answer = self._select(replace(found, options=replace(options, limit=limit)))
        if len(resolved.sources) > 1 and answer.shortfall is Shortfall.SOURCES_EXHAUSTED:
            # Several sources find some items together: nobody asked for the sum.
            return replace(answer, shortfall=None)
        return answer

    def rank(
        self, query: Query, item_ids: Sequence[str], options: Options, budget: Budget
    ) -> Answer:
        """Score the items that the caller names, all of them that are known; without a language
        model: for that, `rated` comes after what is awaited.
        """
        return self.rated(self.named(query, item_ids, options, budget))

    def named(
        self, query: Query, item_ids: Sequence[str], options: Options, budget: Budget
    ) -> Ranked:
        """Score the items that the caller names as the bundle does."""
        trace = Trace(budget)
        self._check_weights(options)
        if both := sorted(set(item_ids) & set(options.excluded_item_ids)):
            raise ExcludedItemRequested(
                "item_ids", expected="none of excluded_item_ids", got=shown(both)
            )
        wanted = tuple(dict.fromkeys(item_ids))
        unknown = tuple(item_id for item_id in wanted if self._catalog.row(item_id) is None)
        if unknown and options.strict:
            raise UnknownItem("item_ids", expected="ids of items of the bundle", got=shown(unknown))
        resolved, encoded = self._encode(query, options, trace)
        trace.budget.check("ranking")
        candidates = named_candidates(self._encoder, encoded, self._catalog.rows(wanted))
        return Ranked(
            resolved=resolved,
            encoded=encoded,
            candidates=candidates,
            ranking=self._rank(resolved, encoded, candidates, options, trace, named=True),
            options=options,
            trace=trace,
            unknown_item_ids=unknown,
        )

    def to_rate(self, ranked: Ranked) -> RatingQuery:
        """Return what a language model is asked before `rated`."""
        rating, budget = ranked.options.rating, ranked.trace.budget
        assert rating is not None
        return RatingQuery(
            query=ranked.resolved,
            catalog=self._catalog,
            rows=ranked.candidates.rows,
            options=rating,
            deadline_s=budget.share_left_s(self._shares.rating, at_most_s=rating.timeout_s),
        )

    def rated(self, ranked: Ranked, rated: Rated | None = None) -> Answer:
        """Answer with the items that the caller named.

        Args:
            ranked: Of this funnel.
            rated: What a language model said; None where none was asked.
        """
        degraded: tuple[Degradation, ...] = ()
        if ranked.options.replay is not None and ranked.options.rating is not None:
            rated = replayed_ratings(ranked, self._catalog)
        if rated is not None:
            ranked, rated, degraded = applied(ranked, rated)
        answer = self._select(ranked)
        return replace(
            answer,
            unknown_item_ids=ranked.unknown_item_ids,
            shortfall=None,
            rated=rated,
            degraded=(*answer.degraded, *degraded),
        )

    # The stages, in order.

    def _encode(
        self, query: Query, options: Options, trace: Trace
    ) -> tuple[ResolvedQuery, EncodedQuery]:
        with trace.stage("query") as stage:
            resolved = resolve(
                query, options, self._catalog, self._sources, has_texts=self.has_texts
            )
            trace.budget.check("query")
            encoded = self._encoder.encode(resolved)
            stage.plan = encoded.plan
        return resolved, encoded

    def _retrieve(
        self, resolved: ResolvedQuery, encoded: EncodedQuery, options: Options, trace: Trace
    ) -> Candidates:
        with trace.stage("retrieval", self._catalog.size) as stage:
            candidates = self._gatherer.gather(resolved, encoded, options, trace.budget)
            stage.plan = "; ".join(
                report.plan if len(candidates.reports) == 1 else f"{report.name}: {report.plan}"
                for report in candidates.reports
            )
            stage.items_out = len(candidates.rows)
        trace.budget.check("retrieval")
        return with_pinned(self._encoder, encoded, candidates, resolved.pins)

    def _rank(
        self,
        resolved: ResolvedQuery,
        encoded: EncodedQuery,
        candidates: Candidates,
        options: Options,
        trace: Trace,
        *,
        named: bool = False,
    ) -> Ranking:
        """Score the candidates; where the ranker would only guess, keep the order they came in.

        A ranker that was trained on users says nothing about a query without one. Only `rank`
        (`named`), which asks for its word, gets it for a user of whom nothing is known.
        """
        with trace.stage("ranking", len(candidates.rows)) as stage:
            ranker = self._ranker
            if ranker is None:
                stage.skip("the bundle has no ranker")
                return Ranking()
            if ranker.needs_user and not encoded.personal and not (named and resolved.is_user):
                stage.skip("nothing is known of a user")
                return Ranking()
            if not len(candidates.rows):
                stage.skip("no candidates")
                return Ranking()
            chunk_rows = (options.replay and options.replay.ranking_chunk) or ranker.chunk_rows
            outputs = ranker.rank(
                resolved,
                candidates.rows,
                candidates.retrieval_scores,
                chunk_rows=chunk_rows,
                checkpoint=trace.budget.checkpoint("ranking"),
            )
            weights = options.output_weights or ranker.weights
            stage.items_out = len(candidates.rows)
            formula = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
            in_parts = f" {chunk_rows} at a time" if chunk_rows < len(candidates.rows) else ""
            stage.plan = f"onnx{in_parts}, {formula}"
            return Ranking(
                scores=weighted_sum(outputs, weights, len(candidates.rows)),
                outputs=outputs,
                weights=weights,
            )

    def _select(self, ranked: Ranked, reranked: Reranked | None = None) -> Answer:
        resolved, encoded, candidates = ranked.resolved, ranked.encoded, ranked.candidates
        options, trace = ranked.options, ranked.trace
        exploration = options.selection.exploration
        seed = None if exploration is None else exploration.seed
        degraded = candidates.degraded
        order = None
        if reranked is not None:
            order = ranked.order()
            rows = ranked.shown(order)
            reranked = checked(reranked, rows)
            degraded += report(reranked, len(rows), trace)
        with trace.stage("select", len(candidates.rows)) as stage:
            order = order or ranked.order()
            if reranked is not None and len(reranked.rows):
                order = reordered(order, candidates.rows, reranked.rows)
            composed = self._composer.compose(candidates.rows, order, resolved.pins, options, trace)
            items = short_list(
                candidates, ranked.ranking, order, composed.places, composed.diversified
            )
            stage.items_out = len(items.rows)
            stage.plan = f"best {len(items.rows)}" if seed is None else f"drawn with seed {seed}"
        warnings = resolved.warnings
        if composed.unpinned:
            left_out = tuple(self._catalog.item_id(row) for row in composed.unpinned)
            warnings += (
                RequestWarning(
                    reason=WarningReason.PINNED_ITEM_LEFT_OUT,
                    field="selection.pinned_items",
                    subjects=left_out,
                ),
            )
        return Answer(
            items=items,
            query=resolved,
            encoded=encoded,
            limit=options.limit,
            attributes=resolved.attributes,
            stages=tuple(trace.reports),
            sources=candidates.reports,
            degraded=(*degraded, *composed.degraded),
            cold_start=cold_start_basis(resolved, encoded),
            warnings=warnings,
            shortfall=shortfall(candidates, order, resolved, len(items.rows), options.limit),
            weights=ranked.ranking.weights,
            seed=seed,
            reranked=reranked,
            explanation=explanation(
                resolved, encoded, items, ranked.ranking, self._encoder, self._ranker
            )
            if options.explain
            else None,
        )

    def _check_weights(self, options: Options) -> None:
        names = () if self._ranker is None else self._ranker.output_names
        if unknown := sorted(set(options.output_weights) - set(names)):
            expected = ", ".join(names) or "none: the bundle has no ranker"
            raise UnknownOutput("output_weights", expected=expected, got=shown(unknown))


def _with_seed(options: Options) -> Options:
    """Return options whose exploration, if there is any, has a seed."""
    exploration = options.selection.exploration
    if exploration is None or exploration.seed is not None:
        return options
    chosen = replace(exploration, seed=secrets.randbits(62))
    return replace(options, selection=replace(options.selection, exploration=chosen))
