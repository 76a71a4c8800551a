"""Items that change are found by the texts that they have now."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
import tiny_embedder
import tiny_world
from conftest import RunningServer
from shortlist_client import AttributeTypeMismatch, CatalogItem, Client, Items, Text
from shortlist_server.generation import load_generation
from shortlist_server.llm.local_embedder import LocalEmbedder

WORDS = "a heist in a dream"
VECTOR = [0.5] * tiny_world.DIMENSION


@pytest.fixture
def live(text_bundle: Path, tmp_path: Path) -> Iterator[Client]:
    with served(text_bundle, tmp_path) as (client, _):
        yield client


class served:  # noqa: N801  # a context manager
    """A server whose items can be changed, and a client of it."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        store = str(folder / "catalog.sqlite")
        self._server = RunningServer(bundle, load_generation(bundle), catalog_store=store)
        self._client = Client(self._server.target, timeout_s=60)

    def __enter__(self) -> tuple[Client, RunningServer]:
        return self._client, self._server

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.stop()


@pytest.fixture(scope="module")
def embedder(text_bundle: Path) -> LocalEmbedder:
    return LocalEmbedder(text_bundle / "texts/embedder")


def ids(answer: Any) -> list[str]:
    return [item.id for item in answer.items]


def item(item_id: str, plot: str | None = None, **attributes: Any) -> CatalogItem:
    values = attributes if plot is None else {"plot": plot, **attributes}
    return CatalogItem(item_id, values, vector=VECTOR)


def test_an_item_that_nobody_used_is_found_by_its_text_at_once(live: Client) -> None:
    changes = live.upsert_items([item("new", WORDS, title="New")])
    assert not changes.failures
    answer = live.recommend(text=WORDS, limit=3, min_revision=changes.revision)
    assert ids(answer)[0] == "new"
    assert answer.items[0].score == pytest.approx(1, abs=1e-5)
    assert answer.info.sources[0].plan == "text: exact 50 of 50 and 1 changed"
    beside = live.recommend(user="u1", text=WORDS, sources=[Text(candidate_count=2)])
    assert "new" in ids(beside)


def test_the_attribute_of_the_text_is_not_unknown(live: Client) -> None:
    changes = live.upsert_items([item("new", WORDS, colour="red")])
    assert changes.outcomes[0].unknown_attributes == ("colour",)


def test_a_changed_text_takes_the_place_of_the_one_before(live: Client) -> None:
    first = live.recommend(text="the robot of the moon", limit=1)
    live.upsert_items([item(ids(first)[0], WORDS)])
    live.upsert_items([item("i1", WORDS)])
    changes = live.upsert_items([item("i1", "the robot of the moon")])
    answer = live.recommend(text="the robot of the moon", limit=2, min_revision=changes.revision)
    assert ids(answer)[0] == "i1"
    assert ids(first)[0] not in ids(answer)


@pytest.mark.parametrize("attributes", [{}, {"plot": " \x07 "}, {"plot": []}, {"title": WORDS}])
def test_an_item_without_a_text_is_not_found_by_text(
    live: Client, attributes: dict[str, Any]
) -> None:
    changes = live.upsert_items([CatalogItem("i1", attributes, vector=VECTOR)])
    assert not changes.failures
    found = live.recommend(text=WORDS, limit=60, min_revision=changes.revision)
    assert ids(found)
    assert "i1" not in ids(found)
    similar = live.find_similar_items("i1", by_text=True, limit=3)
    assert similar.info.sources[0].plan == "the example items have no text"


def test_a_deleted_item_is_not_found_by_text(live: Client) -> None:
    live.upsert_items([item("new", WORDS)])
    changes = live.delete_items(["new", "i1"])
    found = live.recommend(text=WORDS, limit=60, min_revision=changes.revision)
    assert not {"new", "i1"} & set(ids(found))


def test_a_list_of_texts_is_a_text(live: Client) -> None:
    live.upsert_items([item("words", "a heist, in a dream")])
    changes = live.upsert_items([CatalogItem("list", {"plot": ["a heist", "in a dream"]}, VECTOR)])
    answer = live.recommend(text="a heist, in a dream", limit=2, min_revision=changes.revision)
    assert {round(item.score, 4) for item in answer.items} == {1.0}
    assert set(ids(answer)) == {"words", "list"}


def test_what_is_no_text_is_refused_by_its_field(live: Client) -> None:
    changes = live.upsert_items([CatalogItem("new", {"plot": 7}, vector=VECTOR)])
    (error,) = [outcome.error for outcome in changes.outcomes if outcome.error]
    assert isinstance(error, AttributeTypeMismatch)
    assert error.field == 'items[0].attributes["plot"]'
    assert error.got == "int64"


def test_items_are_like_changed_ones_by_text(live: Client) -> None:
    live.upsert_items([item("one", WORDS), item("two", WORDS)])
    changes = live.upsert_items([item("three", "the king of the west")])
    similar = live.find_similar_items("one", by_text=True, limit=2, min_revision=changes.revision)
    assert ids(similar)[0] == "two"
    both = live.recommend(Items(["one", "i1"]), sources=[Text()], limit=1)
    assert both.info.sources[0].plan.startswith("mean of 2 texts: ")


def test_after_many_changes_the_nearest_are_those_of_a_scan_by_hand(
    text_bundle: Path, tmp_path: Path, embedder: LocalEmbedder
) -> None:
    draw = random.Random(4)
    texts = text_world.plots()
    with served(text_bundle, tmp_path) as (client, _):
        for _ in range(30):
            chosen = draw.sample([f"i{row}" for row in range(90)], 20)
            deleted, upserted = chosen[:4], chosen[4:]
            plots = {
                item_id: " ".join(draw.choices(tiny_embedder.WORDS, k=draw.choice((0, 3, 6))))
                for item_id in upserted
            }
            client.delete_items(deleted)
            changes = client.upsert_items([item(*pair) for pair in plots.items()])
            for item_id in deleted:
                texts.pop(item_id, None)
            texts.update(plots)
        check(client, embedder, texts, changes.revision)
    # A server that starts again makes the same of them.
    with served(text_bundle, tmp_path) as (client, _):
        check(client, embedder, texts, changes.revision)


def check(client: Client, embedder: LocalEmbedder, texts: dict[str, str], revision: int) -> None:
    known = {item_id: text for item_id, text in texts.items() if text}
    points = embedder.embed_now([WORDS, *known.values()], kind="item", deadline_s=60)
    scores = dict(zip(known, (points[1:] @ points[0]).tolist(), strict=True))
    answer = client.recommend(text=WORDS, limit=100, min_revision=revision)
    assert {item.id: item.score for item in answer.items} == pytest.approx(scores, abs=1e-5)
    found = np.array([item.score for item in answer.items])
    assert (found[1:] <= found[:-1]).all()


def test_without_an_embedder_changed_items_are_served_and_named(
    text_bundle: Path, tmp_path: Path
) -> None:
    remote = text_world.of_service(text_bundle, tmp_path / "remote", "service/tiny")
    with served(remote, tmp_path) as (client, _):
        changes = client.upsert_items([item("new", WORDS), item("silent")])
        found = client.find_similar_items("i1", limit=60, min_revision=changes.revision)
        assert {"new", "silent"} <= set(ids(found))
        stats = client.get_catalog_stats()
        assert [(misfit.item_id, misfit.served) for misfit in stats.misfits] == [("new", True)]
        assert "its text is not embedded" in stats.misfits[0].message
