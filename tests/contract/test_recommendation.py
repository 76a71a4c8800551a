"""What RecommendationService promises, over a real socket."""

from __future__ import annotations

import numpy as np
import pytest
from shortlist.v1 import bundle_pb2 as bundle_messages
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.bundle_pb2_grpc import BundleServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.generation import Generation

SEEN_COUNT = 5
ITEM_COUNT = 60


def user(name: str = "u1", **fields: object) -> types.Query:
    return types.Query(user=types.UserQuery(id=name, **fields))  # type: ignore[arg-type]


def ids(response: pb.RecommendResponse | pb.RetrieveResponse | pb.RankResponse) -> list[str]:
    return [item.id for item in response.items]


def seen_by(generation: Generation, name: str) -> set[str]:
    return {generation.catalog.item_id(row) for row in generation.catalog.seen(name)}


def recommend(stub: Stub, query: types.Query, **fields: object) -> pb.RecommendResponse:
    return stub.Recommend(pb.RecommendRequest(query=query, **fields), timeout=10)  # type: ignore[arg-type]


def test_recommend_gives_as_many_items_as_asked_for_best_first_without_repetition(
    stub: Stub,
) -> None:
    answer = recommend(stub, user(), limit=7)
    scores = [item.score for item in answer.items]
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)
    assert len(set(ids(answer))) == 7
    assert answer.info.shortfall_reason == types.SHORTFALL_REASON_UNSPECIFIED


def test_limit_of_zero_means_twenty(stub: Stub) -> None:
    assert len(recommend(stub, user()).items) == 20


def test_answer_is_identified_and_explained(stub: Stub, generation: Generation) -> None:
    answer = stub.Recommend(
        pb.RecommendRequest(query=user(), limit=5), timeout=10, metadata=(("x-request-id", "mine"),)
    )
    info = answer.info
    assert info.request_id == "mine"
    assert (info.bundle.name, info.bundle.version) == ("tiny", "1")
    assert info.bundle.sha256 == generation.bundle.sha256
    assert [stage.name for stage in info.stages] == [
        "admission",
        "query",
        "retrieval",
        "ranking",
        "select",
        "response",
    ]
    assert all(stage.outcome == types.STAGE_OUTCOME_OK for stage in info.stages)
    retrieval, ranking, select, response = info.stages[2:]
    assert (response.items_out, response.plan) == (5, "0 attributes")
    assert (retrieval.items_in, retrieval.items_out) == (ITEM_COUNT, ITEM_COUNT - SEEN_COUNT)
    assert retrieval.plan == f"exact {ITEM_COUNT} of {ITEM_COUNT}"
    assert (ranking.items_in, ranking.items_out) == (55, 55)
    assert (select.items_in, select.items_out) == (55, 5)
    assert all(stage.duration.ToNanoseconds() > 0 for stage in info.stages)


def test_request_id_is_made_where_none_is_sent(stub: Stub) -> None:
    first, second = (recommend(stub, user()).info.request_id for _ in range(2))
    assert len(first) == 32
    assert first != second


def test_items_carry_their_scores_and_where_they_came_from(stub: Stub) -> None:
    for item in recommend(stub, user(), limit=10).items:
        assert item.source == "two_tower"
        assert set(item.outputs) == {"rating", "like"}
        assert item.ranking_score == pytest.approx(
            item.outputs["rating"] + 0.5 * item.outputs["like"], abs=1e-5
        )
        assert item.score == item.ranking_score
        assert item.HasField("retrieval_score")


def test_source_position_is_the_place_among_the_candidates(stub: Stub) -> None:
    candidates = stub.Retrieve(pb.RetrieveRequest(query=user()), timeout=10)
    assert [item.source_position for item in candidates.items] == list(range(55))
    place = {item.id: item.source_position for item in candidates.items}
    assert all(item.source_position == place[item.id] for item in recommend(stub, user()).items)


def test_scores_are_those_of_the_models(stub: Stub, generation: Generation) -> None:
    """The tower is user_vectors[u] + (age - 40) / 10 * age_direction: linear in the age."""
    by_age = [
        stub.Retrieve(
            pb.RetrieveRequest(query=user(features={"age": types.Value(double_value=age)})),
            timeout=10,
        )
        for age in (20.0, 40.0, 60.0)
    ]
    young, middle, old = (
        {item.id: item.retrieval_score for item in answer.items} for answer in by_age
    )
    for name in middle:
        assert middle[name] == pytest.approx((young[name] + old[name]) / 2, abs=1e-4)
    assert any(abs(young[name] - old[name]) > 0.1 for name in middle)


def test_known_users_features_are_used_unless_the_request_says_otherwise(stub: Stub) -> None:
    own = recommend(stub, user("u1"))
    same = recommend(stub, user("u1", features={"age": types.Value(double_value=21.5)}))
    other = recommend(stub, user("u1", features={"age": types.Value(double_value=60.0)}))
    assert [item.score for item in own.items] == [item.score for item in same.items]
    assert ids(own) != ids(other)


def test_seen_items_are_left_out_unless_asked_for(stub: Stub, generation: Generation) -> None:
    seen = seen_by(generation, "u1")
    assert len(seen) == SEEN_COUNT
    assert not seen & set(ids(recommend(stub, user(), limit=60)))
    everything = recommend(stub, user(), limit=60, exclusions=types.Exclusions(seen=False))
    assert seen <= set(ids(everything))


def test_excluded_and_sent_history_are_left_out(stub: Stub) -> None:
    history = [types.HistoryEvent(item_id="i3"), types.HistoryEvent(item_id="i4")]
    answer = recommend(
        stub,
        user(history=history),
        limit=60,
        exclusions=types.Exclusions(item_ids=["i5", "no such item"]),
    )
    assert not {"i3", "i4", "i5"} & set(ids(answer))
    assert not answer.info.warnings


def test_a_list_shorter_than_asked_for_says_why(stub: Stub) -> None:
    answer = recommend(stub, user(), limit=500)
    assert len(answer.items) == 55
    assert answer.info.shortfall_reason == types.SHORTFALL_REASON_CATALOG_EXHAUSTED
    everything = [f"i{row}" for row in range(ITEM_COUNT)]
    nothing = recommend(stub, user(), exclusions=types.Exclusions(item_ids=everything))
    assert not nothing.items
    assert nothing.info.shortfall_reason == types.SHORTFALL_REASON_CATALOG_EXHAUSTED


def test_user_of_whom_nothing_is_known_gets_the_popular_items(
    stub: Stub, generation: Generation
) -> None:
    assert generation.bundle.popularity is not None
    popular = [generation.catalog.item_id(row) for row in generation.bundle.popularity.rows[:10]]
    for query in (user("nobody"), types.Query(user=types.UserQuery())):
        answer = recommend(stub, query, limit=10)
        assert ids(answer) == popular
        assert answer.info.cold_start
        assert {item.source for item in answer.items} == {"popularity"}
        assert not any(
            item.HasField("retrieval_score") or item.HasField("ranking_score")
            for item in answer.items
        )
        assert answer.info.stages[3].outcome == types.STAGE_OUTCOME_SKIPPED


def test_popularity_ends_with_the_items_that_nobody_has_used(
    stub: Stub, generation: Generation
) -> None:
    assert generation.bundle.popularity is not None
    popular = [generation.catalog.item_id(row) for row in generation.bundle.popularity.rows]
    answer = recommend(stub, user("nobody"), limit=500)
    assert len(popular) < ITEM_COUNT
    assert ids(answer)[: len(popular)] == popular
    assert len(set(ids(answer))) == len(answer.items) == ITEM_COUNT
    assert answer.info.shortfall_reason == types.SHORTFALL_REASON_CATALOG_EXHAUSTED


def test_unknown_user_with_features_goes_through_the_towers_and_is_flagged(stub: Stub) -> None:
    answer = recommend(stub, user("nobody", features={"age": types.Value(int64_value=33)}))
    assert answer.info.cold_start
    assert {item.source for item in answer.items} == {"two_tower"}
    assert all(item.HasField("ranking_score") for item in answer.items)


def test_unknown_user_with_a_history_gets_items_near_it(stub: Stub, generation: Generation) -> None:
    history = [types.HistoryEvent(item_id=name) for name in ("i3", "i8", "nope")]
    answer = recommend(stub, user("nobody", history=history), limit=5)
    assert answer.info.cold_start
    vectors = generation.bundle.item_embeddings
    near = vectors @ ((vectors[3] + vectors[8]) / 2)
    near[[3, 8]] = -np.inf
    assert ids(answer) == [f"i{row}" for row in np.argsort(-near)[:5]]
    assert {item.source for item in answer.items} == {"history"}
    (warning,) = answer.info.warnings
    assert (warning.reason, list(warning.subjects)) == (types.WARNING_REASON_UNKNOWN_ITEM, ["nope"])


def test_items_query_gives_items_near_their_mean_and_not_themselves(
    stub: Stub, generation: Generation
) -> None:
    answer = recommend(stub, types.Query(items=types.ItemsQuery(item_ids=["i1", "i2"])), limit=6)
    vectors = generation.bundle.item_embeddings
    near = vectors @ vectors[[1, 2]].mean(axis=0)
    near[[1, 2]] = -np.inf
    assert ids(answer) == [f"i{row}" for row in np.argsort(-near)[:6]]
    assert not answer.info.cold_start
    assert {item.source for item in answer.items} == {"items"}
    assert answer.info.stages[3].plan == "nothing is known of a user"


def test_embedding_query_gives_items_near_the_vector(stub: Stub, generation: Generation) -> None:
    vector = np.linspace(-1, 1, 8, dtype=np.float32)
    answer = stub.Retrieve(
        pb.RetrieveRequest(
            query=types.Query(embedding=types.Embedding(values=vector.tolist())),
            retrieval=types.RetrievalOptions(candidate_count=9),
        ),
        timeout=10,
    )
    assert ids(answer) == [
        f"i{row}" for row in np.argsort(-(generation.bundle.item_embeddings @ vector))[:9]
    ]


def test_similar_items_leave_out_the_item_itself(stub: Stub, generation: Generation) -> None:
    answer = stub.FindSimilarItems(pb.FindSimilarItemsRequest(item_id="i7", limit=59), timeout=10)
    assert sorted(ids(answer)) == sorted(f"i{row}" for row in range(ITEM_COUNT) if row != 7)  # type: ignore[arg-type]
    fewer = stub.FindSimilarItems(
        pb.FindSimilarItemsRequest(item_id="i7", limit=3, excluded_item_ids=[answer.items[0].id]),
        timeout=10,
    )
    assert [item.id for item in fewer.items] == [item.id for item in answer.items[1:4]]


def test_exact_and_graph_search_agree_and_the_plan_says_which_ran(stub: Stub) -> None:
    exact = recommend(stub, user(), retrieval=types.RetrievalOptions(exact=True))
    graph = recommend(stub, user(), retrieval=types.RetrievalOptions(ef=200))
    assert exact.info.stages[2].plan == "exact 60 of 60"
    assert graph.info.stages[2].plan == "hnsw ef=200"
    assert ids(exact) == ids(graph)
    assert [item.retrieval_score for item in exact.items] == [
        item.retrieval_score for item in graph.items
    ]


def test_rank_scores_the_named_items_as_recommend_does(stub: Stub) -> None:
    whole = recommend(stub, user(), limit=55)
    named = ids(whole)[::-5]
    ranked = stub.Rank(pb.RankRequest(query=user(), item_ids=named), timeout=10)
    expected = {item.id: item.score for item in whole.items}
    assert sorted(ids(ranked)) == sorted(named)
    for item in ranked.items:
        assert item.score == pytest.approx(expected[item.id], abs=1e-5)
        assert item.source == "caller"
    assert ids(ranked) == [name for name in ids(whole) if name in named]


def test_rank_scores_seen_items_too_and_lists_unknown_ones(
    stub: Stub, generation: Generation
) -> None:
    seen = sorted(seen_by(generation, "u1"))
    answer = stub.Rank(
        pb.RankRequest(query=user(), item_ids=["ghost", *seen, seen[0], "wraith"]), timeout=10
    )
    assert sorted(ids(answer)) == seen
    assert list(answer.unknown_item_ids) == ["ghost", "wraith"]
    assert answer.info.shortfall_reason == types.SHORTFALL_REASON_UNSPECIFIED


def test_rank_predicts_for_unknown_users_too_and_flags_them(stub: Stub) -> None:
    answer = stub.Rank(pb.RankRequest(query=user("nobody"), item_ids=["i1"]), timeout=10)
    assert answer.info.cold_start
    assert "rating" in answer.items[0].outputs


def test_output_weights_of_the_request_replace_those_of_the_bundle(stub: Stub) -> None:
    answer = recommend(stub, user(), output_weights={"like": -2.0})
    for item in answer.items:
        assert item.score == pytest.approx(-2.0 * item.outputs["like"], abs=1e-5)


def test_context_reaches_the_ranker(stub: Stub) -> None:
    morning, night = (
        recommend(
            stub,
            types.Query(
                user=types.UserQuery(id="u1"), context={"hour": types.Value(int64_value=hour)}
            ),
        )
        for hour in (0, 23)
    )
    default = recommend(stub, user())
    assert (
        len({tuple(item.score for item in answer.items) for answer in (morning, night, default)})
        == 3
    )


def test_attributes_come_typed_and_only_where_there_is_a_value(
    stub: Stub, generation: Generation
) -> None:
    answer = recommend(stub, user(), limit=55, attributes=["*"])
    for item in answer.items:
        row = int(item.id.removeprefix("i"))
        assert item.attributes["title"].string_value == f"Film {row} é"
        assert ("year" in item.attributes) == (row % 7 != 0)
        if row % 7:
            assert item.attributes["year"].int64_value == 1980 + row % 40
        assert item.attributes["genres"].WhichOneof("kind") == "string_list"
    assert not recommend(stub, user()).items[0].attributes
    assert set(recommend(stub, user(), attributes=["title"]).items[0].attributes) == {"title"}


def test_unknown_features_and_attributes_are_listed_and_answered(stub: Stub) -> None:
    answer = recommend(
        stub, user(features={"agee": types.Value(int64_value=1)}), attributes=["titel"], limit=3
    )
    assert len(answer.items) == 3
    assert [
        (warning.reason, warning.field, list(warning.subjects)) for warning in answer.info.warnings
    ] == [
        (types.WARNING_REASON_UNKNOWN_FEATURE, "query.user.features", ["agee"]),
        (types.WARNING_REASON_UNKNOWN_ATTRIBUTE, "attributes", ["titel"]),
    ]


def test_active_bundle_is_described(bundle_stub: BundleServiceStub, generation: Generation) -> None:
    info = bundle_stub.GetActiveBundle(bundle_messages.GetActiveBundleRequest(), timeout=10).bundle
    assert (info.id.name, info.item_count, info.user_count, info.dimension) == ("tiny", 60, 12, 8)
    assert info.metric == "inner_product"
    assert info.data_simulated
    assert {field.name: field.type for field in info.item_attributes} == {
        "title": types.VALUE_TYPE_STRING,
        "year": types.VALUE_TYPE_INT64,
        "genres": types.VALUE_TYPE_STRING_LIST,
    }
    assert {field.name for field in info.features} == {"user.age", "user.segment", "context.hour"}
    assert list(info.ranker_outputs) == ["rating", "like"]
    assert info.create_time.ToDatetime() == generation.bundle.manifest.created.replace(tzinfo=None)
