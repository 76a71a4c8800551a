"""Item tower and ranker read what the texts of changed items mean: at once, after a restart, after
a folding, and under another bundle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reading_world
import text_world
import tiny_embedder
from changing_world import Item, ListLog
from conftest import RunningServer
from shortlist.v1 import types_pb2
from shortlist_client import CatalogItem, Client, Text
from shortlist_server.catalog.compaction import write_compacted
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.live import LiveGeneration
from shortlist_server.llm.local_embedder import LocalEmbedder
from tiny_world import DIMENSION

PLOT = "a heist in a dream"
NEW: Mapping[str, Mapping[str, Any]] = {
    "new": {"plot": PLOT, "genres": ["Drama"], "title": "New"},
    "i1": {"plot": "the robot of the moon", "genres": ["Comedy", "Horror"]},
    "silent": {"genres": ["Drama"]},
    "listed": {"plot": ["a ship", "sinks"]},
    "blank": {"plot": " \x07 ", "genres": ["Western"]},
}
TEXTS = {"new": PLOT, "i1": "the robot of the moon", "listed": "a ship, sinks"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_world.write_bundle(tmp_path_factory.mktemp("reading"))


@pytest.fixture
def live(bundle: Path, tmp_path: Path) -> Iterator[Client]:
    server = RunningServer(bundle, load_generation(bundle), catalog_store=str(tmp_path / "store"))
    client = Client(server.target, timeout_s=60)
    yield client
    client.close()
    server.stop()


def points(folder: Path) -> dict[str, np.ndarray]:
    """Return the point of each new item's text, made by itself."""
    embedder = LocalEmbedder(folder / "texts/embedder")
    made = {item_id: np.zeros(reading_world.WIDTH, np.float32) for item_id in NEW}
    for item_id, text in TEXTS.items():
        made[item_id] = embedder.embed_now([text], kind="item", deadline_s=60)[0]
    return made


def expected_vectors(folder: Path, seed: int = 3) -> dict[str, Any]:
    """Return what the item tower makes of the new items, by hand."""
    of_texts = points(folder)
    made = reading_world.vectors(
        [item.get("genres", []) for item in NEW.values()], np.stack(list(of_texts.values())), seed
    )
    return {
        item_id: pytest.approx(vector.tolist(), abs=1e-4)
        for item_id, vector in zip(NEW, made, strict=True)
    }


def upserted(client: Client) -> int:
    changes = client.upsert_items([CatalogItem(*item) for item in NEW.items()])
    assert not changes.failures
    return changes.revision


def served_vectors(client: Client, revision: int) -> dict[str, list[float]]:
    return {
        item_id: list(
            client.get_item(item_id, with_vector=True, min_revision=revision).vector or ()
        )
        for item_id in NEW
    }


def test_vectors_are_made_of_the_texts(live: Client, bundle: Path) -> None:
    vectors = expected_vectors(bundle)
    assert served_vectors(live, upserted(live)) == vectors
    without = expected_vectors(bundle) | {"new": vectors["silent"]}
    changes = live.upsert_items([CatalogItem("new", {"genres": ["Drama"]})])
    assert served_vectors(live, changes.revision) == without


def test_a_new_item_is_retrieved_by_its_text_and_ranked_by_it(live: Client, bundle: Path) -> None:
    revision = upserted(live)
    answer = live.recommend(user="u1", limit=100, candidate_count=100, min_revision=revision)
    found = {item.id: item for item in answer.items}
    assert set(NEW) <= set(found)
    for item_id, point in points(bundle).items():
        retrieved = found[item_id].retrieval_score
        assert retrieved is not None
        rating = retrieved + float(point @ reading_world.weights()["liked"][:, 0])
        assert found[item_id].score == pytest.approx(rating, abs=1e-3)
    (nearest,) = live.recommend(text=PLOT, sources=[Text(candidate_count=1)]).items
    assert nearest.id == "new"


def test_a_vector_that_was_sent_stays_and_the_ranker_reads_the_text(
    live: Client, bundle: Path
) -> None:
    sent = [0.5] * DIMENSION
    changes = live.upsert_items([CatalogItem("sent", {"plot": PLOT}, vector=sent)])
    got = live.get_item("sent", with_vector=True, min_revision=changes.revision)
    assert list(got.vector or ()) == sent
    answer = live.recommend(user="u1", limit=100, candidate_count=100)
    (item,) = [item for item in answer.items if item.id == "sent"]
    assert item.retrieval_score is not None
    rating = float(points(bundle)["new"] @ reading_world.weights()["liked"][:, 0])
    assert item.score - item.retrieval_score == pytest.approx(rating, abs=1e-3)


# Without a server: one generation after the other over the same changes.


def following(generation: Generation, log: ListLog) -> LiveGeneration:
    return LiveGeneration(generation, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)


def written(sha256: str) -> ListLog:
    log = ListLog(sha256)
    log.write({item_id: Item(attributes) for item_id, attributes in NEW.items()})
    return log


def vectors_of(live: LiveGeneration) -> dict[str, list[float]]:
    at = live.snapshot
    rows = {item_id: at.catalog.row(item_id) for item_id in NEW}
    return {item_id: at.embeddings[np.array([row])][0].tolist() for item_id, row in rows.items()}


def check_ratings(live: LiveGeneration, folder: Path, seed: int = 3) -> None:
    """Check what the ranker makes of the new items' texts."""
    answer = live.snapshot.funnel.recommend(
        Query(subject=User(id="u1")), Options(limit=100, candidate_count=100), Budget(60.0)
    )
    items, catalog = answer.items, live.snapshot.catalog
    retrieved = items.retrieval_scores
    assert retrieved is not None
    added = dict(
        zip(map(catalog.item_id, items.rows), (items.scores - retrieved).tolist(), strict=True)
    )
    liked = reading_world.weights(seed)["liked"][:, 0]
    for item_id, point in points(folder).items():
        assert added[item_id] == pytest.approx(float(point @ liked), abs=1e-3)


def test_a_folding_keeps_what_was_made_of_the_texts(bundle: Path, tmp_path: Path) -> None:
    generation = load_generation(bundle)
    log = written(generation.bundle.sha256)
    live = following(generation, log)
    assert vectors_of(live) == expected_vectors(bundle)
    check_ratings(live, bundle)
    write_compacted(generation.bundle, live.items, "a store", tmp_path / "folded")
    folded = following(load_generation(tmp_path / "folded", compacted=True), log)
    assert folded.items.untouched
    assert vectors_of(folded) == expected_vectors(bundle)
    check_ratings(folded, bundle)


def test_the_next_bundle_reads_the_texts_by_its_own_models(bundle: Path, tmp_path: Path) -> None:
    other = reading_world.write_bundle(tmp_path, version="2", seed=4, embedder_seed=9)
    log = written(load_generation(bundle).bundle.sha256)
    live = following(load_generation(other), log)
    assert vectors_of(live) == expected_vectors(other, seed=4)
    assert vectors_of(live) != expected_vectors(bundle)
    check_ratings(live, other, seed=4)


def test_changed_items_are_as_if_they_had_been_exported_so(bundle: Path, tmp_path: Path) -> None:
    """An upsert of what the bundle was built with changes no vector."""
    generation = load_generation(bundle)
    log = ListLog(generation.bundle.sha256)
    own, columns = generation.bundle, generation.bundle.item_columns
    items = {}
    for row, item_id in enumerate(own.item_ids):
        attributes = {name: column[row] for name, column in columns.items()}
        attributes["plot"] = text_world.plots().get(item_id)
        items[item_id] = Item({name: cell for name, cell in attributes.items() if cell is not None})
    log.write(items)
    live = following(generation, log)
    rows = np.array([live.snapshot.catalog.row(item_id) for item_id in own.item_ids])
    assert (rows >= len(own.item_ids)).all()
    np.testing.assert_allclose(live.snapshot.embeddings[rows], own.item_embeddings, atol=1e-5)


def test_without_an_embedder_an_item_is_to_the_models_one_without_a_text(
    bundle: Path, tmp_path: Path
) -> None:
    remote = text_world.of_service(bundle, tmp_path / "remote", "service/tiny")
    live = following(load_generation(remote), written("1"))
    vectors = reading_world.vectors(
        [item.get("genres", []) for item in NEW.values()],
        np.zeros((len(NEW), reading_world.WIDTH), np.float32),
    )
    for got, vector in zip(vectors_of(live).values(), vectors, strict=True):
        assert got == pytest.approx(vector.tolist(), abs=1e-4)
    misfits = {misfit.item_id: misfit for misfit in live.state.misfits}
    assert set(misfits) == set(TEXTS)
    for misfit in misfits.values():
        assert misfit.served
        assert misfit.reason == (
            "its text is not embedded; to the models it has none: it needs the embedder of the "
            "bundle's texts, service/tiny"
        )


class Service:
    """The tiny embedder as if it were far away."""

    identity, dimension, space, waits = "service/tiny", reading_world.WIDTH, None, True

    def __init__(self, folder: Path) -> None:
        self._local = LocalEmbedder(folder)

    def embed_now(self, texts: Any, *, kind: Any, deadline_s: float) -> Any:
        return self._local.embed_now(texts, kind=kind, deadline_s=deadline_s)


def test_a_service_embeds_what_the_models_read(bundle: Path, tmp_path: Path) -> None:
    remote = text_world.of_service(bundle, tmp_path / "remote", "service/tiny")
    embedder: Any = Service(tiny_embedder.write_embedder(tmp_path))
    generation = load_generation(remote, GenerationOptions(text_embedder=embedder))
    live = following(generation, written(generation.bundle.sha256))
    assert vectors_of(live) == expected_vectors(bundle)
    assert not live.state.misfits
    generation.close()
