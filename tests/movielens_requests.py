"""Requests of all kinds to `movielens_world`, drawn from a seed, and how they are sent."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub

FILMS, USERS = 1_682, 943
GENRES = ("Comedy", "Drama", "Horror", "Thriller", "Western")
BATCH = 20


@dataclass(frozen=True)
class Answered:
    """A request with its answer."""

    request: Any
    response: Any

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.response.items]

    @property
    def scores(self) -> dict[str, float]:
        return {item.id: item.score for item in self.response.items}

    def again(self) -> Any:
        """The request with the seed that the server chose."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        if self.response.info.HasField("seed"):
            request.selection.exploration.seed = self.response.info.seed
        return request


def send(stub: Stub, requests: list[Any]) -> list[Answered]:
    """Send requests: some RecommendRequests one by one, some in batches, some as streams."""
    answered, batch = [], []
    for place, request in enumerate(requests):
        name = type(request).__name__.removesuffix("Request")
        if name == "Recommend" and place % 5 == 0:
            batch.append(request)
        elif name == "Recommend" and place % 5 == 1:
            *_, last = stub.StreamRecommend(pb.StreamRecommendRequest(request=request), timeout=60)
            assert last.last
            answered.append(Answered(request, last.response))
        else:
            answered.append(Answered(request, getattr(stub, name)(request, timeout=60)))
        if batch and (len(batch) == BATCH or place == len(requests) - 1):
            messages = list(
                stub.BatchRecommend(pb.BatchRecommendRequest(requests=batch), timeout=60)
            )
            assert [message.WhichOneof("result") for message in messages] == ["response"] * len(
                batch
            )
            answered += [Answered(batch[message.index], message.response) for message in messages]
            batch = []
    return answered


def make_requests(count: int, seed: int = 3) -> list[Any]:
    """Draw requests, all of which are answered."""
    draw = random.Random(seed)
    makers = (_recommend, _recommend, _recommend, _recommend, _retrieve, _rank, _similar)
    return [makers[place % len(makers)](draw) for place in range(count)]


def _recommend(draw: random.Random) -> pb.RecommendRequest:
    request = pb.RecommendRequest(query=_query(draw), limit=draw.choice((1, 5, 10, 50)))
    _narrow(draw, request)
    if draw.random() < 0.3:
        request.sources.extend(_sources(draw))
    selection = request.selection
    if draw.random() < 0.3:
        selection.diversity = draw.choice((0.1, 0.5))
    if draw.random() < 0.2:
        selection.caps.add(attribute="genres", item_count_max=draw.choice((1, 3)))
    if draw.random() < 0.2:
        selection.exploration.temperature = draw.choice((0.1, 1.0))
        if draw.random() < 0.5:
            selection.exploration.seed = draw.randrange(1 << 40)
    if draw.random() < 0.1:
        selection.pinned_items.add(item_id=_film(draw), position=0)
    if draw.random() < 0.1:
        request.output_weights.update({"like": 2.0, "rating": draw.random()})
    request.explain = draw.random() < 0.05
    request.debug = draw.random() < 0.05
    if draw.random() < 0.3:
        request.attributes.append("*")
    return request


def _retrieve(draw: random.Random) -> pb.RetrieveRequest:
    request = pb.RetrieveRequest(query=_query(draw))
    request.retrieval.candidate_count = draw.choice((5, 100, 700))
    _narrow(draw, request)
    return request


def _rank(draw: random.Random) -> pb.RankRequest:
    return pb.RankRequest(query=_query(draw), item_ids=[_film(draw) for _ in range(40)])


def _similar(draw: random.Random) -> pb.FindSimilarItemsRequest:
    return pb.FindSimilarItemsRequest(
        item_id=_film(draw), limit=draw.choice((3, 30)), excluded_item_ids=[_film(draw)]
    )


def _film(draw: random.Random) -> str:
    return str(draw.randint(1, FILMS))


def _query(draw: random.Random) -> types.Query:
    kind = draw.random()
    if kind < 0.1:
        return types.Query(items=types.ItemsQuery(item_ids=[_film(draw) for _ in range(3)]))
    if kind < 0.15:
        values = [draw.gauss(0, 1) for _ in range(12)]
        return types.Query(embedding=types.Embedding(values=values))
    # One in ten is not known.
    user = types.UserQuery(id=str(draw.randint(1, USERS)) if kind < 0.9 else "newcomer")
    if draw.random() < 0.3:
        user.features["age"].double_value = draw.randint(10, 70)
    if draw.random() < 0.3:
        user.history.extend(
            types.HistoryEvent(item_id=_film(draw), rating=float(draw.randint(1, 5)))
            for _ in range(draw.randint(1, 12))
        )
    query = types.Query(user=user)
    if draw.random() < 0.3:
        query.context["hour"].int64_value = draw.randrange(24)
    return query


def _narrow(draw: random.Random, request: Any) -> None:
    """Add filters and exclusions, or a width of the search: both together leave the choice between
    two ways through the graph to the clock.
    """
    if draw.random() < 0.15:
        request.retrieval.ef = draw.choice((20, 200))
        return
    if draw.random() < 0.4:
        genre = types.Value(string_value=draw.choice(GENRES))
        request.filter.contains.CopyFrom(types.ContainsCondition(attribute="genres", value=genre))
    elif draw.random() < 0.3:
        year = types.Value(int64_value=draw.choice((1950, 1990, 1997)))
        request.filter.range.CopyFrom(types.RangeCondition(attribute="year", at_least=year))
    if draw.random() < 0.3:
        request.exclusions.item_ids.extend(_film(draw) for _ in range(draw.choice((1, 60))))
    if draw.random() < 0.2:
        request.exclusions.seen = False


def _sources(draw: random.Random) -> list[types.SourceOptions]:
    sources = [
        types.SourceOptions(nearest=types.NearestSource(), candidate_count=100),
        types.SourceOptions(recent_history=types.HistorySource(event_count=5)),
        types.SourceOptions(
            name="genre",
            candidate_count=20,
            popularity=types.PopularitySource(
                attribute="genres", value=types.Value(string_value=draw.choice(GENRES))
            ),
        ),
        types.SourceOptions(caller=types.CallerSource(item_ids=[_film(draw) for _ in range(9)])),
    ]
    return draw.sample(sources, draw.randint(1, 4))
