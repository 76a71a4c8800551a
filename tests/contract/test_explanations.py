"""What an answer says of itself: model inputs, the query answered, counts, and why it is short."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
import tiny_world
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_exporters.export import export_bundle
from shortlist_server.generation import Generation, load_generation
from shortlist_server.runtime.onnx_session import open_model

NEAREST = types.SourceOptions(nearest=types.NearestSource(), candidate_count=8)
POPULAR = types.SourceOptions(popularity=types.PopularitySource(), candidate_count=8)
RECENT = types.SourceOptions(recent_history=types.HistorySource(event_count=2), candidate_count=8)
CALLER = types.SourceOptions(
    caller=types.CallerSource(item_ids=["i9", "i8", "i7", "i9", "i6"]), name="editors"
)
YEAR = types.Filter(exists=types.ExistsCondition(attribute="year"))


def user(name: str = "u1", **fields: Any) -> types.Query:
    return types.Query(user=types.UserQuery(id=name, **fields))


def recommend(stub: Stub, query: types.Query | None = None, **fields: Any) -> pb.RecommendResponse:
    request = pb.RecommendRequest(query=query or user(), **fields)
    return stub.Recommend(request, timeout=10)


def ids(response: Any) -> list[str]:
    return [item.id for item in response.items]


# Model inputs.


def tensor(value: types.Value, declared: Any, dynamic: dict[str, int]) -> np.ndarray:
    """The numbers of a Value as the model's input of that name."""
    kind = value.WhichOneof("kind")
    assert kind is not None
    shape = [dynamic[axis] if isinstance(axis, str) else axis for axis in declared.shape]
    return np.array(getattr(value, kind).values, declared.dtype).reshape(shape)


def run(generation: Generation, section: str, inputs: list[dict[str, types.Value]]) -> Any:
    """Feed a model of the bundle file, opened anew, one run for each set of inputs."""
    model = generation.bundle.manifest.models[section]
    session = open_model(str(generation.bundle.path(model.file)))
    dynamic = {"request": 1, "candidate": 1}
    names = [output.name for output in model.outputs]
    for fed in inputs:
        # `request.index` points from the candidate to the request: there is one.
        feeds = {
            declared.name: tensor(fed[declared.name], declared, dynamic)
            for declared in model.inputs
        }
        yield dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("method", ["Recommend", "StreamRecommend", "Rank"])
@pytest.mark.parametrize(
    "query",
    [
        user(),
        user("nobody", features={"age": types.Value(double_value=61.0)}),
        types.Query(user=types.UserQuery(id="u2"), context={"hour": types.Value(int64_value=3)}),
    ],
)
def test_what_was_fed_gives_the_scores_that_are_shown(
    stub: Stub, generation: Generation, query: types.Query, method: str
) -> None:
    if method == "Rank":
        names = [f"i{row}" for row in range(12)]
        answer: Any = stub.Rank(
            pb.RankRequest(query=query, item_ids=names, explain=True), timeout=10
        )
    else:
        request = pb.RecommendRequest(
            query=query, limit=12, explain=True, sources=[NEAREST, POPULAR]
        )
        answer = stub.Recommend(request, timeout=10)
        if method == "StreamRecommend":
            (streamed,) = stub.StreamRecommend(
                pb.StreamRecommendRequest(request=request), timeout=10
            )
            answer = streamed.response
    fed = {entry.model: dict(entry.inputs) for entry in answer.info.model_inputs}
    assert set(fed) == {"query_tower", "ranker"}
    (tower,) = run(generation, "query_tower", [fed["query_tower"]])
    embedding = tower["embedding"][0]
    outputs = run(
        generation,
        "ranker",
        [fed["ranker"] | dict(item.model_inputs) for item in answer.items],
    )
    assert len(answer.items) == 12
    for item, out in zip(answer.items, outputs, strict=True):
        row = int(item.id.removeprefix("i"))
        assert item.retrieval_score == pytest.approx(
            generation.bundle.item_embeddings[row] @ embedding, abs=1e-5
        )
        for name, value in out.items():
            assert item.outputs[name] == pytest.approx(float(value[0]), abs=1e-5)
        assert item.ranking_score == pytest.approx(
            float(out["rating"][0]) + 0.5 * float(out["like"][0]), abs=1e-5
        )


def test_without_explain_nothing_that_was_fed_is_told(stub: Stub) -> None:
    answer = recommend(stub)
    assert not answer.info.model_inputs
    assert not any(item.model_inputs for item in answer.items)


def test_only_models_that_ran_are_explained(stub: Stub) -> None:
    by_items = recommend(stub, types.Query(items=types.ItemsQuery(item_ids=["i1"])), explain=True)
    assert not by_items.info.model_inputs
    assert not any(item.model_inputs for item in by_items.items)
    retrieved = stub.Retrieve(pb.RetrieveRequest(query=user(), explain=True), timeout=10)
    assert [entry.model for entry in retrieved.info.model_inputs] == ["query_tower"]


# Provenance.


def test_items_name_every_source_that_found_them_with_their_places(stub: Stub) -> None:
    sources = [NEAREST, RECENT, POPULAR, CALLER]
    alone = {}
    for source in sources:
        answer = stub.Retrieve(
            pb.RetrieveRequest(query=user(), sources=[source], exclusions={"seen": False}),
            timeout=10,
        )
        alone[answer.info.sources[0].name] = {
            item.source_position: item.id for item in answer.items
        }
    assert list(alone) == ["two_tower", "recent_history", "popularity", "editors"]
    merged = stub.Retrieve(
        pb.RetrieveRequest(query=user(), sources=sources, exclusions={"seen": False}), timeout=10
    )
    found: dict[str, dict[int, str]] = {name: {} for name in alone}
    order = list(alone)
    for item in merged.items:
        found[item.source][item.source_position] = item.id
        names = [item.source, *(other.source for other in item.other_sources)]
        assert names == sorted(names, key=order.index)
        for other in item.other_sources:
            found[other.source][other.position] = item.id
    assert found == alone
    assert any(item.other_sources for item in merged.items)
    first = list(dict.fromkeys(name for one in alone.values() for _, name in sorted(one.items())))
    by_position = sorted(merged.items, key=lambda item: item.candidate_position)
    assert [item.id for item in by_position] == first
    counts = {source.name: source.item_count for source in merged.info.sources}
    assert counts == {name: len(items) for name, items in alone.items()}
    assert [source.kind for source in merged.info.sources] == [
        "nearest", "recent_history", "popularity", "caller",
    ]  # fmt: skip


def test_positions_tell_the_way_of_an_item_through_the_stages(stub: Stub) -> None:
    selection = types.SelectionOptions(
        diversity=0.7,
        pinned_items=[types.PinnedItem(item_id="i30", position=1)],
        exploration=types.Exploration(temperature=0.5, seed=5),
    )
    answer = recommend(stub, limit=12, sources=[NEAREST, POPULAR], selection=selection)
    every = recommend(stub, limit=60, sources=[NEAREST, POPULAR])
    ranked = [item.id for item in every.items]
    drawn = recommend(
        stub,
        limit=60,
        sources=[NEAREST, POPULAR],
        selection=types.SelectionOptions(exploration=selection.exploration),
    )
    pinned = answer.items[1]
    assert (pinned.id, pinned.source) == ("i30", "pinned")
    assert not pinned.HasField("diversity_position")
    assert pinned.HasField("ranking_score")
    others = [item for item in answer.items if item.id != "i30"]
    assert [item.diversity_position for item in others] == list(range(11))
    assert [item.id for item in others] != [name for name in ids(drawn) if name != "i30"][:11]
    by_rank = sorted(others, key=lambda item: item.ranking_position)
    assert [item.id for item in by_rank] == [
        name for name in ranked if name in {item.id for item in others}
    ]
    by_draw = sorted(others, key=lambda item: item.exploration_position)
    assert [item.id for item in by_draw] == [
        name for name in ids(drawn) if name in {item.id for item in others}
    ]
    for item in every.items:
        assert not item.HasField("exploration_position")
        assert not item.HasField("diversity_position")


# The query that was answered.


def test_the_query_that_was_answered_sent_again_gets_the_same_list(stub: Stub) -> None:
    selection = types.SelectionOptions(
        score_min=-50.0,
        diversity=0.4,
        caps=[types.Cap(attribute="genres", item_count_max=5)],
        pinned_items=[types.PinnedItem(item_id="i30"), types.PinnedItem(item_id="i31", position=4)],
        exploration=types.Exploration(temperature=0.7),
    )
    of_value = types.SourceOptions(
        name="comedies",
        popularity=types.PopularitySource(
            attribute="genres", value=types.Value(string_value="Comedy")
        ),
    )
    request = pb.RecommendRequest(
        query=user(features={"age": types.Value(int64_value=44)}),
        sources=[NEAREST, RECENT, of_value, CALLER],
        selection=selection,
        filter=YEAR,
        debug=True,
    )
    answer = stub.Recommend(request, timeout=10)
    answered = answer.info.answered_query
    assert answered.limit == 20
    assert answered.selection.exploration.seed == answer.info.seed
    again = pb.RecommendRequest(
        query=types.Query(
            user=types.UserQuery(
                id="u1",
                features={
                    name.removeprefix("user."): value
                    for name, value in answered.features.items()
                    if name.startswith("user.")
                },
                history=[types.HistoryEvent(item_id=name) for name in answered.history_item_ids],
            )
        ),
        limit=answered.limit,
        sources=answered.sources,
        selection=answered.selection,
        output_weights=answered.output_weights,
        retrieval=types.RetrievalOptions(ef=answered.ef, exact=answered.exact),
        filter=YEAR,
        debug=True,
    )
    same = stub.Recommend(again, timeout=10)
    assert list(same.items) == list(answer.items)
    other = same.info.answered_query
    other.budget.CopyFrom(answered.budget)
    assert other == answered


def test_the_query_that_was_answered_has_all_defaults_filled_in(
    stub: Stub, generation: Generation
) -> None:
    answer = recommend(stub, debug=True)
    answered = answer.info.answered_query
    assert answered.embedding_source == "two_tower"
    assert answered.features["user.age"].double_value == 21.5
    assert answered.features["user.segment"].string_value == "new"
    seen = [generation.catalog.item_id(row) for row in generation.catalog.seen("u1")]
    assert list(answered.history_item_ids) == seen
    assert (answered.excluded_item_count, answered.filter, answered.limit) == (5, "", 20)
    (source,) = answered.sources
    assert (source.name, source.candidate_count) == ("two_tower", 200)
    assert source.WhichOneof("kind") == "nearest"
    assert dict(answered.output_weights) == {"rating": 1.0, "like": 0.5}
    assert 9 < answered.budget.ToTimedelta().total_seconds() <= 10.1
    by_vector = stub.Retrieve(
        pb.RetrieveRequest(
            query=types.Query(embedding=types.Embedding(values=answered.embedding)),
            exclusions=types.Exclusions(item_ids=seen),
        ),
        timeout=10,
    )
    retrieved = stub.Retrieve(pb.RetrieveRequest(query=user()), timeout=10)
    assert ids(by_vector) == ids(retrieved)
    assert not recommend(stub).info.HasField("answered_query")


def test_the_filter_that_was_answered_is_the_canonical_one(stub: Stub) -> None:
    twice = types.Filter(any_of=types.FilterList(filters=[YEAR, YEAR]))
    unwanted = types.Filter(
        equals=types.EqualsCondition(attribute="title", value=types.Value(string_value="x"))
    )
    answer = recommend(stub, filter=twice, exclusions=types.Exclusions(filter=unwanted), debug=True)
    assert answer.info.answered_query.filter == 'all_of("year" exists,none_of("title" in ["x"]))'


def test_answered_queries_of_the_other_calls(stub: Stub) -> None:
    similar = stub.FindSimilarItems(
        pb.FindSimilarItemsRequest(item_id="i3", limit=7, debug=True), timeout=10
    ).info.answered_query
    assert (similar.embedding_source, similar.limit) == ("items", 7)
    assert [(one.name, one.candidate_count) for one in similar.sources] == [("items", 7)]
    nobody = recommend(stub, user("nobody"), debug=True).info.answered_query
    assert (nobody.embedding_source, list(nobody.embedding)) == ("popularity", [])
    assert nobody.sources[0].name == "nearest"
    batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(query=user(), debug=True)])
    (row,) = stub.BatchRecommend(batch, timeout=10)
    assert row.response.info.answered_query.limit == 20


# Counts.


def test_matches_of_the_filters_are_counted_without_other_exclusions(stub: Stub) -> None:
    assert not recommend(stub).info.HasField("match_count")
    with_year = sum(1 for row in range(tiny_world.ITEM_COUNT) if row % 7)
    answer = recommend(stub, filter=YEAR, exclusions=types.Exclusions(item_ids=["i1", "i2"]))
    assert answer.info.match_count == with_year
    without = recommend(stub, exclusions=types.Exclusions(filter=YEAR), limit=3)
    assert without.info.match_count == tiny_world.ITEM_COUNT - with_year
    nothing = types.Filter(
        all_of=types.FilterList(filters=[YEAR, types.Filter(none_of={"filters": [YEAR]})])
    )
    answer = recommend(stub, filter=nothing)
    assert (answer.info.HasField("match_count"), answer.info.match_count) == (True, 0)
    assert answer.info.shortfall_reason == types.SHORTFALL_REASON_FILTER_EXHAUSTED
    assert answer.info.sources[0].plan == f"none of {tiny_world.ITEM_COUNT} allowed"


SHORTFALLS = {
    "UNSPECIFIED": pb.RecommendRequest(limit=10),
    "CATALOG_EXHAUSTED": pb.RecommendRequest(limit=60),
    "FILTER_EXHAUSTED": pb.RecommendRequest(limit=54, filter=YEAR),
    "SOURCES_EXHAUSTED": pb.RecommendRequest(limit=10, sources=[NEAREST]),
    "SCORE_MIN": pb.RecommendRequest(limit=10, selection=types.SelectionOptions(score_min=1e6)),
    "CAPS": pb.RecommendRequest(
        limit=50,
        selection=types.SelectionOptions(caps=[types.Cap(attribute="genres", item_count_max=1)]),
    ),
}


@pytest.mark.parametrize("reason", SHORTFALLS)
def test_a_short_list_says_why(stub: Stub, reason: str) -> None:
    request = SHORTFALLS[reason]
    answer = recommend(stub, **{field.name: value for field, value in request.ListFields()})
    assert types.ShortfallReason.Name(answer.info.shortfall_reason) == f"SHORTFALL_REASON_{reason}"
    assert (len(answer.items) < request.limit) == (reason != "UNSPECIFIED")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Any:
    """The tiny world without interactions, and so without popularity, served."""
    folder = tmp_path_factory.mktemp("bare")
    spec = tiny_world.write_spec(folder / "spec", interactions=None)
    export_bundle(spec, folder / "bundle")
    running = type(server)(folder / "bundle", load_generation(folder / "bundle"))
    with grpc.insecure_channel(running.target) as channel:
        yield Stub(channel)
    running.stop()


def test_without_popularity_nothing_is_found_for_nobody_and_the_answer_says_so(bare: Stub) -> None:
    answer = recommend(bare, user("nobody"))
    assert not answer.items
    exhausted = types.SHORTFALL_REASON_POPULARITY_EXHAUSTED
    assert answer.info.shortfall_reason == exhausted
    pins = types.SelectionOptions(pinned_items=[types.PinnedItem(item_id="i3")])
    pinned = recommend(bare, user("nobody"), selection=pins)
    assert ids(pinned) == ["i3"]
    assert pinned.info.shortfall_reason == exhausted
    named = recommend(bare, user("nobody"), sources=[CALLER], limit=9)
    assert ids(named) == ["i9", "i8", "i7", "i6"]
    assert named.info.shortfall_reason == types.SHORTFALL_REASON_SOURCES_EXHAUSTED


@pytest.mark.parametrize(
    ("query", "basis", "source"),
    [
        (user("u1"), "UNSPECIFIED", "two_tower"),
        (user("ghost", features={"age": types.Value(int64_value=3)}), "FEATURES", "two_tower"),
        (user("ghost", history=[types.HistoryEvent(item_id="i3")]), "HISTORY", "history"),
        (
            user(
                "ghost",
                history=[types.HistoryEvent(item_id="i3")],
                features={"segment": types.Value(string_value="new")},
            ),
            "HISTORY",
            "history",
        ),
        (
            user("ghost", features={"segment": types.Value(string_value="x")}),
            "NOTHING",
            "popularity",
        ),
        (user(""), "NOTHING", "popularity"),
        (types.Query(items=types.ItemsQuery(item_ids=["i1"])), "UNSPECIFIED", "items"),
    ],
)
def test_a_cold_start_says_what_it_was_answered_from(
    stub: Stub, query: types.Query, basis: str, source: str
) -> None:
    answer = recommend(stub, query)
    name = types.ColdStartBasis.Name(answer.info.cold_start_basis)
    assert name == f"COLD_START_BASIS_{basis}"
    assert answer.info.cold_start == (basis != "UNSPECIFIED")
    assert {item.source for item in answer.items} == {source}
    assert len(answer.items) == 20


def test_the_seed_of_a_draw_is_told_and_draws_the_same_again(stub: Stub) -> None:
    drawn = types.SelectionOptions(exploration=types.Exploration(temperature=2.0))
    answers = [recommend(stub, selection=drawn) for _ in range(3)]
    seeds = {answer.info.seed for answer in answers}
    assert len(seeds) == 3
    assert len({tuple(ids(answer)) for answer in answers}) == 3
    drawn.exploration.seed = answers[0].info.seed
    assert list(recommend(stub, selection=drawn).items) == list(answers[0].items)
    assert not recommend(stub).info.HasField("seed")
    off = types.SelectionOptions(exploration=types.Exploration(temperature=0.0, seed=3))
    assert ids(recommend(stub, selection=off)) == ids(recommend(stub))
    assert not recommend(stub, selection=off).info.HasField("seed")


def test_pins_that_are_left_out_are_warnings(stub: Stub, generation: Generation) -> None:
    seen = generation.catalog.item_id(int(generation.catalog.seen("u1")[0]))
    pins = [types.PinnedItem(item_id=name) for name in ("ghost", seen, "i8", "i9")]
    caps = [
        types.Cap(attribute="year", item_count_max=1),
        types.Cap(attribute="title", item_count_max=1),
    ]
    year = generation.catalog.attribute("year", 8)
    same_year = [row for row in range(60) if generation.catalog.attribute("year", row) == year]
    pins.append(types.PinnedItem(item_id=f"i{same_year[-1]}"))
    assert len(same_year) == 2
    answer = recommend(
        stub, limit=10, selection=types.SelectionOptions(pinned_items=pins, caps=caps)
    )
    warnings = [
        (types.WarningReason.Name(one.reason).removeprefix("WARNING_REASON_"), list(one.subjects))
        for one in answer.info.warnings
    ]
    assert warnings == [
        ("UNKNOWN_ITEM", ["ghost"]),
        ("PINNED_ITEM_LEFT_OUT", [seen]),
        ("PINNED_ITEM_LEFT_OUT", [f"i{same_year[-1]}"]),
    ]
    assert ids(answer)[:2] == ["i8", "i9"]
    assert f"i{same_year[-1]}" not in ids(answer)
    assert len(answer.items) == 10
