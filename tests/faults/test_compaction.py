"""Changes that are folded into a new index while a server is asked and written to, in one process
and behind workers: every answer is that of one revision, and what was made is used or refused.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from changing_world import first_items
from serving_process import ServingProcess
from shortlist.v1 import bundle_pb2
from shortlist_client import CatalogItem, Client, Embedding
from shortlist_server.compacted_folders import FOLDER
from supervised import Supervised, until, write_bundle
from tiny_world import DIMENSION

ITEMS = first_items()
PENDING = 12
FOLDING = ("--compact-at", str(PENDING), "--compact-interval-s-min", "0")
TIMEOUT_S = 20.0
Vectors = dict[str, np.ndarray]


class Writer:
    """Changes items, and knows what they are at each revision."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._draw = random.Random(seed)
        self.items: Vectors = {
            name: item.vector for name, item in ITEMS.items() if item.vector is not None
        }
        self.at: dict[int, Vectors] = {0: dict(self.items)}
        self.revision = 0

    def write(self) -> None:
        """Write some items, or delete some."""
        names = self._draw.sample([f"i{number}" for number in range(90)], 5)
        if self._draw.random() < 0.3:
            self.revision = self._client.delete_items(names).revision
            for name in names:
                self.items.pop(name, None)
        else:
            vectors = {
                name: np.array([self._draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
                for name in names
            }
            written = [CatalogItem(name, {}, vector.tolist()) for name, vector in vectors.items()]
            self.revision = self._client.upsert_items(written).revision
            self.items |= vectors
        self.at[self.revision] = dict(self.items)

    def best(self, revision: int, query: np.ndarray) -> list[str]:
        scores = {name: float(np.dot(query, vector)) for name, vector in self.at[revision].items()}
        return sorted(scores, key=lambda name: -scores[name])[:10]


class Asker(threading.Thread):
    """Asks without a pause, and keeps what it is answered."""

    def __init__(self, client: Client, seed: int) -> None:
        super().__init__()
        self._client = client
        self._draw = random.Random(seed)
        self.done = threading.Event()
        self.answers: list[tuple[int, np.ndarray, list[str]]] = []
        self.failures: Counter[str] = Counter()

    def run(self) -> None:
        while not self.done.is_set():
            query = np.array([self._draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
            try:
                found = self._client.retrieve(
                    Embedding(query.tolist()), candidate_count=10, timeout_s=TIMEOUT_S
                )
            except Exception as error:
                self.failures[repr(error)] += 1
                continue
            ids = [item.id for item in found.items]
            self.answers.append((found.info.catalog_revision, query, ids))


def pending(client: Client) -> int:
    stats = client.get_catalog_stats()
    return int(stats.tail_row_count)


def everything(state: Path) -> list[str]:
    return sorted(path.name for path in (state / FOLDER).glob("*"))


def folders(state: Path) -> list[str]:
    """Those that are whole."""
    return [name for name in everything(state) if not name.startswith(".")]


def write_until_folded(client: Client, writer: Writer, state: Path) -> None:
    """Write until changes are folded in, and what was folded before is gone."""
    before = folders(state)

    def folded() -> bool:
        if folders(state) == before:
            writer.write()
        return folders(state) not in ([], before) and len(folders(state)) == 1

    until(folded, "a folded index")


def check(client: Client, writer: Writer, seed: int = 1) -> None:
    """Compare what is served now with a plain comparison of all items."""
    draw = np.random.default_rng(seed)
    for _ in range(5):
        query = draw.normal(size=DIMENSION).astype(np.float32)
        found = client.retrieve(
            Embedding(query.tolist()),
            candidate_count=10,
            min_revision=writer.revision,
            timeout_s=TIMEOUT_S,
        )
        assert [item.id for item in found.items] == writer.best(writer.revision, query)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(tmp_path: Path, state: Path) -> tuple[str, ...]:
    place = str(tmp_path / "catalog.sqlite")
    return ("--catalog-store", place, "--state-dir", str(state), *FOLDING)


@pytest.mark.parametrize("workers", [0, 2])
def test_no_answer_fails_or_mixes_two_revisions(
    workers: int, tiny_bundle: Path, tmp_path: Path, store: tuple[str, ...], state: Path
) -> None:
    settings = ("--workers", str(workers), "--connection-age-ms", "500") if workers else ()
    with (
        ServingProcess(tiny_bundle, *store, *settings) as serving,
        Client(serving.target, timeout_s=TIMEOUT_S) as client,
        Client(serving.target, timeout_s=TIMEOUT_S) as other,
    ):
        writer, asker = Writer(client, 1), Asker(other, 2)
        asker.start()
        try:
            for _ in range(2):
                write_until_folded(client, writer, state)
                check(client, writer)
        finally:
            asker.done.set()
            asker.join()
    revisions = Counter(revision for revision, _, _ in asker.answers)
    print(f"{len(asker.answers)} answers of {len(revisions)} revisions, {asker.failures}")
    assert not asker.failures
    assert len(revisions) > 3
    for revision, query, ids in asker.answers:
        assert ids == writer.best(revision, query), f"revision {revision}"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_starts_again_serves_what_was_folded_in(
    workers: int, tiny_bundle: Path, tmp_path: Path, store: tuple[str, ...], state: Path
) -> None:
    settings = (*store, "--workers", str(workers))
    with (
        ServingProcess(tiny_bundle, *settings) as serving,
        Client(serving.target, timeout_s=TIMEOUT_S) as client,
    ):
        writer = Writer(client, 3)
        write_until_folded(client, writer, state)
        item = client.get_item(next(iter(writer.items)))
    (folder,) = folders(state)
    revision = int(folder.rpartition("-")[2])
    # What a builder and an earlier server have left is cleared away.
    (state / FOLDER / ".left.writing-1").mkdir()
    shutil.copytree(state / FOLDER / folder, state / FOLDER / f"{folder.partition('-')[0]}-1")
    with ServingProcess(tiny_bundle, *settings) as serving:
        with Client(serving.target, timeout_s=TIMEOUT_S) as client:
            check(client, writer)
            assert pending(client) <= 5 * (writer.revision - revision)
            assert client.get_item(item.id).bundle == item.bundle
        until(lambda: everything(state) == [folder], "no leftovers")
        _, log = serving.end()
    assert "is not served from" not in log

    # One that is damaged is named, and the bundle as exported takes its place.
    index = next((state / FOLDER / folder).rglob("index.bin"))
    whole = index.read_bytes()
    index.unlink()  # it may be a link
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with ServingProcess(tiny_bundle, *settings) as serving:
        with Client(serving.target, timeout_s=TIMEOUT_S) as client:
            check(client, writer)
        _, log = serving.end()
    name = index.relative_to(state / FOLDER / folder)
    assert f"{folder} is not served from: {name}: expected sha256" in log


def test_what_was_folded_from_another_store_is_not_served(
    tiny_bundle: Path, tmp_path: Path, store: tuple[str, ...], state: Path
) -> None:
    with (
        ServingProcess(tiny_bundle, *store) as serving,
        Client(serving.target, timeout_s=TIMEOUT_S) as client,
    ):
        write_until_folded(client, Writer(client, 4), state)
    for path in tmp_path.glob("catalog.sqlite*"):
        path.unlink()
    with ServingProcess(tiny_bundle, *store) as serving:
        with Client(serving.target, timeout_s=TIMEOUT_S) as client:
            check(client, Writer(client, 5))
        until(lambda: everything(state) == [], "no leftovers")
        _, log = serving.end()
    assert "is not served from: expected changes of bundle, store and versions" in log


def test_a_switch_gives_a_folding_up_and_a_step_back_begins_from_the_export(
    tmp_path: Path, store: tuple[str, ...], state: Path
) -> None:
    for version, seed in (("1", 1), ("2", 2)):
        write_bundle(tmp_path / "bundles", version, seed)
    index = store.index("--state-dir")
    settings = (*store[:index], *store[index + 2 :], "--workers", "2")
    with Supervised(tmp_path, *settings, bundle=tmp_path / "bundles/1") as server:
        key = (tmp_path / "key").read_text()
        with Client(server.target, timeout_s=TIMEOUT_S, api_key=key) as client:
            far = [100.0] + [0.0] * (DIMENSION - 1)
            names = [f"n{number}" for number in range(PENDING + 3)]
            client.upsert_items([CatalogItem(name, {"title": name}, far) for name in names])
            client.delete_items(["i5"])
            until(lambda: len(folders(state)) == 1, "a folded index")
            (first,) = folders(state)

        def taken_over() -> bool:
            with Client(server.target, timeout_s=TIMEOUT_S, api_key=key) as client:
                return pending(client) == 0

        until(taken_over, "workers that serve it")
        active = server.serving_state()["active"]["stable"]
        assert first.startswith(active["sha256"][:16])
        # What is remembered is the bundle as exported.
        assert active["folder"] == str(tmp_path / "bundles/1")
        until(lambda: server.zombies() == 0 and len(server.zygotes()) == 1, "the switch's end")
        server.activate("2")
        until(lambda: server.version() == "2", "the other bundle")
        until(lambda: first not in folders(state), "what was folded before to be gone")
        server.admin("RollBackBundle", bundle_pb2.RollBackBundleRequest())
        until(lambda: server.version() == "1", "the first bundle")
        with Client(server.target, timeout_s=TIMEOUT_S, api_key=key) as client:
            item = client.get_item(names[0])
            assert (item.attributes["title"], item.revision) == (names[0], 1)
            found = client.retrieve(Embedding(far), candidate_count=len(names))
            assert {item.id for item in found.items} == set(names)
        state_file = json.loads((state / "serving.json").read_text())
        assert state_file["previous"]["stable"]["version"] == "2"
