"""Items that change are served at once, and found by their texts once a service has embedded them:
nothing is lost while it is away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
import tiny_world
from conftest import RunningServer
from llm_behaviours import answer, hang, status
from llm_stub import LlmStub, embedding
from shortlist_client import CatalogItem, Client
from shortlist_server import serving
from shortlist_server.compacted_folders import CompactedFolders
from shortlist_server.compacted_generation import load_newest
from shortlist_server.config import ServerConfig

WORDS = "a heist in a dream"
VECTOR = [0.5] * tiny_world.DIMENSION
PROVIDER = "openai-compatible"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LlmStub() as stub:
        return text_world.write_service_bundle(tmp_path_factory.mktemp("service"), stub, PROVIDER)


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


@pytest.fixture
def settings(stub: LlmStub, tmp_path: Path) -> dict[str, Any]:
    section = text_world.service_section(
        stub, PROVIDER, breaker_open_ms=50, breaker_patience_ms=0, timeout_ms=2_000
    )
    return {
        "text_embedder": section,
        "catalog_store": str(tmp_path / "catalog.sqlite"),
        "state_dir": str(tmp_path / "state"),
        "compact_at": 1_000,
        "metrics_listen": "127.0.0.1:0",
    }


@contextmanager
def served(bundle: Path, settings: dict[str, Any]) -> Iterator[tuple[Client, RunningServer]]:
    """A server whose items can be changed, and a client of it."""
    config = ServerConfig.model_validate({"bundle": bundle, **settings})
    with ExitStack() as ends:
        generations = serving.load(config, {"stable": bundle})
        ends.callback(generations.close)
        server = RunningServer(bundle, generations, **settings)
        ends.callback(server.stop)
        # First: what waits for the service holds up nothing else.
        assert generations.text_embedder is not None
        ends.callback(generations.text_embedder.close)
        client = ends.enter_context(Client(server.target, timeout_s=60))
        yield client, server


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def item(item_id: str, plot: str) -> CatalogItem:
    return CatalogItem(item_id, {"plot": plot}, vector=VECTOR)


def ids(found: Any) -> list[str]:
    return [one.id for one in found.items]


def unembedded(client: Client) -> int:
    return int(client.get_catalog_stats().unembedded_text_count)


def by_text(client: Client) -> list[str]:
    return ids(client.recommend(text=WORDS, limit=200))


def test_an_item_is_found_by_its_text_once_it_is_embedded(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    with served(exported, settings) as (client, _):
        changes = client.upsert_items([item("new", WORDS), CatalogItem("silent", {}, VECTOR)])
        assert not changes.failures
        found = client.find_similar_items("i1", limit=80, min_revision=changes.revision)
        assert {"new", "silent"} <= set(ids(found))
        until(lambda: not unembedded(client))
        answer = client.recommend(text=WORDS, limit=3)
        assert ids(answer)[0] == "new"
        assert answer.items[0].score == pytest.approx(1, abs=1e-5)
        assert "silent" not in by_text(client)
        assert not client.get_catalog_stats().misfits


def test_what_is_written_while_the_service_is_away_is_found_when_it_is_back(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    stub.behave(status(500))
    texts = {f"new{number}": f"{WORDS} {number}" for number in range(150)}
    with served(exported, settings) as (client, _):
        changes = client.upsert_items([item(*pair) for pair in texts.items()])
        assert not changes.failures
        until(lambda: client.get_catalog_stats().misfits != ())
        stats = client.get_catalog_stats()
        assert stats.unembedded_text_count == 150
        assert {misfit.served for misfit in stats.misfits} == {True}
        assert "its text is not embedded yet: " in stats.misfits[0].message
        assert "HTTP status 500" in stats.misfits[0].message
        # They are served; what is changed or deleted meanwhile is not what comes later.
        found = client.find_similar_items("i1", limit=300, min_revision=changes.revision)
        assert set(texts) <= set(ids(found))
        client.delete_items(["new0"])
        changes = client.upsert_items([item("new1", "the king of the west"), item("new2", "")])
        stub.behave(answer())
        until(lambda: not unembedded(client))
        assert not client.get_catalog_stats().misfits
        check(client, texts | {"new0": "", "new1": "the king of the west", "new2": ""})
    # A server that starts again makes the same of them.
    with served(exported, settings) as (client, _):
        until(lambda: not unembedded(client))
        check(client, texts | {"new0": "", "new1": "the king of the west", "new2": ""})


def check(client: Client, texts: dict[str, str]) -> None:
    known = {name: text for name, text in (text_world.plots() | texts).items() if text}
    points = np.array([embedding(text, 16) for text in known.values()], np.float64)
    point = np.array(embedding(WORDS, 16))
    scores = points @ point / (np.linalg.norm(points, axis=1) * np.linalg.norm(point))
    found = client.recommend(text=WORDS, limit=300)
    assert {one.id: one.score for one in found.items} == pytest.approx(
        dict(zip(known, scores.tolist(), strict=True)), abs=1e-5
    )


def test_a_text_that_the_service_does_not_take_keeps_no_other_back(
    exported: Path, settings: dict[str, Any], stub: LlmStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortlist_server.late_texts.RETRY_S_MAX", 0.05)
    stub.choose = lambda asked: status(400) if texts["new7"] in asked.texts else None
    settings["text_embedder"]["breaker_calls_min"] = 20
    settings["text_embedder"]["breaker_failure_share"] = 1.0
    texts = {f"new{number}": f"{WORDS} {number}" for number in range(40)}
    texts["new7"] = "the worst of films"
    with served(exported, settings) as (client, _):
        client.upsert_items([item(*pair) for pair in texts.items()])
        until(lambda: unembedded(client) == 1)
        check(client, texts | {"new7": ""})
        (misfit,) = client.get_catalog_stats().misfits
        assert (misfit.item_id, misfit.served) == ("new7", True)
        client.upsert_items([item("new7", WORDS)])
        until(lambda: not unembedded(client))
        check(client, texts | {"new7": WORDS})


def test_changes_do_not_wait_for_a_service_that_hangs(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    settings["text_embedder"]["timeout_ms"] = 60_000
    stub.behave(hang())
    with served(exported, settings) as (client, _):
        client.upsert_items([item("new", WORDS)])
        stub.wait_asked()
        changes = client.upsert_items([item("other", WORDS)])
        revision = client.delete_items(["i1"]).revision
        found = ids(client.find_similar_items("i2", limit=80, min_revision=revision))
        assert {"new", "other"} <= set(found)
        assert "i1" not in found
        assert changes.revision < revision
        assert unembedded(client) == 2
    # Nor does the end of the server.


def test_it_is_shown_in_the_metrics(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    from prometheus_client import generate_latest
    from shortlist_server import app

    stub.behave(status(500))
    with served(exported, settings) as (client, server):
        assert server.metrics is not None
        assert server.live is not None
        app.watch(server.metrics, server.live.stable.generation, server.compute, None, server.live)
        client.upsert_items([item("new", WORDS), item("other", WORDS)])
        until(lambda: unembedded(client) == 2)
        page = generate_latest(server.metrics.registry).decode()
        assert 'shortlist_catalog_unembedded_texts{label="stable"} 2.0' in page


# Folding.


def fold(bundle: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Fold the changes in, by the real process; returns what it says."""
    config = ServerConfig.model_validate({"bundle": bundle, **settings})
    order = {
        "parent": os.getpid(),
        "folder": str(bundle),
        "config": config.model_dump(mode="json"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "shortlist_server.workers.compacting"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        # It stands back for all others, and the machine may be busy with them.
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_texts_are_folded_in_with_their_points(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    texts = {f"new{number}": f"{WORDS} {number}" for number in range(70)}
    with served(exported, settings) as (client, server):
        client.upsert_items([item(*pair) for pair in texts.items()])
        until(lambda: not unembedded(client))
        assert fold(exported, settings)["revision"] == 1
        by_text(client)  # known from here on
        calls = len(stub.asked)
        stub.behave(status(500))
        client.upsert_items([item("late", WORDS)])
        config = server.config.model_copy(update={"bundle": exported})
        assert server.live is not None
        live = server.live.stable
        service = text_embedder(live)
        live.rebase(load_newest(config, exported, text_embedder=service))
        assert live.generation.bundle.revision == 1
        assert unembedded(client) == 1
        check(client, texts)
        # Of what was folded in, nothing is embedded again.
        assert not {text for asked in stub.asked[calls:] for text in asked.texts} & set(
            texts.values()
        )
        stub.behave(answer())
        until(lambda: not unembedded(client))
        check(client, texts | {"late": WORDS})


def text_embedder(live: Any) -> Any:
    return live.generation.builder._options.text_embedder


def test_points_of_what_is_not_folded_in_are_kept(
    exported: Path, settings: dict[str, Any], stub: LlmStub
) -> None:
    with served(exported, settings) as (client, server):
        client.upsert_items([item("first", WORDS)])
        until(lambda: not unembedded(client))
        fold(exported, settings)
        client.upsert_items([item("second", WORDS)])
        until(lambda: not unembedded(client))
        by_text(client)  # known from here on
        stub.behave(status(500))
        assert server.live is not None
        live = server.live.stable
        config = server.config.model_copy(update={"bundle": exported})
        live.rebase(load_newest(config, exported, text_embedder=text_embedder(live)))
        assert live.generation.bundle.revision == 1
        assert unembedded(client) == 0
        check(client, {"first": WORDS, "second": WORDS})


def test_texts_folded_in_while_the_service_is_away_are_embedded_later(
    exported: Path, settings: dict[str, Any], stub: LlmStub, tmp_path: Path
) -> None:
    stub.behave(status(500))
    texts = {"one": WORDS, "two": "the king of the west", "i1": "a robot"}
    with served(exported, settings) as (client, _):
        client.upsert_items([item(*pair) for pair in texts.items()])
        client.delete_items(["i2"])
        until(lambda: client.get_catalog_stats().misfit_count == 3)
    assert fold(exported, settings)["revision"] == 2
    # Another folding on top of it, still without the service.
    with served(exported, settings) as (client, server):
        assert server.live is not None
        assert server.live.stable.generation.bundle.revision == 2
        until(lambda: unembedded(client) == 3)
        client.upsert_items([item("three", "a dog")])
    assert fold(exported, settings)["revision"] == 3
    folders = CompactedFolders(Path(settings["state_dir"]))
    assert folders.of(server.live.stable.generation.bundle.sha256)
    with served(exported, settings) as (client, server):
        assert server.live is not None
        assert server.live.stable.generation.bundle.revision == 3
        until(lambda: unembedded(client) == 4)
        assert not set(by_text_of_examples(client)) & {"one", "two", "three", "i1", "i2"}
        stub.behave(answer())
        until(lambda: not unembedded(client))
        check(client, texts | {"three": "a dog", "i2": ""})
    assert fold(exported, settings)["revision"] == 3


def by_text_of_examples(client: Client) -> list[str]:
    return ids(client.find_similar_items("i3", by_text=True, limit=200))


def test_its_thread_ends(exported: Path, settings: dict[str, Any]) -> None:
    with served(exported, settings) as (client, _):
        client.upsert_items([item("new", WORDS)])
        until(lambda: not unembedded(client))
        assert "late-texts" in {thread.name for thread in threading.enumerate()}
    until(lambda: "late-texts" not in {thread.name for thread in threading.enumerate()})
