"""Items that change behind several workers: each sees every change, a killed one loses none,
and they follow a switch of bundles.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import catalog_pb2_grpc
from supervised import Supervised, is_there, kill, until, write_bundle
from tiny_world import DIMENSION

FAR = [100.0] + [0.0] * (DIMENSION - 1)
WORKERS = 3


class Catalog:
    """Calls on connections of their own, which the kernel spreads over the workers."""

    def __init__(self, server: Supervised) -> None:
        self._server = server

    def call(self, method: str, request: Any) -> Any:
        with self._server.channel() as channel:
            stub = catalog_pb2_grpc.CatalogServiceStub(channel)
            return getattr(stub, method)(request, timeout=20, metadata=self._server.metadata)

    def upsert(self, item_id: str, title: str) -> int:
        item = pb.Item(id=item_id)
        item.attributes["title"].string_value = title
        item.vector.values.extend(FAR)
        response = self.call("UpsertItems", pb.UpsertItemsRequest(items=[item]))
        assert not response.outcomes[0].HasField("error")
        return int(response.revision)

    def title(self, item_id: str, min_revision: int = 0) -> str:
        request = pb.GetItemRequest(item_id=item_id, min_revision=min_revision)
        found = self.call("GetItem", request)
        assert found.catalog_revision >= min_revision
        return str(found.item.attributes["title"].string_value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers")
    for version, seed in (("1", 1), ("2", 2)):
        write_bundle(root / "bundles", version, seed)
    return root


def test_every_worker_sees_every_change_and_a_switch_loses_none(folder: Path) -> None:
    store = ("--catalog-store", folder / "catalog.sqlite")
    bundle = folder / "bundles/1"
    with Supervised(folder, "--workers", str(WORKERS), *store, bundle=bundle) as server:
        catalog = Catalog(server)
        for number in range(10):
            revision = catalog.upsert("new", f"title {number}")
            titles = Counter(catalog.title("new", revision) for _ in range(2 * WORKERS))
            assert titles == {f"title {number}": 2 * WORKERS}
        revision = catalog.upsert("i1", "changed")
        # A worker that is killed begins anew from the store.
        for victim in server.workers():
            kill(victim)
            until(lambda victim=victim: not is_there(victim), "its end")  # type: ignore[misc]
            until(lambda: len(server.workers()) == WORKERS, "all workers")
            until(lambda: reached(catalog, revision), "answers")
        assert {catalog.title("new", revision) for _ in range(9)} == {"title 9"}
        server.activate("2")
        until(lambda: server.version() == "2", "the other bundle")
        # The vectors that were sent are of the first bundle: what has one of its own in the second
        # keeps what was written of it, and what has none is not served.
        assert catalog.title("i1", revision) == "changed"
        with pytest.raises(grpc.RpcError) as caught:
            catalog.title("new")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        stats = catalog.call("GetCatalogStats", pb.GetCatalogStatsRequest())
        assert [(one.item_id, one.served) for one in stats.misfits] == [
            ("new", False),
            ("i1", True),
        ]


def reached(catalog: Catalog, revision: int) -> bool:
    try:
        return bool(catalog.title("new", revision))
    except grpc.RpcError as error:
        # The connection went to the worker that was killed.
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017  # others are a fault
        return False
