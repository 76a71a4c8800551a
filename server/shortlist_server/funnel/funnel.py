"""The funnel: a request from top to bottom. Read this first.

Each method is one RPC. It runs its stages in order; every stage asks the budget before it
begins and reports what it did. Nothing here knows a framework, and no stage knows another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shortlist_server.errors import ExcludedItemRequested, UnknownItem, UnknownOutput
from shortlist_server.funnel.budget import Budget, Trace
from shortlist_server.funnel.resolve import resolve, rows_of, shown
from shortlist_server.funnel.select import select, weighted_sum
from shortlist_server.funnel.stages import Catalog, QueryEncoder, Ranker, Source
from shortlist_server.funnel.types import (
    Answer,
    Candidates,
    EncodedQuery,
    Options,
    Query,
    Ranking,
    ResolvedQuery,
    Rows,
    Shortfall,
)


class Funnel:
    """The stages of one bundle, in order."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        encoder: QueryEncoder,
        nearest: Source,
        popular: Source,
        ranker: Ranker | None,
    ) -> None:
        """Take the stages.

        Args:
            catalog: The items and the users that are known.
            encoder: Turns queries into embeddings.
            nearest: The source for queries that have an embedding.
            popular: The source for those that have none.
            ranker: None where the bundle has none: the list is then in order of retrieval.
        """
        self._catalog = catalog
        self._encoder = encoder
        self._nearest = nearest
        self._popular = popular
        self._ranker = ranker

    def recommend(self, query: Query, options: Options, budget: Budget) -> Answer:
        """Run the whole funnel."""
        trace = Trace(budget)
        self._check_weights(options)
        resolved, encoded = self._encode(query, options, trace)
        candidates = self._retrieve(resolved, encoded, options, trace)
        ranking = self._rank(resolved, encoded, candidates, options, trace)
        return self._select(resolved, candidates, ranking, options, trace)

    def retrieve(self, query: Query, options: Options, budget: Budget) -> Answer:
        """Find candidates and leave it at that."""
        trace = Trace(budget)
        resolved, encoded = self._encode(query, options, trace)
        candidates = self._retrieve(resolved, encoded, options, trace)
        return self._select(resolved, candidates, Ranking(), options, trace)

    def rank(
        self, query: Query, item_ids: Sequence[str], options: Options, budget: Budget
    ) -> Answer:
        """Score the items that the caller names, all of them that are known."""
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
        candidates = self._named(encoded, rows_of(wanted, self._catalog))
        ranking = self._rank(resolved, encoded, candidates, options, trace, named=True)
        return self._select(resolved, candidates, ranking, options, trace, unknown_item_ids=unknown)

    # The stages, in order.

    def _encode(
        self, query: Query, options: Options, trace: Trace
    ) -> tuple[ResolvedQuery, EncodedQuery]:
        with trace.stage("query") as stage:
            resolved = resolve(query, options, self._catalog)
            encoded = self._encoder.encode(resolved)
            stage.plan = encoded.plan
        return resolved, encoded

    def _retrieve(
        self, resolved: ResolvedQuery, encoded: EncodedQuery, options: Options, trace: Trace
    ) -> Candidates:
        source = self._popular if encoded.embedding is None else self._nearest
        with trace.stage("retrieval", self._catalog.size) as stage:
            candidates = source.retrieve(
                encoded,
                options.candidate_count,
                ef=options.ef,
                exact=options.exact,
                excluded=resolved.excluded_rows,
            )
            stage.plan = candidates.plan
            stage.items_out = len(candidates.rows)
        return candidates

    def _named(self, encoded: EncodedQuery, rows: Rows) -> Candidates:
        """Return items that the caller named, in place of candidates that a source found."""
        scores = self._nearest.score(encoded, rows)
        return Candidates(
            rows=rows,
            retrieval_scores=scores,
            scores=np.zeros(len(rows), np.float32) if scores is None else scores,
            source="caller",
            plan="",
        )

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
            outputs = ranker.rank(resolved, candidates.rows, candidates.retrieval_scores)
            weights = options.output_weights or ranker.weights
            stage.items_out = len(candidates.rows)
            stage.plan = (
                f"onnx, {' + '.join(f'{weight:g} {name}' for name, weight in weights.items())}"
            )
            return Ranking(
                scores=weighted_sum(outputs, weights, len(candidates.rows)), outputs=outputs
            )

    def _select(
        self,
        resolved: ResolvedQuery,
        candidates: Candidates,
        ranking: Ranking,
        options: Options,
        trace: Trace,
        *,
        unknown_item_ids: tuple[str, ...] = (),
    ) -> Answer:
        with trace.stage("select", len(candidates.rows)) as stage:
            items = select(candidates, ranking, options.limit)
            stage.items_out = len(items.rows)
            stage.plan = f"best {len(items.rows)}"
        return Answer(
            items=items,
            source=candidates.source,
            attributes=resolved.attributes,
            stages=tuple(trace.reports),
            cold_start=resolved.cold_start,
            warnings=resolved.warnings,
            shortfall=_shortfall(candidates, len(items.rows), options.limit),
            unknown_item_ids=unknown_item_ids,
        )

    def _check_weights(self, options: Options) -> None:
        names = () if self._ranker is None else self._ranker.output_names
        if unknown := sorted(set(options.output_weights) - set(names)):
            expected = ", ".join(names) or "none: the bundle has no ranker"
            raise UnknownOutput("output_weights", expected=expected, got=shown(unknown))


def _shortfall(candidates: Candidates, found: int, wanted: int) -> Shortfall | None:
    if found >= wanted or candidates.source == "caller":
        return None
    if candidates.source == "popularity":
        return Shortfall.POPULARITY_EXHAUSTED
    return Shortfall.CATALOG_EXHAUSTED
