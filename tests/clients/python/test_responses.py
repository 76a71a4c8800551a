"""How responses arrive in Python."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import bundle_pb2, catalog_pb2, errors_pb2, recommendation_pb2, types_pb2
from shortlist_client import explanation, responses, results
from shortlist_client.errors import DimensionMismatch
from shortlist_client.explanation import (
    AnsweredQuery,
    ColdStartBasis,
    Degradation,
    DegradedReason,
    ModelInputs,
    RatingInfo,
    RequestWarning,
    Rerank,
    RerankInfo,
    Selection,
    ShortfallReason,
    SourcePosition,
    SourceReport,
    StageOutcome,
    StageReport,
    WarningReason,
)
from shortlist_client.options import (
    CallerItems,
    Cap,
    CatalogItem,
    Configured,
    Nearest,
    PinnedItem,
    Popularity,
    RecentHistory,
    Text,
)
from shortlist_client.results import (
    ActiveBundle,
    AnswerInfo,
    BundleEntry,
    BundleId,
    BundleInfo,
    BundleSwitch,
    Candidates,
    CatalogStats,
    FieldInfo,
    ItemChanges,
    ItemOutcome,
    LabeledBundle,
    Misfit,
    Ranking,
    RecallBucket,
    Recommendations,
    ScoredItem,
    ServedItem,
    SimilarItems,
    StreamedRecommendations,
    ValueType,
)

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer

SHA256 = "ab" * 32
BUNDLE_ID_SENT = types_pb2.BundleId(name="films", version="7", sha256=SHA256)
BUNDLE_ID = BundleId(name="films", version="7", sha256=SHA256)

ITEM_SENT = types_pb2.ScoredItem(
    id="50",
    attributes={
        "title": types_pb2.Value(string_value="Star Wars"),
        "year": types_pb2.Value(int64_value=1977),
        "price": types_pb2.Value(double_value=9.5),
        "available": types_pb2.Value(bool_value=True),
        "genres": types_pb2.Value(string_list=types_pb2.StringList(values=["Action", "Sci-Fi"])),
        "awards": types_pb2.Value(int64_list=types_pb2.Int64List(values=[6, 1])),
        "prices": types_pb2.Value(double_list=types_pb2.DoubleList(values=[1.5])),
        "flags": types_pb2.Value(bool_list=types_pb2.BoolList(values=[True, False])),
        "tags": types_pb2.Value(string_list=types_pb2.StringList()),
        "hologram": types_pb2.Value(),  # A kind from the future.
    },
    score=4.5,
    retrieval_score=0.25,
    ranking_score=4.5,
    outputs={"rating": 4.5, "like": 0.5},
    source="two_tower",
    source_position=3,
    other_sources=[types_pb2.SourcePosition(source="trending", position=9)],
    candidate_position=4,
    ranking_position=1,
    exploration_position=2,
    diversity_position=0,
    model_inputs={"item_id": types_pb2.Value(int64_list=types_pb2.Int64List(values=[17]))},
    rerank_position=0,
    rerank_reason="Space again.",
    llm_rating=5.0,
    llm_rating_clamped=True,
)
ITEM = ScoredItem(
    id="50",
    attributes={
        "title": "Star Wars",
        "year": 1977,
        "price": 9.5,
        "available": True,
        "genres": ("Action", "Sci-Fi"),
        "awards": (6, 1),
        "prices": (1.5,),
        "flags": (True, False),
        "tags": (),
    },
    score=4.5,
    retrieval_score=0.25,
    ranking_score=4.5,
    outputs={"rating": 4.5, "like": 0.5},
    source="two_tower",
    source_position=3,
    other_sources=(SourcePosition(source="trending", position=9),),
    candidate_position=4,
    ranking_position=1,
    exploration_position=2,
    diversity_position=0,
    model_inputs={"item_id": (17,)},
    rerank_position=0,
    rerank_reason="Space again.",
    llm_rating=5.0,
    llm_rating_clamped=True,
)

ANSWERED_SENT = types_pb2.AnsweredQuery(
    embedding=[0.5, -0.25],
    embedding_source="two_tower",
    features={"user.age": types_pb2.Value(int64_value=36)},
    history_item_ids=["50", "181"],
    text="a film of robots",
    filter='"year" range [1990,]',
    excluded_item_count=3,
    limit=20,
    sources=[
        types_pb2.SourceOptions(
            name="two_tower", candidate_count=200, nearest=types_pb2.NearestSource()
        ),
        types_pb2.SourceOptions(
            name="recent_history", recent_history=types_pb2.HistorySource(event_count=10)
        ),
        types_pb2.SourceOptions(
            name="local",
            popularity=types_pb2.PopularitySource(attribute="country", feature="user.country"),
        ),
        types_pb2.SourceOptions(
            name="dramas",
            popularity=types_pb2.PopularitySource(
                attribute="genres", value=types_pb2.Value(string_value="Drama")
            ),
        ),
        types_pb2.SourceOptions(name="caller", caller=types_pb2.CallerSource(item_ids=["9"])),
        types_pb2.SourceOptions(name="text", text=types_pb2.TextSource()),
        types_pb2.SourceOptions(name="from the future", candidate_count=7),
    ],
    output_weights={"rating": 1.0},
    selection=types_pb2.SelectionOptions(
        score_min=0.0,
        diversity=0.25,
        caps=[types_pb2.Cap(attribute="genres", item_count_max=3)],
        pinned_items=[
            types_pb2.PinnedItem(item_id="9", position=0),
            types_pb2.PinnedItem(item_id="8"),
        ],
        exploration=types_pb2.Exploration(temperature=0.5, seed=-7),
    ),
    ef=300,
    exact=True,
    budget=Duration(nanos=900_500_000),
    rerank=types_pb2.RerankOptions(
        candidate_count=20, subset=True, passes=2, timeout=Duration(nanos=500_000_000), seed=0
    ),
    ranker=types_pb2.RANKER_BLEND,
)
ANSWERED = AnsweredQuery(
    embedding=(0.5, -0.25),
    embedding_source="two_tower",
    features={"user.age": 36},
    history_item_ids=("50", "181"),
    text="a film of robots",
    filter='"year" range [1990,]',
    excluded_item_count=3,
    limit=20,
    sources=(
        Nearest(name="two_tower", candidate_count=200),
        RecentHistory(event_count=10, name="recent_history"),
        Popularity(attribute="country", feature="user.country", name="local"),
        Popularity(attribute="genres", value="Drama", name="dramas"),
        CallerItems(("9",), name="caller"),
        Text(name="text"),
        Configured("from the future", candidate_count=7),
    ),
    output_weights={"rating": 1.0},
    selection=Selection(
        score_min=0.0,
        diversity=0.25,
        caps=(Cap("genres", 3),),
        pinned_items=(PinnedItem("9", 0), PinnedItem("8")),
        temperature=0.5,
        seed=-7,
    ),
    ef=300,
    exact=True,
    budget_ms=900.5,
    rerank=Rerank(candidate_count=20, subset=True, reasons=False, passes=2, timeout_s=0.5, seed=0),
    ranker="blend",
)

INFO_SENT = types_pb2.AnswerInfo(
    catalog_revision=12,
    request_id="mine",
    bundle=BUNDLE_ID_SENT,
    stages=[
        types_pb2.StageReport(
            name="retrieval",
            duration=Duration(seconds=1, nanos=500_000),
            items_in=1682,
            items_out=200,
            outcome=types_pb2.STAGE_OUTCOME_OK,
            plan="exact 1682 of 1682",
        ),
        types_pb2.StageReport(name="ranking", outcome=types_pb2.STAGE_OUTCOME_SKIPPED),
    ],
    cold_start=True,
    warnings=[
        types_pb2.Warning(
            reason=types_pb2.WARNING_REASON_UNKNOWN_FEATURE,
            field="query.user.features",
            subjects=["agee"],
            subject_count=1,
            message="unknown features",
        )
    ],
    shortfall_reason=types_pb2.SHORTFALL_REASON_POPULARITY_EXHAUSTED,
    degraded=[
        types_pb2.Degradation(
            stage="retrieval",
            source="trending",
            reason=types_pb2.DEGRADED_REASON_OUT_OF_TIME,
            message="no time was left",
        )
    ],
    sources=[
        types_pb2.SourceReport(
            name="trending",
            kind="popularity",
            outcome=types_pb2.STAGE_OUTCOME_OUT_OF_TIME,
            duration=Duration(nanos=2_500_000),
            item_count=12,
            plan="overall",
        )
    ],
    cold_start_basis=types_pb2.COLD_START_BASIS_HISTORY,
    seed=0,
    match_count=0,
    answered_query=ANSWERED_SENT,
    bundle_label="canary",
    model_inputs=[
        types_pb2.ModelInputs(
            model="query_tower",
            inputs={"user_age": types_pb2.Value(double_list=types_pb2.DoubleList(values=[36.0]))},
        )
    ],
    rerank=types_pb2.RerankInfo(
        prompt="rerank@0123456789ab",
        model="gemini/stub",
        item_ids=["50", "9"],
        left_out_count=1,
        pass_count=2,
        seed=-8,
        input_token_count=1_200,
        output_token_count=80,
        price=0.25,
        violations=["link"],
    ),
    rating=types_pb2.RatingInfo(
        prompt="rating@0123456789ab",
        model="gemini/stub",
        item_ids=["50", "9"],
        ratings=[5.0, 2.5],
        clamped_count=1,
        llm_weight=0.75,
        ranker_weight=0.25,
        input_token_count=900,
        output_token_count=40,
        price=0.125,
        violations=["clamped"],
    ),
)
INFO = AnswerInfo(
    catalog_revision=12,
    request_id="mine",
    bundle=BUNDLE_ID,
    stages=(
        StageReport(
            name="retrieval",
            duration_ms=1000.5,
            items_in=1682,
            items_out=200,
            outcome=StageOutcome.OK,
            plan="exact 1682 of 1682",
        ),
        StageReport(
            name="ranking",
            duration_ms=0.0,
            items_in=0,
            items_out=0,
            outcome=StageOutcome.SKIPPED,
            plan="",
        ),
    ),
    cold_start=True,
    warnings=(
        RequestWarning(
            reason=WarningReason.UNKNOWN_FEATURE,
            field="query.user.features",
            subjects=("agee",),
            subject_count=1,
            message="unknown features",
        ),
    ),
    shortfall_reason=ShortfallReason.POPULARITY_EXHAUSTED,
    degraded=(
        Degradation(
            stage="retrieval",
            source="trending",
            reason=DegradedReason.OUT_OF_TIME,
            message="no time was left",
        ),
    ),
    sources=(
        SourceReport(
            name="trending",
            kind="popularity",
            outcome=StageOutcome.OUT_OF_TIME,
            duration_ms=2.5,
            item_count=12,
            plan="overall",
        ),
    ),
    cold_start_basis=ColdStartBasis.HISTORY,
    seed=0,
    match_count=0,
    answered_query=ANSWERED,
    bundle_label="canary",
    model_inputs=(ModelInputs(model="query_tower", inputs={"user_age": (36.0,)}),),
    rerank=RerankInfo(
        prompt="rerank@0123456789ab",
        model="gemini/stub",
        item_ids=("50", "9"),
        left_out_count=1,
        pass_count=2,
        seed=-8,
        input_token_count=1_200,
        output_token_count=80,
        price=0.25,
        violations=("link",),
    ),
    rating=RatingInfo(
        prompt="rating@0123456789ab",
        model="gemini/stub",
        ratings={"50": 5.0, "9": 2.5},
        clamped_count=1,
        llm_weight=0.75,
        ranker_weight=0.25,
        input_token_count=900,
        output_token_count=40,
        price=0.125,
        violations=("clamped",),
    ),
)


@pytest.mark.parametrize(
    ("method", "fields", "sent", "expected"),
    [
        (
            "recommend",
            {"user": "42"},
            recommendation_pb2.RecommendResponse(items=[ITEM_SENT], info=INFO_SENT),
            Recommendations(items=(ITEM,), info=INFO),
        ),
        (
            "stream_recommend",
            {"user": "42"},
            recommendation_pb2.StreamRecommendResponse(
                response=recommendation_pb2.RecommendResponse(items=[ITEM_SENT], info=INFO_SENT),
                refinement="diversity",
                last=True,
            ),
            [StreamedRecommendations(items=(ITEM,), info=INFO, refinement="diversity", last=True)],
        ),
        (
            "recommend_batch",
            {"requests": []},
            recommendation_pb2.BatchRecommendResponse(
                index=3,
                response=recommendation_pb2.RecommendResponse(items=[ITEM_SENT], info=INFO_SENT),
            ),
            [(3, Recommendations(items=(ITEM,), info=INFO))],
        ),
        (
            "get_catalog_stats",
            {},
            catalog_pb2.GetCatalogStatsResponse(
                item_count=1682,
                recall=[
                    catalog_pb2.RecallBucket(
                        selectivity_min=0.01, selectivity_max=0.1, query_count=40, recall=0.0
                    ),
                    catalog_pb2.RecallBucket(selectivity_min=0.1, selectivity_max=1.0),
                ],
                recall_dropped_count=2,
                live=True,
                revision=9,
                store_age=Duration(nanos=1_500_000),
                changed_item_count=3,
                deleted_item_count=4,
                tail_row_count=5,
                misfit_count=1,
                misfits=[catalog_pb2.Misfit(item_id="9", revision=8, served=True, message="no")],
                unembedded_text_count=6,
            ),
            CatalogStats(
                item_count=1682,
                recall=(
                    RecallBucket(
                        selectivity_min=0.01, selectivity_max=0.1, query_count=40, recall=0.0
                    ),
                    RecallBucket(
                        selectivity_min=0.1, selectivity_max=1.0, query_count=0, recall=None
                    ),
                ),
                recall_dropped_count=2,
                live=True,
                revision=9,
                store_age_ms=1.5,
                changed_item_count=3,
                deleted_item_count=4,
                tail_row_count=5,
                misfit_count=1,
                misfits=(Misfit(item_id="9", revision=8, served=True, message="no"),),
                unembedded_text_count=6,
            ),
        ),
        (
            "list_bundles",
            {},
            bundle_pb2.ListBundlesResponse(
                bundles=[
                    bundle_pb2.BundleEntry(
                        folder="films-2",
                        id=BUNDLE_ID_SENT,
                        create_time=Timestamp(seconds=1_793_534_400),
                        active=True,
                        labels=["stable"],
                    ),
                    bundle_pb2.BundleEntry(folder="broken", problem="no manifest"),
                ]
            ),
            (
                BundleEntry(
                    folder="films-2",
                    id=BUNDLE_ID,
                    create_time=datetime(2026, 11, 1, 12, tzinfo=UTC),
                    active=True,
                    problem="",
                    labels=("stable",),
                ),
                BundleEntry(
                    folder="broken", id=None, create_time=None, active=False, problem="no manifest"
                ),
            ),
        ),
        (
            "activate_bundle",
            {"sha256": "ab"},
            bundle_pb2.ActivateBundleResponse(bundle=BUNDLE_ID_SENT),
            BundleSwitch(bundle=BUNDLE_ID, previous=None, switched=False),
        ),
        (
            "roll_back_bundle",
            {},
            bundle_pb2.RollBackBundleResponse(bundle=BUNDLE_ID_SENT, previous=BUNDLE_ID_SENT),
            BundleSwitch(bundle=BUNDLE_ID, previous=BUNDLE_ID, switched=True),
        ),
        (
            "roll_back_bundle",
            {"label": "canary"},
            bundle_pb2.RollBackBundleResponse(bundle=BUNDLE_ID_SENT),
            BundleSwitch(bundle=BUNDLE_ID, previous=None, switched=True),
        ),
        (
            "deactivate_bundle",
            {"label": "canary"},
            bundle_pb2.DeactivateBundleResponse(previous=BUNDLE_ID_SENT),
            BUNDLE_ID,
        ),
        (
            "deactivate_bundle",
            {"label": "canary"},
            bundle_pb2.DeactivateBundleResponse(),
            None,
        ),
        (
            "delete_items",
            {"item_ids": ["50"]},
            catalog_pb2.DeleteItemsResponse(
                revision=9,
                replayed=True,
                outcomes=[
                    catalog_pb2.ItemOutcome(
                        item_id="50", existed=True, unknown_attributes=["colour"]
                    )
                ],
            ),
            ItemChanges(
                revision=9,
                replayed=True,
                outcomes=(
                    ItemOutcome(
                        item_id="50", error=None, unknown_attributes=("colour",), existed=True
                    ),
                ),
            ),
        ),
        (
            "get_item",
            {"item_id": "50"},
            catalog_pb2.GetItemResponse(
                item=catalog_pb2.Item(
                    id="50",
                    attributes={"year": types_pb2.Value(int64_value=1999)},
                    vector=types_pb2.Embedding(values=[0.5]),
                ),
                revision=3,
                catalog_revision=9,
                bundle=BUNDLE_ID_SENT,
            ),
            ServedItem(
                id="50",
                attributes={"year": 1999},
                vector=(0.5,),
                revision=3,
                catalog_revision=9,
                bundle=BUNDLE_ID,
            ),
        ),
        (
            "retrieve",
            {"user": "42"},
            recommendation_pb2.RetrieveResponse(items=[ITEM_SENT], info=INFO_SENT),
            Candidates(items=(ITEM,), info=INFO),
        ),
        (
            "rank",
            {"user": "42", "item_ids": ["50", "x"]},
            recommendation_pb2.RankResponse(
                items=[ITEM_SENT], unknown_item_ids=["x"], info=INFO_SENT
            ),
            Ranking(items=(ITEM,), unknown_item_ids=("x",), info=INFO),
        ),
        (
            "find_similar_items",
            {"item_id": "172"},
            recommendation_pb2.FindSimilarItemsResponse(items=[ITEM_SENT], info=INFO_SENT),
            SimilarItems(items=(ITEM,), info=INFO),
        ),
        (
            "get_active_bundle",
            {},
            bundle_pb2.GetActiveBundleResponse(
                bundle=bundle_pb2.BundleInfo(
                    id=BUNDLE_ID_SENT,
                    create_time=Timestamp(seconds=1_793_534_400),
                    data_name="MovieLens 100K",
                    data_simulated=True,
                    item_count=1682,
                    user_count=943,
                    dimension=32,
                    metric="cosine",
                    item_attributes=[
                        bundle_pb2.FieldInfo(name="title", type=types_pb2.VALUE_TYPE_STRING)
                    ],
                    features=[
                        bundle_pb2.FieldInfo(name="user.age", type=types_pb2.VALUE_TYPE_INT64)
                    ],
                    ranker_outputs=["rating"],
                    framework_versions={"tensorflow": "2.21.0"},
                ),
                others=[
                    bundle_pb2.LabeledBundle(
                        label="canary",
                        bundle=bundle_pb2.BundleInfo(id=BUNDLE_ID_SENT, item_count=3),
                        share=0.25,
                    )
                ],
            ),
            ActiveBundle(
                id=BUNDLE_ID,
                create_time=datetime(2026, 11, 1, 12, tzinfo=UTC),
                data_name="MovieLens 100K",
                data_simulated=True,
                item_count=1682,
                user_count=943,
                dimension=32,
                metric="cosine",
                item_attributes=(FieldInfo(name="title", type=ValueType.STRING),),
                features=(FieldInfo(name="user.age", type=ValueType.INT64),),
                ranker_outputs=("rating",),
                framework_versions={"tensorflow": "2.21.0"},
                others=(
                    LabeledBundle(
                        label="canary",
                        bundle=BundleInfo(
                            id=BUNDLE_ID,
                            create_time=None,
                            data_name="",
                            data_simulated=False,
                            item_count=3,
                            user_count=0,
                            dimension=0,
                            metric="",
                            item_attributes=(),
                            features=(),
                            ranker_outputs=(),
                            framework_versions={},
                        ),
                        share=0.25,
                    ),
                ),
            ),
        ),
    ],
)
def test_every_field_of_a_response_arrives_typed(
    ask: Ask,
    fake_server: FakeServer,
    method: str,
    fields: dict[str, Any],
    sent: Any,
    expected: object,
) -> None:
    fake_server.script(sent)
    assert ask(method, **fields) == expected


@pytest.mark.parametrize(
    ("result_type", "message"),
    [
        (Recommendations, recommendation_pb2.RecommendResponse),
        (Candidates, recommendation_pb2.RetrieveResponse),
        (Ranking, recommendation_pb2.RankResponse),
        (SimilarItems, recommendation_pb2.FindSimilarItemsResponse),
        (ScoredItem, types_pb2.ScoredItem),
        (AnswerInfo, types_pb2.AnswerInfo),
        (StageReport, types_pb2.StageReport),
        (RequestWarning, types_pb2.Warning),
        (BundleId, types_pb2.BundleId),
        (BundleInfo, bundle_pb2.BundleInfo),
        (LabeledBundle, bundle_pb2.LabeledBundle),
        (FieldInfo, bundle_pb2.FieldInfo),
        (CatalogStats, catalog_pb2.GetCatalogStatsResponse),
        (RecallBucket, catalog_pb2.RecallBucket),
        (Misfit, catalog_pb2.Misfit),
        (BundleEntry, bundle_pb2.BundleEntry),
        (BundleSwitch, bundle_pb2.ActivateBundleResponse),
        (ItemChanges, catalog_pb2.UpsertItemsResponse),
        (ItemOutcome, catalog_pb2.ItemOutcome),
        (SourcePosition, types_pb2.SourcePosition),
        (SourceReport, types_pb2.SourceReport),
        (Degradation, types_pb2.Degradation),
        (AnsweredQuery, types_pb2.AnsweredQuery),
        (ModelInputs, types_pb2.ModelInputs),
    ],
)
def test_results_have_the_fields_of_their_messages(result_type: Any, message: Any) -> None:
    offered = {field.name for field in message.DESCRIPTOR.fields}
    in_milliseconds = {
        "duration": "duration_ms",
        "budget": "budget_ms",
        "store_age": "store_age_ms",
    }
    assert {field.name for field in dataclasses.fields(result_type)} == {
        in_milliseconds.get(name, name) for name in offered
    }


def test_maps_come_in_the_order_of_their_names() -> None:
    names = [f"n{i:02}" for i in range(20)]
    outputs = dict.fromkeys(reversed(names), 1.0)
    attributes = {name: types_pb2.Value(int64_value=1) for name in reversed(names)}
    item = types_pb2.ScoredItem(outputs=outputs, attributes=attributes)
    read = responses.item_from_proto(item)
    assert list(read.outputs) == list(read.attributes) == names


def test_scores_that_do_not_exist_are_none_not_zero() -> None:
    response = recommendation_pb2.RecommendResponse(items=[types_pb2.ScoredItem(id="1")])
    item = responses.recommendations_from_proto(response).items[0]
    assert item.retrieval_score is None
    assert item.ranking_score is None
    zero = types_pb2.ScoredItem(id="1", retrieval_score=0.0, ranking_score=0.0)
    response = recommendation_pb2.RecommendResponse(items=[zero])
    item = responses.recommendations_from_proto(response).items[0]
    assert item.retrieval_score == 0.0
    assert item.ranking_score == 0.0


def test_what_an_answer_does_not_say_is_none_or_empty() -> None:
    item = types_pb2.ScoredItem(id="1")
    response = recommendation_pb2.RecommendResponse(items=[item])
    answer = responses.recommendations_from_proto(response)
    assert (answer.items[0].exploration_position, answer.items[0].diversity_position) == (None,) * 2
    assert (answer.items[0].other_sources, answer.items[0].model_inputs) == ((), {})
    info = answer.info
    assert (info.seed, info.match_count, info.answered_query, info.cold_start_basis) == (None,) * 4
    assert (info.degraded, info.sources, info.model_inputs) == ((), (), ())


def test_a_query_that_leaves_things_to_the_server_says_so() -> None:
    info = types_pb2.AnswerInfo(answered_query=types_pb2.AnsweredQuery())
    response = recommendation_pb2.RecommendResponse(info=info)
    answered = responses.recommendations_from_proto(response).info.answered_query
    assert answered is not None
    assert (answered.ef, answered.selection.score_min, answered.selection.seed) == (None,) * 3


def test_an_answer_as_long_as_asked_for_has_no_shortfall() -> None:
    response = recommendation_pb2.RecommendResponse()
    assert responses.recommendations_from_proto(response).info.shortfall_reason is None


def test_a_bundle_that_does_not_say_when_it_was_built_has_no_time() -> None:
    assert responses.bundle_from_proto(bundle_pb2.GetActiveBundleResponse()).create_time is None


def stage_outcome(number: int) -> StageOutcome:
    stage = types_pb2.StageReport(outcome=number)  # type: ignore[arg-type]  # any number may come
    return responses.stage_from_proto(stage).outcome


def warning_reason(number: int) -> WarningReason:
    warning = types_pb2.Warning(reason=number)  # type: ignore[arg-type]  # any number may come
    return responses._warning_from_proto(warning).reason


def shortfall_reason(number: int) -> ShortfallReason | None:
    info = types_pb2.AnswerInfo(shortfall_reason=number)  # type: ignore[arg-type]  # any number
    return responses.info_from_proto(info).shortfall_reason


def value_type(number: int) -> ValueType:
    field = bundle_pb2.FieldInfo(type=number)  # type: ignore[arg-type]  # any number may come
    return responses._field_from_proto(field).type


def degraded_reason(number: int) -> DegradedReason:
    degradation = types_pb2.Degradation(reason=number)  # type: ignore[arg-type]  # any number
    return responses.degradation_from_proto(degradation).reason


def cold_start_basis(number: int) -> ColdStartBasis | None:
    info = types_pb2.AnswerInfo(cold_start_basis=number)  # type: ignore[arg-type]  # any number
    return responses.info_from_proto(info).cold_start_basis


ENUMS = [
    (degraded_reason, types_pb2.DegradedReason, "DEGRADED_REASON_"),
    (cold_start_basis, types_pb2.ColdStartBasis, "COLD_START_BASIS_"),
    (stage_outcome, types_pb2.StageOutcome, "STAGE_OUTCOME_"),
    (warning_reason, types_pb2.WarningReason, "WARNING_REASON_"),
    (shortfall_reason, types_pb2.ShortfallReason, "SHORTFALL_REASON_"),
    (value_type, types_pb2.ValueType, "VALUE_TYPE_"),
]


@pytest.mark.parametrize(("read", "proto_enum", "prefix"), ENUMS)
def test_every_value_of_an_enum_has_its_name_in_python(
    read: Any, proto_enum: Any, prefix: str
) -> None:
    for name, number in proto_enum.items():
        if not name.endswith("_UNSPECIFIED"):
            assert read(number) == name.removeprefix(prefix)


@pytest.mark.parametrize(("read", "proto_enum", "prefix"), ENUMS)
def test_values_of_a_newer_server_are_unrecognized_not_a_crash(
    read: Any, proto_enum: Any, prefix: str
) -> None:
    assert read(99) == "UNRECOGNIZED"


def test_results_are_frozen() -> None:
    types = {
        kind
        for module in (explanation, results)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type)
    }
    assert len(types) > 20
    with pytest.raises(dataclasses.FrozenInstanceError):
        ITEM.score = 5.0  # type: ignore[misc]  # that is the point
    assert all(kind.__dataclass_params__.frozen for kind in types)  # type: ignore[attr-defined]  # not in typeshed


def test_items_that_were_refused_are_told_apart(ask: Ask, fake_server: FakeServer) -> None:
    refused = recommendation_pb2.RowError(
        code=3,
        message="no",
        reason=errors_pb2.ERROR_REASON_DIMENSION_MISMATCH,
        metadata={"field": "items[1].vector.values", "expected": "2", "got": "3"},
    )
    fake_server.script(
        catalog_pb2.UpsertItemsResponse(
            revision=3,
            outcomes=[
                catalog_pb2.ItemOutcome(item_id="a"),
                catalog_pb2.ItemOutcome(item_id="b", error=refused),
            ],
        )
    )
    changes = ask("upsert_items", [CatalogItem("a", {}), CatalogItem("b", {}, vector=[1, 2, 3])])
    assert list(changes.failures) == ["b"]
    error = changes.failures["b"]
    assert isinstance(error, DimensionMismatch)
    assert error.field == "items[1].vector.values"
