"""What the methods put on the wire."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import (
    bundle_pb2,
    catalog_pb2,
    conversation_pb2,
    recommendation_pb2,
    types_pb2,
)
from shortlist_client import (
    AsyncClient,
    CatalogItem,
    Client,
    Embedding,
    Event,
    InvalidRequestError,
    InvalidValue,
    Items,
    Nearest,
    OutOfRange,
    PinnedItem,
    RecommendRequest,
    Rerank,
    ShortlistError,
    User,
    attribute,
    bundle_calls,
    calls,
    catalog_calls,
    stream_calls,
)

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer

BUILDS: dict[str, Callable[..., Any]] = {
    "recommend": calls.recommend,
    "stream_recommend": stream_calls.stream_recommend,
    "recommend_batch": stream_calls.recommend_batch,
    "retrieve": calls.retrieve,
    "rank": calls.rank,
    "find_similar_items": calls.find_similar_items,
    "get_active_bundle": calls.get_active_bundle,
    "get_catalog_stats": calls.get_catalog_stats,
    "list_bundles": bundle_calls.list_bundles,
    "activate_bundle": bundle_calls.activate_bundle,
    "roll_back_bundle": bundle_calls.roll_back_bundle,
    "upsert_items": catalog_calls.upsert_items,
    "delete_items": catalog_calls.delete_items,
    "get_item": catalog_calls.get_item,
}
WITH_QUERY: dict[str, dict[str, Any]] = {
    "recommend": {},
    "retrieve": {},
    "rank": {"item_ids": ["1"]},
}

ADA = User(
    id="ada",
    features={"age": 36, "zip": "01234"},
    history=[
        Event("50", time=1_793_534_400.25, rating=4.5, action="view"),
        Event("181"),
    ],
)
ADA_ON_THE_WIRE = types_pb2.UserQuery(
    id="ada",
    features={
        "age": types_pb2.Value(int64_value=36),
        "zip": types_pb2.Value(string_value="01234"),
    },
    history=[
        types_pb2.HistoryEvent(
            item_id="50",
            time=Timestamp(seconds=1_793_534_400, nanos=250_000_000),
            rating=4.5,
            action="view",
        ),
        types_pb2.HistoryEvent(item_id="181"),
    ],
)
CONTEXT = {"hour": 20}
RECENT, OLD = attribute("year").equals(1999), attribute("year").equals(1929)
RECENT_ON_THE_WIRE, OLD_ON_THE_WIRE = (
    types_pb2.Filter(
        equals=types_pb2.EqualsCondition(attribute="year", value=types_pb2.Value(int64_value=year))
    )
    for year in (1999, 1929)
)
SOURCES = [Nearest(name="mine", candidate_count=9)]
SOURCES_ON_THE_WIRE = [
    types_pb2.SourceOptions(name="mine", candidate_count=9, nearest=types_pb2.NearestSource())
]
QUERY_ON_THE_WIRE = types_pb2.Query(
    user=ADA_ON_THE_WIRE, context={"hour": types_pb2.Value(int64_value=20)}
)
QUERY_WITH_TEXT_ON_THE_WIRE = types_pb2.Query(
    user=ADA_ON_THE_WIRE,
    context={"hour": types_pb2.Value(int64_value=20)},
    text="a heist in a dream",
)


@pytest.fixture
def sent(ask: Ask, fake_server: FakeServer) -> Callable[..., Any]:
    def send(method: str, *arguments: Any, **fields: Any) -> Any:
        ask(method, *arguments, **fields)
        return fake_server.received[-1].request

    return send


def unset_fields(message: Message) -> set[str]:
    """Return what the test below forgot: fields that nobody set, wherever a message holds them."""
    unset = set()
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        if field not in [present for present, _ in message.ListFields()]:
            unset.add(field.full_name)
    for field, value in message.ListFields():
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if field.type == FieldDescriptor.TYPE_MESSAGE and not is_map:
            parts = value if not isinstance(value, Message) else [value]
            unset |= unset_fields(parts[0])
    return unset


def test_every_field_of_recommend_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    exact = {"ef": 300, "exact": True}  # Together they are for the server to refuse.
    request = sent(
        "recommend",
        ADA,
        text="a heist in a dream",
        limit=7,
        candidate_count=100,
        excluded_item_ids={"9"},
        exclude_seen=False,
        filter=RECENT,
        excluded_filter=OLD,
        sources=SOURCES,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
        score_min=3.5,
        diversity=0.25,
        caps={"genres": 3},
        pinned_items=[PinnedItem("8", 2)],
        temperature=0.5,
        seed=-7,
        rerank=Rerank(
            candidate_count=30, subset=True, reasons=True, passes=2, timeout_s=1.5, seed=-8
        ),
        attributes=["title", "year"],
        context=CONTEXT,
        output_weights={"rating": 1, "like": 0.5},
        strict=True,
        **exact,
    )
    expected = recommendation_pb2.RecommendRequest(
        query=QUERY_WITH_TEXT_ON_THE_WIRE,
        limit=7,
        retrieval=types_pb2.RetrievalOptions(candidate_count=100, ef=300, exact=True),
        exclusions=types_pb2.Exclusions(item_ids=["9"], seen=False, filter=OLD_ON_THE_WIRE),
        filter=RECENT_ON_THE_WIRE,
        sources=SOURCES_ON_THE_WIRE,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
        selection=types_pb2.SelectionOptions(
            score_min=3.5,
            diversity=0.25,
            caps=[types_pb2.Cap(attribute="genres", item_count_max=3)],
            pinned_items=[types_pb2.PinnedItem(item_id="8", position=2)],
            exploration=types_pb2.Exploration(temperature=0.5, seed=-7),
        ),
        rerank=types_pb2.RerankOptions(
            candidate_count=30,
            subset=True,
            reasons=True,
            passes=2,
            timeout=Duration(seconds=1, nanos=500_000_000),
            seed=-8,
        ),
        attributes=["title", "year"],
        output_weights={"rating": 1.0, "like": 0.5},
        strict=True,
    )
    assert request == expected
    assert unset_fields(request) == set()


def test_every_field_of_retrieve_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent(
        "retrieve",
        ADA,
        text="a heist in a dream",
        candidate_count=100,
        ef=300,
        exact=True,
        excluded_item_ids=("9",),
        exclude_seen=False,
        filter=RECENT,
        excluded_filter=OLD,
        sources=SOURCES,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
        attributes=["*"],
        context=CONTEXT,
        strict=True,
    )
    expected = recommendation_pb2.RetrieveRequest(
        query=QUERY_WITH_TEXT_ON_THE_WIRE,
        retrieval=types_pb2.RetrievalOptions(candidate_count=100, ef=300, exact=True),
        exclusions=types_pb2.Exclusions(item_ids=["9"], seen=False, filter=OLD_ON_THE_WIRE),
        filter=RECENT_ON_THE_WIRE,
        sources=SOURCES_ON_THE_WIRE,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
        attributes=["*"],
        strict=True,
    )
    assert request == expected
    assert unset_fields(request) == set()


def test_every_field_of_rank_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent(
        "rank",
        ADA,
        item_ids=["50", "181", "50"],
        excluded_item_ids=["9"],
        attributes=["*"],
        context=CONTEXT,
        output_weights={"like": 2.0},
        ranker="blend",
        llm_timeout_s=1.25,
        strict=True,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
    )
    expected = recommendation_pb2.RankRequest(
        query=QUERY_ON_THE_WIRE,
        item_ids=["50", "181", "50"],
        excluded_item_ids=["9"],
        attributes=["*"],
        output_weights={"like": 2.0},
        ranker=types_pb2.RANKER_BLEND,
        llm_timeout=Duration(seconds=1, nanos=250_000_000),
        strict=True,
        explain=True,
        debug=True,
        min_revision=7,
        bundle_label="canary",
    )
    assert request == expected
    assert unset_fields(request) == {"shortlist.v1.Query.text"}  # the server takes none


@pytest.mark.parametrize(
    ("ranker", "wire"),
    [
        (None, types_pb2.RANKER_UNSPECIFIED),
        ("bundle", types_pb2.RANKER_BUNDLE),
        ("llm", types_pb2.RANKER_LLM),
    ],
)
def test_whose_word_counts_is_on_the_wire(
    sent: Callable[..., Any], ranker: str | None, wire: int
) -> None:
    assert sent("rank", ADA, item_ids=["50"], ranker=ranker).ranker == wire


def test_a_ranker_that_there_is_not_is_refused_before_the_call(sent: Callable[..., Any]) -> None:
    with pytest.raises(InvalidValue, match=r"ranker: expected one of 'bundle', 'llm', 'blend'"):
        sent("rank", ADA, item_ids=["50"], ranker="LLM")


def test_every_field_of_find_similar_items_is_on_the_wire_as_asked(
    sent: Callable[..., Any],
) -> None:
    request = sent(
        "find_similar_items",
        "50",
        by_text=True,
        limit=5,
        candidate_count=50,
        ef=60,
        exact=True,
        excluded_item_ids=["9"],
        attributes=["title"],
        strict=True,
        filter=RECENT,
        debug=True,
        min_revision=7,
        bundle_label="canary",
    )
    expected = recommendation_pb2.FindSimilarItemsRequest(
        item_id="50",
        similarity=recommendation_pb2.SIMILARITY_TEXT,
        limit=5,
        retrieval=types_pb2.RetrievalOptions(candidate_count=50, ef=60, exact=True),
        excluded_item_ids=["9"],
        attributes=["title"],
        strict=True,
        filter=RECENT_ON_THE_WIRE,
        debug=True,
        min_revision=7,
        bundle_label="canary",
    )
    assert request == expected
    assert unset_fields(request) == set()


def test_every_field_of_upsert_items_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent(
        "upsert_items",
        [CatalogItem("50", {"title": "Up", "year": 2009}, vector=[0.5, 1]), CatalogItem("51", {})],
        idempotency_key="load-1",
        strict=True,
    )
    assert request == catalog_pb2.UpsertItemsRequest(
        items=[
            catalog_pb2.Item(
                id="50",
                attributes={
                    "title": types_pb2.Value(string_value="Up"),
                    "year": types_pb2.Value(int64_value=2009),
                },
                vector=types_pb2.Embedding(values=[0.5, 1]),
            ),
            catalog_pb2.Item(id="51"),
        ],
        idempotency_key="load-1",
        strict=True,
    )
    assert unset_fields(request) == set()


def test_every_field_of_activate_bundle_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent(
        "activate_bundle",
        name="films",
        version="2",
        sha256="ab",
        label="canary",
        validate_only=True,
    )
    assert request == bundle_pb2.ActivateBundleRequest(
        name="films", version="2", sha256="ab", label="canary", validate_only=True
    )
    assert unset_fields(request) == set()


def test_every_field_of_other_switches_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    assert sent("roll_back_bundle", label="canary") == bundle_pb2.RollBackBundleRequest(
        label="canary"
    )
    assert sent("deactivate_bundle", "shadow") == bundle_pb2.DeactivateBundleRequest(label="shadow")


def test_every_field_of_delete_items_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent("delete_items", ["50", "51"], idempotency_key="load-2")
    assert request == catalog_pb2.DeleteItemsRequest(
        item_ids=["50", "51"], idempotency_key="load-2"
    )
    assert unset_fields(request) == set()


def test_every_field_of_get_item_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent("get_item", "50", with_vector=True, min_revision=7, bundle_label="canary")
    assert request == catalog_pb2.GetItemRequest(
        item_id="50", with_vector=True, min_revision=7, bundle_label="canary"
    )
    assert unset_fields(request) == set()


def test_every_field_of_get_catalog_stats_is_on_the_wire_as_asked(sent: Callable[..., Any]) -> None:
    request = sent("get_catalog_stats", bundle_label="shadow")
    assert request == catalog_pb2.GetCatalogStatsRequest(bundle_label="shadow")
    assert unset_fields(request) == set()


def test_each_change_has_a_name_of_its_own_for_its_retries(sent: Callable[..., Any]) -> None:
    item = CatalogItem("50", {})
    keys = [sent("upsert_items", [item]).idempotency_key for _ in range(3)]
    assert len({*keys, ""}) == 4


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("upsert_items", {"items": CatalogItem("50", {})}, "items"),
        ("upsert_items", {"items": ["50"]}, "items[0]"),
        ("upsert_items", {"items": [CatalogItem(50, {})]}, "items[0].id"),  # type: ignore[arg-type]
        (
            "upsert_items",
            {"items": [CatalogItem("50", {"year": None})]},  # type: ignore[dict-item]
            'items[0].attributes["year"]',
        ),
        (
            "upsert_items",
            {"items": [CatalogItem("50", {}, vector=[float("inf")])]},
            "items[0].vector.values[0]",
        ),
        ("delete_items", {"item_ids": "50"}, "item_ids"),
        ("get_item", {"item_id": "50", "min_revision": -1}, "min_revision"),
        ("recommend", {"user": "42", "min_revision": 1.5}, "min_revision"),
    ],
)
def test_what_the_catalogue_cannot_take_is_refused_before_it_is_sent(
    ask: Ask, fake_server: FakeServer, method: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ask(method, **fields)
    assert caught.value.field == field
    assert not fake_server.received


def test_every_method_of_the_services_can_be_called(ask: Ask, fake_server: FakeServer) -> None:
    for method, fields in WITH_QUERY.items():
        ask(method, user="42", **fields)
    ask("find_similar_items", "50")
    ask("get_active_bundle")
    ask("get_catalog_stats")
    ask("list_bundles")
    ask("activate_bundle", name="films", version="2")
    ask("roll_back_bundle")
    ask("deactivate_bundle", "canary")
    ask("upsert_items", [CatalogItem("50", {})])
    ask("delete_items", ["50"])
    ask("get_item", "50")
    ask("stream_recommend", user="42")
    ask("recommend_batch", [])
    ask("converse", "Hello")
    services = (
        recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"],
        bundle_pb2.DESCRIPTOR.services_by_name["BundleService"],
        catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
        conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    )
    offered = {method.name for service in services for method in service.methods}
    assert {call.method for call in fake_server.received} == offered


def test_what_is_not_asked_for_is_left_to_the_server(sent: Callable[..., Any]) -> None:
    expected = recommendation_pb2.RecommendRequest(
        query=types_pb2.Query(user=types_pb2.UserQuery(id="42")),
        retrieval=types_pb2.RetrievalOptions(),
        exclusions=types_pb2.Exclusions(),
    )
    assert sent("recommend", user="42") == expected


@pytest.mark.parametrize("method", BUILDS)
def test_none_is_the_default_of_every_option_and_may_be_said(
    sent: Callable[..., Any], method: str
) -> None:
    parameters = inspect.signature(BUILDS[method]).parameters.values()
    options = [option for option in parameters if option.default is not option.empty]
    assert [option.name for option in options if option.default is not None] == []
    needed: dict[str, Any] = {
        "rank": {"item_ids": ["50"]},
        "find_similar_items": {"item_id": "50"},
        "recommend_batch": {"requests": [RecommendRequest()]},
        "upsert_items": {"items": [CatalogItem("50", {})]},
        "delete_items": {"item_ids": ["50"]},
        "get_item": {"item_id": "50"},
        "deactivate_bundle": {"label": "canary"},
    }.get(method, {})
    said = {option.name: None for option in options}
    with_none, without = sent(method, **needed, **said), sent(method, **needed)
    if "idempotency_key" in said:  # a new one for each call
        for request in (with_none, without):
            assert request.idempotency_key
            request.ClearField("idempotency_key")
    assert with_none == without


def test_none_is_the_default_of_every_field_of_a_row_and_may_be_said(
    sent: Callable[..., Any],
) -> None:
    said = dict.fromkeys((field.name for field in dataclasses.fields(RecommendRequest)), None)
    row = RecommendRequest(**wrong(said))
    assert row == RecommendRequest()
    assert sent("recommend_batch", [row]) == sent("recommend_batch", [RecommendRequest()])


def test_seen_items_are_kept_or_left_out_only_where_the_caller_says(
    sent: Callable[..., Any],
) -> None:
    assert not sent("recommend", user="42").exclusions.HasField("seen")
    for said in (True, False):
        exclusions = sent("recommend", user="42", exclude_seen=said).exclusions
        assert exclusions.HasField("seen")
        assert exclusions.seen is said


@pytest.mark.parametrize("method", WITH_QUERY)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (ADA, types_pb2.Query(user=ADA_ON_THE_WIRE)),
        (
            Items(["50", "181"]),
            types_pb2.Query(items=types_pb2.ItemsQuery(item_ids=["50", "181"])),
        ),
        (
            Embedding((0.5, -1)),
            types_pb2.Query(embedding=types_pb2.Embedding(values=[0.5, -1.0])),
        ),
    ],
)
def test_every_kind_of_query_goes_with_every_method_that_takes_one(
    sent: Callable[..., Any], method: str, query: Any, expected: types_pb2.Query
) -> None:
    assert sent(method, query, **WITH_QUERY[method]).query == expected


def test_a_user_may_be_given_by_id_or_whole(sent: Callable[..., Any]) -> None:
    assert sent("recommend", user="ada").query == sent("recommend", User(id="ada")).query
    assert sent("recommend", user=ADA).query.user == ADA_ON_THE_WIRE


def test_no_query_is_for_the_server_to_refuse(sent: Callable[..., Any]) -> None:
    assert sent("recommend").query.WhichOneof("kind") is None


def test_the_beginning_of_1970_and_a_rating_of_zero_are_not_absent() -> None:
    given, absent = User(history=[Event("50", time=0, rating=0)]), User(history=[Event("50")])
    sent = calls.recommend(given).request.query.user.history[0]
    assert (sent.HasField("time"), sent.HasField("rating")) == (True, True)
    sent = calls.recommend(absent).request.query.user.history[0]
    assert (sent.HasField("time"), sent.HasField("rating")) == (False, False)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=UTC), (1_793_534_400, 5_000)),
        (datetime(2026, 11, 1, 14, tzinfo=timezone(timedelta(hours=2))), (1_793_534_400, 0)),
        (1_793_534_400, (1_793_534_400, 0)),
        (1_793_534_400.25, (1_793_534_400, 250_000_000)),
        (-0.5, (-1, 500_000_000)),
        (0, (0, 0)),
        (32.1234, (32, 123_400_000)),
    ],
)
def test_times_are_points_on_one_line_whatever_zone_they_were_written_in(
    time: Any, expected: tuple[int, int]
) -> None:
    call = calls.recommend(User(history=[Event("50", time=time)]))
    sent = call.request.query.user.history[0].time
    assert (sent.seconds, sent.nanos) == expected


def wrong(value: object) -> Any:
    """Pass a value off as one of the right type: not everyone has a type checker."""
    return value


@pytest.mark.parametrize(
    ("fields", "field", "error_type"),
    [
        ({"user": 42}, "query.user.id", InvalidValue),
        ({"user": "\udcff"}, "query.user.id", InvalidValue),
        ({"query": "42"}, "query", InvalidValue),
        ({"query": ADA, "user": "42"}, "query", InvalidValue),
        ({"query": Items("50")}, "query.items.item_ids", InvalidValue),
        ({"query": Items(["50", wrong(181)])}, "query.items.item_ids[1]", InvalidValue),
        ({"query": Embedding([1.0, float("nan")])}, "query.embedding.values[1]", InvalidValue),
        (
            {"query": User(features={"age": 2**63})},
            'query.user.features["age"]',
            OutOfRange,
        ),
        ({"query": User(features={wrong(1): "x"})}, "query.user.features: a name", InvalidValue),
        (
            {"query": User(history=[Event("1"), Event("2", rating=wrong("5"))])},
            "query.user.history[1].rating",
            InvalidValue,
        ),
        (
            {"query": User(history=[Event("1", time=datetime(2026, 11, 1))])},
            "query.user.history[0].time",
            InvalidValue,
        ),
        (
            {"query": User(history=[Event("1", time=1e12)])},
            "query.user.history[0].time",
            OutOfRange,
        ),
        (
            {"query": User(history=[Event("1", time=True)])},
            "query.user.history[0].time",
            InvalidValue,
        ),
        ({"context": {"hour": None}}, 'query.context["hour"]', InvalidValue),
        ({"limit": 0}, "limit", OutOfRange),
        ({"limit": -1}, "limit", OutOfRange),
        ({"limit": 2**31}, "limit", OutOfRange),
        ({"limit": "10"}, "limit", InvalidValue),
        ({"limit": True}, "limit", InvalidValue),
        ({"candidate_count": 0}, "retrieval.candidate_count", OutOfRange),
        ({"ef": 1.5}, "retrieval.ef", InvalidValue),
        ({"exact": 1}, "retrieval.exact", InvalidValue),
        ({"exclude_seen": 0}, "exclusions.seen", InvalidValue),
        ({"excluded_item_ids": "9"}, "exclusions.item_ids", InvalidValue),
        ({"attributes": "*"}, "attributes", InvalidValue),
        ({"output_weights": {"rating": "1"}}, 'output_weights["rating"]', InvalidValue),
        ({"strict": "yes"}, "strict", InvalidValue),
        ({"request_id": "Zoë"}, "request_id", InvalidValue),
        ({"request_id": "a\nb"}, "request_id", InvalidValue),
        ({"request_id": ""}, "request_id", InvalidValue),
        ({"timeout_s": 0}, "timeout_s", InvalidValue),
        ({"timeout_s": float("inf")}, "timeout_s", InvalidValue),
    ],
)
def test_what_the_wire_cannot_hold_is_refused_by_field_before_anything_is_sent(
    fields: dict[str, Any], field: str, error_type: type[ShortlistError]
) -> None:
    with pytest.raises(error_type) as caught:
        calls.recommend(**fields)
    assert isinstance(caught.value, InvalidValue | OutOfRange)
    assert caught.value.field == field
    assert caught.value.reason == ("OUT_OF_RANGE" if error_type is OutOfRange else "INVALID_VALUE")
    assert caught.value.expected in str(caught.value)
    assert caught.value.got in str(caught.value)


@pytest.mark.parametrize("client_type", [Client, AsyncClient])
@pytest.mark.parametrize("method", BUILDS)
def test_methods_have_the_arguments_and_the_docstring_of_their_calls(
    client_type: type, method: str
) -> None:
    shown, build = getattr(client_type, method), BUILDS[method]
    parameters = list(inspect.signature(shown).parameters.values())
    assert parameters[0].name == "self"
    assert parameters[1:] == list(inspect.signature(build).parameters.values())
    assert shown.__doc__ == build.__doc__
    assert shown.__name__ == method


@pytest.mark.parametrize("method", BUILDS)
def test_every_argument_is_documented(method: str) -> None:
    build = BUILDS[method]
    documentation = inspect.getdoc(build) or ""
    assert [
        name for name in inspect.signature(build).parameters if f"{name}: " not in documentation
    ] == []
