"""Two bundles served side by side."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_world
from shortlist.v1 import bundle_pb2, bundle_pb2_grpc, errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_client import Client
from shortlist_exporters.export import export_bundle
from shortlist_server.errors import BundleMissing
from shortlist_server.generation import Generation
from shortlist_server.labels import LabeledGenerations, ServingSet, load_generations
from shortlist_server.rpc.generations import position

USER_IDS = [f"visitor-{number}" for number in range(2_000)]


@pytest.fixture(scope="module")
def canary_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with other item embeddings, and an attribute of another name."""
    folder = tmp_path_factory.mktemp("canary")
    spec = tiny_world.write_spec(folder / "spec", name="other")
    drawn = np.random.default_rng(99).normal(size=(tiny_world.ITEM_COUNT, tiny_world.DIMENSION))
    np.save(folder / "spec/items.npy", drawn.astype(np.float32))
    table = folder / "spec/items.csv"
    header, rest = table.read_text().split("\n", 1)
    assert "year" in header
    table.write_text(header.replace("year", "decade") + "\n" + rest)
    export_bundle(spec, folder / "bundle", version="2")
    return folder / "bundle"


@pytest.fixture(scope="module")
def loaded(tiny_bundle: Path, canary_bundle: Path) -> Iterator[LabeledGenerations]:
    both = load_generations(ServingSet(stable=tiny_bundle, canary=canary_bundle, canary_share=0.25))
    yield both
    both.close()


@pytest.fixture(scope="module")
def target(tiny_bundle: Path, loaded: LabeledGenerations, server: Any) -> Iterator[str]:
    running = type(server)(tiny_bundle, loaded)
    yield running.target
    running.stop()


@pytest.fixture(scope="module")
def both(target: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target) as channel:
        yield channel


def asked(user_id: str, label: str = "", **more: Any) -> pb.RecommendRequest:
    query = types.Query(user=types.UserQuery(id=user_id))
    return pb.RecommendRequest(query=query, limit=5, bundle_label=label, **more)


def year_is(value: int, name: str = "year") -> types.Filter:
    held = types.Value(int64_value=value)
    return types.Filter(equals=types.EqualsCondition(attribute=name, value=held))


def scores(response: Any) -> list[tuple[str, float]]:
    return [(item.id, item.score) for item in response.items]


def labels(channel: grpc.Channel, user_ids: list[str]) -> list[str]:
    answers = []
    for begin in range(0, len(user_ids), 1_000):
        rows = [asked(user_id) for user_id in user_ids[begin : begin + 1_000]]
        call = Stub(channel).BatchRecommend(pb.BatchRecommendRequest(requests=rows))
        answers += [row.response.info.bundle_label for row in call]
    return answers


def test_a_position_is_the_same_in_every_version() -> None:
    digest = hashlib.blake2b(b"0" * 64 + b"/42", digest_size=8).digest()
    assert position("0" * 64, "42") == (int.from_bytes(digest, "big") >> 11) / 2**53
    page = (Path(__file__).parents[2] / "docs/canary.md").read_text()
    assert f"stands at\n{position('0' * 64, '42')}." in page


def test_the_canary_answers_its_share_of_users_and_always_the_same(
    both: grpc.Channel, loaded: LabeledGenerations
) -> None:
    first = labels(both, USER_IDS)
    assert first == labels(both, USER_IDS)
    # 0.25 of 2,000 within five standard deviations.
    assert 403 < first.count("canary") < 597
    assert loaded.canary is not None
    salt = loaded.canary.bundle.sha256
    assert first == [
        "canary" if position(salt, user_id) < 0.25 else "stable" for user_id in USER_IDS
    ]


def test_a_larger_share_only_adds_users(
    loaded: LabeledGenerations,
) -> None:
    def chosen(share: float) -> set[str]:
        generations = LabeledGenerations(
            stable=loaded.stable, canary=loaded.canary, canary_share=share
        ).serving()
        return {
            user_id
            for user_id in USER_IDS
            if generations.choose(label="", user_id=user_id, request_id="r")[0] == "canary"
        }

    assert chosen(0.0) == set()
    assert chosen(0.0) < chosen(0.1) < chosen(0.4) < chosen(1.0)
    assert chosen(1.0) == set(USER_IDS)


def test_each_answer_is_that_of_exactly_one_bundle(
    both: grpc.Channel, loaded: LabeledGenerations, tiny_bundle: Path, server: Any
) -> None:
    assert loaded.canary is not None
    alone = {}
    for label, generation in (("stable", loaded.stable), ("canary", loaded.canary)):
        running = type(server)(tiny_bundle, generation)
        with grpc.insecure_channel(running.target) as channel:
            alone[label] = scores(Stub(channel).Recommend(asked("u1")))
        running.stop()
    assert alone["stable"] != alone["canary"]
    identities = {"stable": loaded.stable.bundle.sha256, "canary": loaded.canary.bundle.sha256}
    for label in ("canary", "stable", "canary"):
        response = Stub(both).Recommend(asked("u1", label))
        assert (response.info.bundle_label, scores(response)) == (label, alone[label])
        assert response.info.bundle.sha256 == identities[label]
    streamed = list(
        Stub(both).StreamRecommend(pb.StreamRecommendRequest(request=asked("u1", "canary")))
    )
    assert scores(streamed[-1].response) == alone["canary"]
    rows = [asked("u1", label) for label in ("stable", "canary", "stable", "blue")]
    answers = list(Stub(both).BatchRecommend(pb.BatchRecommendRequest(requests=rows)))
    assert [scores(row.response) for row in answers[:3]] == [
        alone[label] for label in ("stable", "canary", "stable")
    ]
    assert answers[3].error.reason == errors_pb2.ERROR_REASON_INVALID_VALUE
    assert answers[3].error.metadata["field"] == "bundle_label"


def test_requests_without_a_user_are_divided_by_request_id(
    both: grpc.Channel, loaded: LabeledGenerations
) -> None:
    assert loaded.canary is not None
    salt, seen = loaded.canary.bundle.sha256, set()
    for number in range(40):
        name = f"request-{number}"
        response = Stub(both).FindSimilarItems(
            pb.FindSimilarItemsRequest(item_id="i5"), metadata=[("x-request-id", name)]
        )
        expected = "canary" if position(salt, name) < 0.25 else "stable"
        assert response.info.bundle_label == expected
        seen.add(expected)
    assert seen == {"stable", "canary"}


def test_every_method_takes_a_choice(target: str) -> None:
    with Client(target) as client:
        for label in ("stable", "canary"):
            answers = [
                client.recommend(user="u1", bundle_label=label),
                client.retrieve(user="u1", bundle_label=label),
                client.rank(user="u1", item_ids=["i1"], bundle_label=label),
                client.find_similar_items("i1", bundle_label=label),
            ]
            assert [answer.info.bundle_label for answer in answers] == [label] * 4


def test_a_request_is_checked_against_the_bundle_it_goes_to(both: grpc.Channel) -> None:
    for label, theirs, other in (("stable", "year", "decade"), ("canary", "decade", "year")):
        Stub(both).Recommend(asked("u1", label, filter=year_is(1999, theirs)))
        with pytest.raises(grpc.RpcError) as caught:
            Stub(both).Recommend(asked("u1", label, filter=year_is(1999, other)))
        details = caught.value.details()
        assert f"got {other}" in details
        assert theirs in details.split("got")[0]


def test_the_canary_is_described(both: grpc.Channel, loaded: LabeledGenerations) -> None:
    stub = bundle_pb2_grpc.BundleServiceStub(both)
    response = stub.GetActiveBundle(bundle_pb2.GetActiveBundleRequest())
    assert loaded.canary is not None
    assert response.bundle.id.sha256 == loaded.stable.bundle.sha256
    (other,) = response.others
    assert (other.label, other.share) == ("canary", 0.25)
    assert other.bundle.id.sha256 == loaded.canary.bundle.sha256


def test_bundles_of_different_names_are_warned_of(
    tiny_bundle: Path, canary_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_generations(ServingSet(stable=tiny_bundle, canary=canary_bundle)).close()
    assert "another name: other beside tiny" in caplog.text


def test_a_canary_that_cannot_be_loaded_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleMissing):
        load_generations(ServingSet(stable=tiny_bundle, canary=tmp_path / "none"))


def test_the_bundles_really_differ(loaded: LabeledGenerations, generation: Generation) -> None:
    assert loaded.canary is not None
    manifest = json.loads((loaded.canary.bundle.path("manifest.json")).read_text())
    assert manifest["version"] == "2"
    assert loaded.canary.bundle.sha256 != generation.bundle.sha256
