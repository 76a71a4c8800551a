"""The calls of one answer: what is sent, and how it is read. Nothing here does any I/O.

`Client` and `AsyncClient` turn each of these functions into a method of the same arguments, and so
differ only in how they send. The docstrings here are those of their methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from shortlist.v1 import bundle_pb2, catalog_pb2, recommendation_pb2

from shortlist_client import responses, results
from shortlist_client.call import Call, checked_request_id, own_timeout_s
from shortlist_client.filters import Filter
from shortlist_client.language_models import ranker_to_proto
from shortlist_client.options import Cap, PinnedItem, Ranker, Rerank, Source
from shortlist_client.queries import FeatureValue, Query, User
from shortlist_client.requests import (
    exclusions_to_proto,
    filter_to_proto,
    query_to_proto,
    rerank_to_proto,
    retrieval_to_proto,
    selection_to_proto,
    sources_to_proto,
    weights_to_proto,
)
from shortlist_client.values import (
    count,
    duration_to_proto,
    optional_flag,
    optional_text,
    optional_texts,
    revision,
    text,
    texts,
)


def recommend(
    query: Query | None = None,
    *,
    user: User | str | None = None,
    text: str | None = None,
    limit: int | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool | None = None,
    sources: Sequence[Source | str] | None = None,
    filter: Filter | None = None,  # noqa: A002  # the field's own name
    excluded_filter: Filter | None = None,
    excluded_item_ids: Collection[str] | None = None,
    exclude_seen: bool | None = None,
    score_min: float | None = None,
    diversity: float | None = None,
    caps: Mapping[str, int] | Sequence[Cap] | None = None,
    pinned_items: Sequence[PinnedItem | str] | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    rerank: Rerank | None = None,
    attributes: Collection[str] | None = None,
    context: Mapping[str, FeatureValue] | None = None,
    output_weights: Mapping[str, float] | None = None,
    strict: bool | None = None,
    explain: bool | None = None,
    debug: bool | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.RecommendRequest,
    recommendation_pb2.RecommendResponse,
    results.Recommendations,
]:
    """Return the few items that suit a query best: the whole funnel.

    Args:
        query: A User, Items or an Embedding.
        user: A user's id, or a User; instead of `query`.
        text: What is searched for, in words, at most 2,048 bytes: alone, or beside a query, by
            which what is found is then ranked. Without `sources`, the 50 items whose texts are
            nearest, or `limit` if that is more. Refused where the bundle has no text embeddings.
        limit: Number of items wanted, 1..500. None: 20.
        candidate_count: Number of candidates that each source contributes unless it says otherwise,
            1..4,096 and at least `limit`. None: 200, or `limit` if that is more.
        ef: Beam width of the graph search, 1..4,096: larger finds more of the true neighbours and
            takes longer. None leaves it, and the choice between graph search and exact scan, to the
            server.
        exact: Compare every item, so that no neighbour can be missed. Not together with `ef`.
            None: False, as for all that is True or False here but `exclude_seen`.
        sources: Where candidates come from, in this order, at most 16: Nearest(), Popularity(), ...
            or the name of a source that the bundle configures. None, or no sources: the bundle's
            own list.
        filter: Which items may be in the answer, see `attribute`. None: all.
        excluded_filter: Items that must not be in the answer: those that this filter matches.
        excluded_item_ids: Items that must not be in the answer, at most 100,000. None: none.
        exclude_seen: Whether items that the user has already seen are left out. None: they are.
        score_min: Least score of an item in the answer, pinned ones exempt. None: any.
        diversity: How much the items should differ from each other, 0..1, by maximal marginal
            relevance. None: 0, not at all.
        caps: Most items that may share a value of an attribute, 1..500: `{"genres": 3}`. At most
            16. None: none.
        pinned_items: Items with a fixed place, at most 100: ids, which take the first free places
            in turn, or PinnedItem. What is filtered or excluded is not pinned either.
            None: none.
        temperature: Draws the order at random, each next item in proportion to
            exp(score / temperature): 0..1e6, on the scale of the scores. None: 0, the best first.
        seed: Of that draw, 64 bits: the same request with it gets the same answer. None: the
            server's choice, in `info.seed`.
        rerank: Has a language model put the first of the ranked candidates in order. None: no.
        attributes: Names of the item attributes to return; `["*"]` returns all. None: none.
        context: Features of the situation, by the name that the bundle declares under `context.`.
        output_weights: Weights of the ranker's outputs in the ranking score. Outputs not named
            weigh 0; none at all means the bundle's own weights.
        strict: Refuse unknown features, items and attributes, instead of listing them in
            `info.warnings`.
        explain: Return what was fed to the models: `model_inputs` of the items and of `info`.
        debug: Return the query that was answered: `info.answered_query`.
        min_revision: Least revision of the catalogue to answer from, as `upsert_items` returns it:
            the call waits for it. None: none.
        bundle_label: Which of the loaded bundles answers: `stable` or `canary`. None: the server's
            choice; `info.bundle_label` says which.
        timeout_s: Deadline of this call, retries included. None: the client's.
        request_id: Id of this request in the server's logs and answer, printable ASCII. None: a new
            one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.Recommend,
        request=recommendation_pb2.RecommendRequest(
            query=query_to_proto(query, user, context, text),
            limit=count(limit, "limit"),
            retrieval=retrieval_to_proto(candidate_count, ef, exact),
            exclusions=exclusions_to_proto(
                excluded_item_ids, seen=exclude_seen, filter_=excluded_filter
            ),
            filter=filter_to_proto(filter, "filter"),
            sources=sources_to_proto(sources),
            selection=selection_to_proto(
                score_min=score_min,
                diversity=diversity,
                caps=caps,
                pinned_items=pinned_items,
                temperature=temperature,
                seed=seed,
            ),
            rerank=rerank_to_proto(rerank),
            attributes=optional_texts(attributes, "attributes"),
            output_weights=weights_to_proto(output_weights),
            strict=optional_flag(strict, "strict"),
            explain=optional_flag(explain, "explain"),
            debug=optional_flag(debug, "debug"),
            min_revision=revision(min_revision, "min_revision"),
            bundle_label=optional_text(bundle_label, "bundle_label"),
        ),
        read=responses.recommendations_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def retrieve(
    query: Query | None = None,
    *,
    user: User | str | None = None,
    text: str | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool | None = None,
    sources: Sequence[Source | str] | None = None,
    filter: Filter | None = None,  # noqa: A002  # the field's own name
    excluded_filter: Filter | None = None,
    excluded_item_ids: Collection[str] | None = None,
    exclude_seen: bool | None = None,
    attributes: Collection[str] | None = None,
    context: Mapping[str, FeatureValue] | None = None,
    strict: bool | None = None,
    explain: bool | None = None,
    debug: bool | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.RetrieveRequest, recommendation_pb2.RetrieveResponse, results.Candidates
]:
    """Return candidates only, best retrieval score first: no ranking.

    Args:
        query: A User, Items or an Embedding.
        user: A user's id, or a User; instead of `query`.
        text: What is searched for, in words.
        candidate_count: Number of items wanted, 1..4,096. None: 200.
        ef: As for `recommend`, like all that follows.
        exact: Compare every item.
        sources: Where candidates come from.
        filter: Which items may be in the answer.
        excluded_filter: Items that must not be in the answer.
        excluded_item_ids: Items that must not be in the answer.
        exclude_seen: Whether items that the user has already seen are left out.
        attributes: Names of the item attributes to return.
        context: Features of the situation.
        strict: Refuse what is unknown.
        explain: Return what was fed to the models.
        debug: Return the query that was answered.
        min_revision: Least revision of the catalogue to answer from.
        bundle_label: Which of the loaded bundles answers.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.Retrieve,
        request=recommendation_pb2.RetrieveRequest(
            query=query_to_proto(query, user, context, text),
            retrieval=retrieval_to_proto(candidate_count, ef, exact),
            exclusions=exclusions_to_proto(
                excluded_item_ids, seen=exclude_seen, filter_=excluded_filter
            ),
            filter=filter_to_proto(filter, "filter"),
            sources=sources_to_proto(sources),
            attributes=optional_texts(attributes, "attributes"),
            strict=optional_flag(strict, "strict"),
            explain=optional_flag(explain, "explain"),
            debug=optional_flag(debug, "debug"),
            min_revision=revision(min_revision, "min_revision"),
            bundle_label=optional_text(bundle_label, "bundle_label"),
        ),
        read=responses.candidates_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def rank(
    query: Query | None = None,
    *,
    item_ids: Collection[str],
    user: User | str | None = None,
    excluded_item_ids: Collection[str] | None = None,
    attributes: Collection[str] | None = None,
    context: Mapping[str, FeatureValue] | None = None,
    output_weights: Mapping[str, float] | None = None,
    ranker: Ranker | None = None,
    llm_timeout_s: float | None = None,
    strict: bool | None = None,
    explain: bool | None = None,
    debug: bool | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[recommendation_pb2.RankRequest, recommendation_pb2.RankResponse, results.Ranking]:
    """Score the items named, best first: no retrieval. Predicts ratings where the ranker does.

    Args:
        query: A User, Items or an Embedding.
        item_ids: The items to score, 1..4,096; 1..50 where a language model does. Seen items are
            scored like any other; unknown ones come back in `unknown_item_ids`.
        user: A user's id, or a User; instead of `query`.
        excluded_item_ids: Items that must not be among `item_ids`.
        attributes: As for `recommend`, like all that follows.
        context: Features of the situation.
        output_weights: Weights of the ranker's outputs in the ranking score.
        ranker: `bundle`; `llm`: a language model predicts ratings, which are the scores; `blend`:
            both count. Where it does not answer as it should, the bundle's scores stand, and
            `info.degraded` says why. None: `bundle`.
        llm_timeout_s: Longest wait for the language model. None: the server's share of the
            deadline, which is the longest in any case.
        strict: Refuse what is unknown.
        explain: Return what was fed to the models.
        debug: Return the query that was answered.
        min_revision: Least revision of the catalogue to answer from.
        bundle_label: Which of the loaded bundles answers.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    timeout = None if llm_timeout_s is None else duration_to_proto(llm_timeout_s, "llm_timeout")
    return Call(
        method=lambda stubs: stubs.recommendation.Rank,
        request=recommendation_pb2.RankRequest(
            query=query_to_proto(query, user, context),
            item_ids=texts(item_ids, "item_ids"),
            excluded_item_ids=optional_texts(excluded_item_ids, "excluded_item_ids"),
            attributes=optional_texts(attributes, "attributes"),
            output_weights=weights_to_proto(output_weights),
            ranker=ranker_to_proto(ranker),
            llm_timeout=timeout,
            strict=optional_flag(strict, "strict"),
            explain=optional_flag(explain, "explain"),
            debug=optional_flag(debug, "debug"),
            min_revision=revision(min_revision, "min_revision"),
            bundle_label=optional_text(bundle_label, "bundle_label"),
        ),
        read=responses.ranking_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def find_similar_items(
    item_id: str,
    *,
    by_text: bool | None = None,
    limit: int | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool | None = None,
    filter: Filter | None = None,  # noqa: A002  # the field's own name
    excluded_item_ids: Collection[str] | None = None,
    attributes: Collection[str] | None = None,
    strict: bool | None = None,
    debug: bool | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.FindSimilarItemsRequest,
    recommendation_pb2.FindSimilarItemsResponse,
    results.SimilarItems,
]:
    """Return the items nearest to one item: in the space of the item embeddings, or by text.

    Args:
        item_id: The item. NotFound if the bundle does not know it.
        by_text: Whether items are alike whose texts mean alike. None: False, those with near
            embeddings. Refused where the bundle has no text embeddings.
        limit: Number of items wanted, 1..500. None: 20.
        candidate_count: Number of items searched for before `limit` cuts the list.
        ef: As for `recommend`, like all that follows.
        exact: Compare every item.
        filter: Which items may be in the answer.
        excluded_item_ids: Items that must not be in the answer. The item itself never is.
        attributes: Names of the item attributes to return.
        strict: Refuse what is unknown.
        debug: Return the query that was answered.
        min_revision: Least revision of the catalogue to answer from.
        bundle_label: Which of the loaded bundles answers.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.FindSimilarItems,
        request=recommendation_pb2.FindSimilarItemsRequest(
            item_id=text(item_id, "item_id"),
            limit=count(limit, "limit"),
            retrieval=retrieval_to_proto(candidate_count, ef, exact),
            excluded_item_ids=optional_texts(excluded_item_ids, "excluded_item_ids"),
            filter=filter_to_proto(filter, "filter"),
            attributes=optional_texts(attributes, "attributes"),
            strict=optional_flag(strict, "strict"),
            debug=optional_flag(debug, "debug"),
            min_revision=revision(min_revision, "min_revision"),
            bundle_label=optional_text(bundle_label, "bundle_label"),
            similarity=recommendation_pb2.SIMILARITY_TEXT
            if optional_flag(by_text, "similarity")
            else recommendation_pb2.SIMILARITY_UNSPECIFIED,
        ),
        read=responses.similar_items_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def get_active_bundle(
    *, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.GetActiveBundleRequest, bundle_pb2.GetActiveBundleResponse, results.ActiveBundle
]:
    """Return what is being served: identity, size, features and attributes of the bundle.

    Args:
        timeout_s: Deadline of this call. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.GetActiveBundle,
        request=bundle_pb2.GetActiveBundleRequest(),
        read=responses.bundle_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )


def get_catalog_stats(
    *,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    catalog_pb2.GetCatalogStatsRequest, catalog_pb2.GetCatalogStatsResponse, results.CatalogStats
]:
    """Return how large the catalogue is and how well it is searched.

    Args:
        bundle_label: Of which bundle: `stable`, `canary` or `shadow`. None: the stable one.
        timeout_s: Deadline of this call. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.catalog.GetCatalogStats,
        request=catalog_pb2.GetCatalogStatsRequest(
            bundle_label=optional_text(bundle_label, "bundle_label")
        ),
        read=responses.stats_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(timeout_s),
    )
