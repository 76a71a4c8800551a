"""Labels are given and taken away while workers serve, and are there again after a restart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from shortlist.v1 import bundle_pb2 as pb
from shortlist.v1 import bundle_pb2_grpc, catalog_pb2, catalog_pb2_grpc, types_pb2
from shortlist.v1 import recommendation_pb2 as recommendation
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from supervised import Supervised, kill, until, write_bundle
from tiny_world import DIMENSION

Code = grpc.StatusCode
EVERYBODY = ("--workers", "2", "--canary-share", "1")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundles that answer differently. Read-only."""
    root = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2", "3"):
        write_bundle(root, version, int(version))
    return root


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    """A folder to serve from, with all bundles."""
    shutil.copytree(bundles, tmp_path / "bundles")
    return tmp_path


def serve(folder: Path, *arguments: str | Path) -> Supervised:
    return Supervised(folder, *EVERYBODY, *arguments, bundle=folder / "bundles/1")


def labels(server: Supervised) -> dict[str, str]:
    """Version by label, as new connections are told, once no worker of before takes them."""
    found: dict[str, str] = {}

    def is_told() -> bool:
        active = server.admin("GetActiveBundle", pb.GetActiveBundleRequest())
        found.clear()
        found["stable"] = active.bundle.id.version
        found.update({other.label: other.bundle.id.version for other in active.others})
        entries = server.admin("ListBundles", pb.ListBundlesRequest()).bundles
        assert all(one.active == bool(one.labels) for one in entries)
        return {label: one.id.version for one in entries for label in one.labels} == found

    until(is_told, "a worker that has the bundles that serve")
    return found


def ask(server: Supervised, label: str = "") -> types_pb2.AnswerInfo:
    request = recommendation.RecommendRequest(
        query=types_pb2.Query(user=types_pb2.UserQuery(id="u1")), limit=3, bundle_label=label
    )
    with server.channel() as channel:
        stub = RecommendationServiceStub(channel)
        info = stub.Recommend(request, timeout=10, metadata=server.metadata).info
    assert isinstance(info, types_pb2.AnswerInfo)
    return info


def refused(server: Supervised, method: str, request: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        server.admin(method, request)
    return caught.value


def when_free(server: Supervised, method: str, request: Any) -> Any:
    """Call a method of BundleService once no switch is under way any more."""
    answers: list[Any] = []

    def is_answered() -> bool:
        try:
            answers.append(server.admin(method, request))
        except grpc.RpcError as error:
            if error.code() is not Code.ABORTED:
                raise
        return bool(answers)

    until(is_answered, "the end of the switch")
    return answers[0]


def test_a_canary_is_activated_taken_away_promoted_and_remembered(folder: Path) -> None:
    with serve(folder) as server:
        answer = server.activate("2", label="canary")
        assert (answer.bundle.version, answer.switched) == ("2", True)
        assert not answer.HasField("previous")
        assert labels(server) == {"stable": "1", "canary": "2"}
        info = ask(server)
        assert (info.bundle.version, info.bundle_label) == ("2", "canary")
        assert ask(server, "stable").bundle.version == "1"
        workers = set(server.workers())
        assert not server.activate("2", label="canary").switched
        assert set(server.workers()) <= workers
        answer = server.activate("3", label="canary")
        assert (answer.bundle.version, answer.previous.version) == ("3", "2")
        assert labels(server) == {"stable": "1", "canary": "3"}
    with serve(folder) as server:
        assert labels(server) == {"stable": "1", "canary": "3"}
        back = server.admin("RollBackBundle", pb.RollBackBundleRequest(label="canary"))
        assert (back.bundle.version, back.previous.version) == ("2", "3")
        # One that dies while the canary serves is replaced with both.
        until(lambda: len(server.zygotes()) == 1, "the end of the workers before")
        kill(zygote := server.zygotes()[0])
        until(lambda: zygote not in server.zygotes() and len(server.workers()) == 2, "another")
        assert labels(server) == {"stable": "1", "canary": "2"}
        gone = when_free(server, "DeactivateBundle", pb.DeactivateBundleRequest(label="canary"))
        assert gone.previous.version == "2"
        assert labels(server) == {"stable": "1"}
        again = server.admin("DeactivateBundle", pb.DeactivateBundleRequest(label="canary"))
        assert not again.HasField("previous")
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, "canary")
        assert caught.value.code() is Code.FAILED_PRECONDITION
    with serve(folder) as server:
        assert labels(server) == {"stable": "1"}
        back = server.admin("RollBackBundle", pb.RollBackBundleRequest(label="canary"))
        assert back.bundle.version == "2"
        assert not back.HasField("previous")
        assert labels(server) == {"stable": "1", "canary": "2"}
        # The canary becomes stable, and so is the canary no longer.
        answer = server.activate("2")
        assert (answer.bundle.version, answer.previous.version) == ("2", "1")
        assert labels(server) == {"stable": "2"}
        assert server.serving_state()["active"].keys() == {"stable"}
        server.admin("RollBackBundle", pb.RollBackBundleRequest())
        assert labels(server) == {"stable": "1"}


def test_a_switch_is_refused_that_would_wait_for_the_caller_to_leave(folder: Path) -> None:
    # The connection stays with a worker that hands over, which ends once the connection has.
    with serve(folder, "--connection-age-ms", "20000") as server, server.channel() as channel:
        stub = bundle_pb2_grpc.BundleServiceStub(channel)
        activate = pb.ActivateBundleRequest(name="tiny", version="2", label="canary")
        stub.ActivateBundle(activate, timeout=60, metadata=server.metadata)
        for method, request in (
            ("DeactivateBundle", pb.DeactivateBundleRequest(label="canary")),
            ("ActivateBundle", pb.ActivateBundleRequest(name="tiny", version="3")),
            (
                "ActivateBundle",
                pb.ActivateBundleRequest(name="tiny", version="3", validate_only=True),
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                getattr(stub, method)(request, timeout=15, metadata=server.metadata)
            assert caught.value.code() is Code.ABORTED, caught.value
        channel.close()
        gone = when_free(server, "DeactivateBundle", pb.DeactivateBundleRequest(label="canary"))
        assert gone.previous.version == "2"


def test_labels_that_cannot_be_given_are_refused(folder: Path) -> None:
    with serve(folder) as server:
        for method, request, beginning in (
            (
                "ActivateBundle",
                pb.ActivateBundleRequest(name="tiny", version="1", label="canary"),
                "label: expected stable, the label of this bundle",
            ),
            (
                "ActivateBundle",
                pb.ActivateBundleRequest(name="tiny", version="2", label="blue"),
                "label: expected stable or canary or shadow, got 'blue'",
            ),
            (
                "RollBackBundle",
                pb.RollBackBundleRequest(label="blue"),
                "label: expected stable or canary or shadow, got 'blue'",
            ),
            (
                "DeactivateBundle",
                pb.DeactivateBundleRequest(label="stable"),
                "label: expected canary or shadow, got 'stable'",
            ),
            (
                "DeactivateBundle",
                pb.DeactivateBundleRequest(),
                "label: expected canary or shadow, got none",
            ),
        ):
            error = refused(server, method, request)
            assert error.code() is Code.INVALID_ARGUMENT
            assert error.details().startswith(beginning)
        request = pb.ActivateBundleRequest(name="tiny", version="2", label="shadow")
        error = refused(server, "ActivateBundle", request)
        assert error.code() is Code.FAILED_PRECONDITION
        assert error.details().startswith("metrics_listen: expected an address")
        error = refused(server, "RollBackBundle", pb.RollBackBundleRequest(label="canary"))
        assert error.code() is Code.NOT_FOUND
        assert labels(server) == {"stable": "1"}


def test_a_shadow_that_becomes_the_canary_is_a_shadow_no_longer(folder: Path) -> None:
    with serve(folder, "--metrics-listen", "127.0.0.1:0") as server:
        server.activate("2", label="shadow")
        assert labels(server) == {"stable": "1", "shadow": "2"}
        assert ask(server).bundle_label == "stable"
        server.activate("3", label="canary")
        assert labels(server) == {"stable": "1", "canary": "3", "shadow": "2"}
        server.activate("2", label="canary")
        assert labels(server) == {"stable": "1", "canary": "2"}


def test_a_canary_that_is_damaged_keeps_nobody_from_serving(folder: Path) -> None:
    file = next((folder / "bundles/2").glob("**/hnsw.bin"))
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 0xFF
    with serve(folder) as server:
        file.write_bytes(damaged)
        request = pb.ActivateBundleRequest(name="tiny", version="2", label="canary")
        assert refused(server, "ActivateBundle", request).code() is Code.FAILED_PRECONDITION
        assert labels(server) == {"stable": "1"}
        file.write_bytes(whole)
        server.admin("ActivateBundle", request)
        file.write_bytes(damaged)
    with serve(folder) as server:
        assert labels(server) == {"stable": "1"}
        code, log = server.end()
    assert code == 0
    assert "canary is not served again: index/hnsw.bin" in log
    file.write_bytes(whole)
    # What the configuration names is there, or the server does not start.
    with serve(folder, "--canary-bundle", folder / "bundles/2") as server:
        assert labels(server) == {"stable": "1", "canary": "2"}
        server.admin("DeactivateBundle", pb.DeactivateBundleRequest(label="canary"))
    with serve(folder, "--canary-bundle", folder / "bundles/2") as server:
        assert labels(server) == {"stable": "1"}
    with serve(folder, "--canary-bundle", folder / "bundles/3") as server:
        assert labels(server) == {"stable": "1", "canary": "3"}


def test_every_worker_sees_every_change_under_each_label(folder: Path) -> None:
    store = ("--catalog-store", folder / "catalog.sqlite")
    with serve(folder, *store) as server:

        def call(method: str, request: Any) -> Any:
            with server.channel() as channel:
                stub = catalog_pb2_grpc.CatalogServiceStub(channel)
                return getattr(stub, method)(request, timeout=20, metadata=server.metadata)

        def upsert(item_id: str, title: str) -> int:
            item = catalog_pb2.Item(id=item_id)
            item.attributes["title"].string_value = title
            item.vector.values.extend([1.0] * DIMENSION)
            request = catalog_pb2.UpsertItemsRequest(items=[item])
            return int(call("UpsertItems", request).revision)

        def titles(label: str, revision: int) -> set[str]:
            request = catalog_pb2.GetItemRequest(
                item_id="i1", min_revision=revision, bundle_label=label
            )
            found = [call("GetItem", request) for _ in range(6)]
            return {one.item.attributes["title"].string_value for one in found}

        revision = upsert("i1", "before the canary")
        server.activate("2", label="canary")
        until(lambda: ask(server).bundle_label == "canary", "the canary")
        for label in ("stable", "canary"):
            assert titles(label, revision) == {"before the canary"}
        revision = upsert("i1", "beside the canary")
        for label in ("stable", "canary"):
            assert titles(label, revision) == {"beside the canary"}
        # The vector that was sent is one of the stable bundle; the canary has one of its own.
        stats = {
            label: call("GetCatalogStats", catalog_pb2.GetCatalogStatsRequest(bundle_label=label))
            for label in ("stable", "canary")
        }
        assert [stats[label].misfit_count for label in ("stable", "canary")] == [0, 1]
        assert stats["canary"].misfits[0].served
