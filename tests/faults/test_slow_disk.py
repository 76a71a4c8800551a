"""A disk whose every sync takes long: what is written waits for it, what is asked does not."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import grpc
import pytest
from serving_process import ServingProcess
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import recommendation_pb2, types_pb2
from shortlist.v1.catalog_pb2_grpc import CatalogServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from tiny_world import DIMENSION

SYNC_S = 0.5
SOURCE = Path(__file__).with_name("slow_sync.c")


@pytest.fixture
def slow(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose syncs are slow once the file `slow` is there."""
    library = tmp_path / "slow_sync.so"
    # As C: c++, which installing the server needs, is a C compiler, too.
    command = ["c++", "-x", "c", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return {
        "LD_PRELOAD": str(library),
        "SLOW_SYNC_MS": str(round(SYNC_S * 1e3)),
        "SLOW_SYNC_FROM": str(tmp_path / "slow"),
    }


def items(key: str, title: str) -> pb.UpsertItemsRequest:
    item = pb.Item(id="new")
    item.attributes["title"].string_value = title
    item.vector.values.extend([1.0] * DIMENSION)
    return pb.UpsertItemsRequest(items=[item], idempotency_key=key)


def test_writes_wait_for_a_slow_disk_and_requests_do_not(
    tiny_bundle: Path, tmp_path: Path, slow: dict[str, str]
) -> None:
    store = ("--catalog-store", tmp_path / "catalog.sqlite")
    with (
        ServingProcess(tiny_bundle, *store, **slow) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        catalog, ranked = CatalogServiceStub(channel), RecommendationServiceStub(channel)
        first = catalog.UpsertItems(items("first", "quick"), timeout=30).revision
        (tmp_path / "slow").touch()
        begin = time.monotonic()
        writing = catalog.UpsertItems.future(items("second", "slow"), timeout=30)
        query = types_pb2.Query(user=types_pb2.UserQuery(id="u1"))
        answered = 0
        while not writing.done():
            ranked.Recommend(recommendation_pb2.RecommendRequest(query=query), timeout=30)
            answered += 1
        assert time.monotonic() - begin >= SYNC_S  # it is the sync that it waited for
        assert answered >= 10
        assert writing.result().revision == first + 1

        # Who does not wait for it learns from the same call, made again, what became of it.
        with pytest.raises(grpc.RpcError) as caught:
            catalog.UpsertItems(items("third", "given up"), timeout=SYNC_S / 5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        again = catalog.UpsertItems(items("third", "given up"), timeout=30)
        assert again.replayed
        assert again.revision == first + 2
        found = catalog.GetItem(
            pb.GetItemRequest(item_id="new", min_revision=first + 2), timeout=30
        )
        assert found.item.attributes["title"].string_value == "given up"
