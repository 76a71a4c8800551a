"""Queries in words: over a socket, from a bundle whose items have texts, against a scan by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
import pytest
import text_world
import tiny_world
from conftest import RunningServer
from shortlist_client import (
    Client,
    InvalidRequestError,
    Items,
    Nearest,
    NotConfigured,
    Popularity,
    Text,
    User,
    attribute,
)
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.labels import LabeledGenerations, ServingSet, load_generations
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.language_model import LlmUnavailable
from shortlist_server.llm.local_embedder import LocalEmbedder

WORDS = "a heist in a dream"


@pytest.fixture(scope="module")
def served(text_bundle: Path) -> Iterator[Client]:
    server = RunningServer(text_bundle, load_generation(text_bundle))
    with Client(server.target, timeout_s=60) as client:
        yield client
    server.stop()


@pytest.fixture(scope="module")
def by_hand(text_bundle: Path) -> Any:
    """Returns the ids of the items with a text, nearest to some words first, and their scores."""
    bundle = open_bundle(text_bundle)
    texts = bundle.texts
    assert texts is not None
    embedder = LocalEmbedder(bundle.path("texts/embedder"))

    def nearest(point: str | np.ndarray) -> tuple[list[str], np.ndarray]:
        if isinstance(point, str):
            point = embedder.embed_now([point], kind="query", deadline_s=60)[0]
        scores = texts.embeddings @ point
        order = np.argsort(-scores, kind="stable")
        return [bundle.item_ids[texts.rows[place]] for place in order], scores[order]

    nearest.of = lambda item_id: texts.embeddings[  # type: ignore[attr-defined]
        np.searchsorted(texts.rows, bundle.item_ids.index(item_id))
    ]
    return nearest


@contextmanager
def served_by(folder: Path, generations: Any, **settings: Any) -> Iterator[Client]:
    server = RunningServer(folder, generations, **settings)
    with Client(server.target, timeout_s=60) as client:
        yield client
    server.stop()


def ids(answer: Any) -> list[str]:
    return [item.id for item in answer.items]


def test_a_text_alone_finds_the_items_whose_texts_are_nearest(served: Client, by_hand: Any) -> None:
    expected, scores = by_hand(WORDS)
    answer = served.recommend(text=WORDS, limit=50)
    assert ids(answer) == expected[:50]
    assert [item.score for item in answer.items] == pytest.approx(scores[:50].tolist(), abs=1e-5)
    assert {item.source for item in answer.items} == {"text"}
    assert not answer.info.cold_start
    (source,) = answer.info.sources
    assert (source.name, source.kind, source.plan) == ("text", "text", "text: exact 50 of 50")
    assert all(item.retrieval_score is None for item in answer.items)


def test_items_without_a_text_are_not_found(served: Client) -> None:
    answer = served.recommend(text=WORDS, limit=60)
    assert set(ids(answer)) == set(text_world.plots())
    assert answer.info.shortfall_reason == "SOURCES_EXHAUSTED"


def test_control_characters_and_white_space_say_nothing(served: Client) -> None:
    plain = served.recommend(text=WORDS, debug=True)
    odd = served.recommend(text="\x00 a\theist\u2028in\x1b a\r\n dream ", debug=True)
    assert ids(odd) == ids(plain)
    assert odd.info.answered_query is not None
    assert odd.info.answered_query.text == WORDS
    assert odd.info.answered_query.sources == (Text(name="text", candidate_count=50),)


def test_filters_and_exclusions_hold(served: Client, by_hand: Any) -> None:
    years = {f"i{row}": 1980 + row % 40 for row in range(tiny_world.ITEM_COUNT) if row % 7}
    expected, _ = by_hand(WORDS)
    excluded = expected[1]
    wanted = [
        item_id for item_id in expected if years.get(item_id, 0) >= 2000 and item_id != excluded
    ]
    answer = served.recommend(
        text=WORDS, filter=attribute("year").at_least(2000), excluded_item_ids=[excluded], limit=40
    )
    assert ids(answer) == wanted


@pytest.mark.parametrize("user", ["u1", User(id="u1"), User(features={"age": 50.0})])
def test_beside_a_user_the_ranker_orders_what_the_text_finds(
    served: Client, by_hand: Any, user: Any
) -> None:
    expected, _ = by_hand(WORDS)
    answer = served.recommend(user=user, text=WORDS, limit=5, exclude_seen=False)
    assert set(ids(answer)) <= set(expected[:50])
    ranked = served.rank(user=user, item_ids=expected[:50])
    assert ids(answer) == ids(ranked)[:5]
    few = served.recommend(
        user=user, sources=[Text(candidate_count=5)], text=WORDS, limit=5, exclude_seen=False
    )
    assert set(ids(few)) == set(expected[:5])
    assert all(item.ranking_score is not None for item in few.items)


def test_seen_items_are_left_out_beside_a_user(served: Client, text_bundle: Path) -> None:
    bundle = open_bundle(text_bundle)
    assert bundle.users is not None
    seen = {bundle.item_ids[row] for row in bundle.users.seen(1)}
    answer = served.recommend(user="u1", text=WORDS, limit=60)
    assert seen
    assert not seen & set(ids(answer))


def test_beside_a_user_candidates_are_in_the_order_of_the_text(
    served: Client, by_hand: Any
) -> None:
    expected, _ = by_hand(WORDS)
    answer = served.retrieve(user="u1", text=WORDS, exclude_seen=False, candidate_count=20)
    assert ids(answer) == expected[:20]
    assert all(item.retrieval_score is not None for item in answer.items)


def test_beside_other_sources_reciprocal_ranks_are_fused(served: Client, by_hand: Any) -> None:
    expected, _ = by_hand(WORDS)
    popular = ids(served.retrieve(user="nobody", sources=[Popularity(candidate_count=9)]))
    answer = served.retrieve(
        user="nobody", text=WORDS, sources=[Text(candidate_count=7), Popularity(candidate_count=9)]
    )
    fused: dict[str, float] = {}
    for found in (expected[:7], popular):
        for place, item_id in enumerate(found):
            fused[item_id] = fused.get(item_id, 0.0) + 1 / (61 + place)
    assert {item.id: item.score for item in answer.items} == pytest.approx(fused)
    assert answer.items[0].score == pytest.approx(max(fused.values()))


def test_without_a_text_the_source_is_skipped(served: Client) -> None:
    answer = served.recommend(user="u1", sources=[Text(), Nearest()], limit=3)
    assert [(source.kind, source.outcome) for source in answer.info.sources] == [
        ("text", "SKIPPED"),
        ("nearest", "OK"),
    ]
    assert answer.info.sources[0].plan == "there is no query text"


def test_items_are_alike_by_text(served: Client, by_hand: Any) -> None:
    expected, _ = by_hand(by_hand.of("i1"))
    answer = served.find_similar_items("i1", by_text=True, limit=10)
    assert ids(answer) == [item_id for item_id in expected if item_id != "i1"][:10]
    assert ids(answer) != ids(served.find_similar_items("i1", limit=10))
    two = served.recommend(Items(["i1", "i2", "i0"]), sources=[Text()], limit=10)
    mean = by_hand.of("i1") + by_hand.of("i2")  # i0 has no text
    expected, _ = by_hand(mean / np.linalg.norm(mean))
    assert ids(two) == [item_id for item_id in expected if item_id not in ("i1", "i2")][:10]
    assert two.info.sources[0].plan == "mean of 2 texts: exact 50 of 50"


def test_an_item_without_a_text_is_like_none_by_text(served: Client) -> None:
    answer = served.find_similar_items("i0", by_text=True, limit=3)
    assert answer.info.sources[0].outcome == "SKIPPED"
    assert answer.info.sources[0].plan == "the example items have no text"


def test_the_graph_finds_what_a_scan_finds(text_bundle: Path) -> None:
    generation = load_generation(text_bundle, GenerationOptions(exact_items_max=0, exact_ms_max=0))
    server = RunningServer(text_bundle, generation)
    with Client(server.target, timeout_s=60) as client:
        graph = client.recommend(text=WORDS, limit=5, ef=50)
        scan = client.recommend(text=WORDS, limit=5, exact=True)
    server.stop()
    assert graph.info.sources[0].plan == "text: hnsw ef=50"
    assert ids(graph) == ids(scan)


def test_the_bundles_own_list_may_search_texts(tmp_path: Path) -> None:
    folder = text_world.write_bundle(
        tmp_path,
        sources=[{"kind": "text", "name": "words", "candidate_count": 3}, {"kind": "nearest"}],
    )
    server = RunningServer(folder, load_generation(folder))
    with Client(server.target, timeout_s=60) as client:
        with_text = client.recommend(user="u1", text=WORDS)
        without = client.recommend(user="u1")
    server.stop()
    assert [source.name for source in with_text.info.sources] == ["words", "two_tower"]
    assert with_text.info.sources[0].item_count == 3
    assert [source.outcome for source in without.info.sources] == ["SKIPPED", "OK"]


def test_rank_takes_no_text(served: Client, channel: grpc.Channel) -> None:
    from shortlist.v1 import recommendation_pb2, recommendation_pb2_grpc, types_pb2

    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    query = types_pb2.Query(text=WORDS, user=types_pb2.UserQuery(id="u1"))
    request = recommendation_pb2.RankRequest(query=query, item_ids=["i1"])
    with pytest.raises(grpc.RpcError) as refused:
        stub.Rank(request, timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "query.text: expected none" in refused.value.details()


# An embedder outside of the process.


class Service:
    """The bundle's own embedder as a service: answers when it is let."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder
        self.identity = "service/tiny"
        self.dimension = embedder.dimension
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.fails = False
        self.asked = threading.Event()

    async def embed(
        self, texts: Any, *, kind: Literal["query", "item"], deadline_s: float
    ) -> np.ndarray:
        self.asked.set()
        await asyncio.to_thread(self.may_answer.wait)
        if self.fails:
            raise LlmUnavailable(f"{self.identity}: cannot be reached")
        return self._embedder.embed_now(texts, kind=kind, deadline_s=deadline_s)

    async def close(self) -> None:
        pass


@contextmanager
def loaded(folder: Path, service: Service) -> Iterator[LabeledGenerations]:
    """A bundle, and what waits for its service."""
    waited_for = EmbeddingService(
        lambda observer: service,
        identity=service.identity,
        dimension=service.dimension,
        space=None,
    )
    options = GenerationOptions(text_embedder=waited_for)
    generations = load_generations(ServingSet(stable=folder), options)
    yield generations
    service.may_answer.set()
    generations.close()


@pytest.fixture
def service(text_bundle: Path) -> Service:
    return Service(LocalEmbedder(text_bundle / "texts/embedder"))


@pytest.fixture
def remote(text_bundle: Path, tmp_path: Path) -> Path:
    """The bundle without its embedder: a service embedded its items."""
    return text_world.of_service(text_bundle, tmp_path / "remote", "service/tiny")


def test_a_service_that_is_waited_for_keeps_nobody_else_waiting(
    remote: Path, service: Service, served: Client
) -> None:
    service.may_answer.clear()
    # One compute thread: were it taken by the call that waits, nobody else would be answered.
    with (
        loaded(remote, service) as generations,
        served_by(remote, generations, compute_threads=1) as client,
    ):
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.append(client.recommend(text=WORDS)))
        waiting.start()
        assert service.asked.wait(30)
        assert len(client.recommend(user="u1", limit=3).items) == 3
        assert not found
        service.may_answer.set()
        waiting.join(30)
        assert ids(found[0]) == ids(served.recommend(text=WORDS))


def test_a_service_that_fails_leaves_the_other_sources(remote: Path, service: Service) -> None:
    service.fails = True
    with loaded(remote, service) as generations, served_by(remote, generations) as client:
        answer = client.recommend(user="u1", text=WORDS, sources=[Text(), Nearest()], limit=3)
        assert [(part.source, part.reason) for part in answer.info.degraded] == [
            ("text", "LLM_UNAVAILABLE")
        ]
        assert {item.source for item in answer.items} == {"two_tower"}
        similar = client.find_similar_items("i1", by_text=True, limit=3)
        assert len(similar.items) == 3


def test_without_its_service_a_bundle_says_what_is_missing(remote: Path) -> None:
    server = RunningServer(remote, load_generation(remote))
    with Client(server.target, timeout_s=60) as client:
        with pytest.raises(NotConfigured) as refused:
            client.recommend(text=WORDS)
        assert "service/tiny" in str(refused.value)
        assert len(client.find_similar_items("i1", by_text=True, limit=3).items) == 3
        assert len(client.recommend(user="u1", limit=3).items) == 3
    server.stop()


def test_a_text_is_refused_where_the_bundle_has_none(generation: Generation) -> None:
    server = RunningServer(generation.bundle.folder, generation)
    with Client(server.target, timeout_s=60) as client:
        for call in (
            lambda: client.recommend(user="u1", text=WORDS),
            lambda: client.retrieve(text=WORDS),
            lambda: client.find_similar_items("i1", by_text=True),
        ):
            with pytest.raises(InvalidRequestError, match="the bundle has no text embeddings"):
                call()
    server.stop()
