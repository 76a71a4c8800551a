from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server import app
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.observability.masking import Masking, keyed_hash, make_key, read_key

KEY = b"sixteen bytes or more"
SECRETS = ("secret-user", "secret-feature", "secret-hour", "secret-history", "secret-action")


def text(value: str) -> types.Value:
    return types.Value(string_value=value)


def telling_user() -> types.Query:
    query = types.Query(user=types.UserQuery(id="secret-user"))
    query.user.features["segment"].CopyFrom(text("secret-feature"))
    query.user.features["age"].double_value = 37.25
    query.context["hour"].CopyFrom(text("secret-hour"))
    event = query.user.history.add(item_id="secret-history", rating=4.5, action="secret-action")
    event.time.seconds = 1_234_567_890
    return query


USER_PATHS = (
    "query.user.id",
    "query.user.features",
    "query.user.history",
    "query.user.history.details",
    "query.context",
)
ITEMS = types.Query(items=types.ItemsQuery(item_ids=["secret-item"]))
EMBEDDING = types.Query(embedding=types.Embedding(values=[7.5, 8.25]))
EXCLUSIONS = types.Exclusions(item_ids=["secret-excluded"])
CASES: list[tuple[Any, tuple[str, ...]]] = [
    (pb.RecommendRequest(query=telling_user()), USER_PATHS),
    (
        pb.RetrieveRequest(query=telling_user(), exclusions=EXCLUSIONS),
        (*USER_PATHS, "exclusions.item_ids"),
    ),
    (pb.RankRequest(query=telling_user(), item_ids=["a"]), USER_PATHS),
    (
        pb.RankRequest(query=ITEMS, item_ids=["a"], excluded_item_ids=["secret-excluded"]),
        ("query.items.item_ids", "excluded_item_ids"),
    ),
    (pb.RecommendRequest(query=ITEMS), ("query.items.item_ids",)),
    (pb.RecommendRequest(query=EMBEDDING), ("query.embedding",)),
    (pb.RecommendRequest(query=types.Query(text="secret words")), ("query.text",)),
    (pb.RecommendRequest(query=types.Query(user=types.UserQuery())), ()),
    (pb.FindSimilarItemsRequest(item_id="a", limit=3), ()),
    (
        pb.FindSimilarItemsRequest(item_id="a", excluded_item_ids=["secret-excluded"]),
        ("excluded_item_ids",),
    ),
]


@pytest.mark.parametrize(("request_", "paths"), CASES)
@pytest.mark.parametrize("users", ["hash", "drop"])
def test_what_says_something_of_a_user_is_masked_and_named(
    users: Any, request_: Any, paths: tuple[str, ...]
) -> None:
    before = request_.SerializeToString(deterministic=True)
    masked, named = Masking(users, KEY).request(request_)
    assert set(named) == set(paths)
    assert b"secret" not in masked.SerializeToString()
    assert request_.SerializeToString(deterministic=True) == before
    if not paths:
        assert masked == request_
    if "query.embedding" in paths:
        assert masked.query.WhichOneof("kind") == "embedding"
        assert not masked.query.embedding.values


def test_keeping_leaves_the_request_as_it_is() -> None:
    request = CASES[0][0]
    masked, named = Masking("keep").request(request)
    assert masked is request
    assert named == ()
    assert Masking("keep").request_id("mine") == "mine"


def test_hashes_keep_who_is_who_apart_and_together() -> None:
    masking = Masking("hash", KEY)
    first, _ = masking.request(pb.RecommendRequest(query=telling_user()))
    again, _ = masking.request(pb.RankRequest(query=telling_user()))
    other, _ = Masking("hash", KEY + b"!").request(pb.RecommendRequest(query=telling_user()))
    assert first.query == again.query
    assert first.query.user.id == keyed_hash(KEY, "user", b"secret-user")
    assert len(first.query.user.id) == 32
    assert other.query.user.id != first.query.user.id
    assert keyed_hash(KEY, "item", b"x") != keyed_hash(KEY, "user", b"x")
    assert set(first.query.user.features) == {"segment", "age"}
    hashes = {value.string_value for value in first.query.user.features.values()}
    assert all(len(digits) == 32 for digits in hashes)
    (event,) = first.query.user.history
    assert event == types.HistoryEvent(item_id=keyed_hash(KEY, "item", b"secret-history"))


def test_dropping_leaves_nothing_of_a_user() -> None:
    masked, _ = Masking("drop").request(pb.RecommendRequest(query=telling_user(), limit=3))
    assert masked == pb.RecommendRequest(query=types.Query(user=types.UserQuery()), limit=3)
    assert Masking("drop").request_id("secret") == ""


@pytest.mark.parametrize("users", ["hash", "drop"])
def test_what_the_answer_says_of_a_user_is_left_out(users: Any) -> None:
    info = types.AnswerInfo(request_id="secret-id", seed=5)
    info.warnings.add(field="query.user.history", subjects=["secret-history"])
    info.answered_query.history_item_ids.append("secret-history")
    info.model_inputs.add(model="secret")
    info.stages.add(name="retrieval", plan="popularity among country = secret-feature")
    info.stages.add(name="ranking", plan="onnx 64 at a time, 1 rating")
    info.sources.add(name="local", kind="popularity", plan="popularity among country = secret")
    info.sources.add(name="two_tower", kind="nearest", plan="exact 60 of 60")
    kept = Masking(users, KEY).info(info)
    assert b"secret" not in kept.SerializeToString()
    assert kept.seed == 5
    assert [stage.plan for stage in kept.stages] == ["", "onnx 64 at a time, 1 rating"]
    assert [source.plan for source in kept.sources] == ["", "exact 60 of 60"]
    assert info.request_id == "secret-id"


def test_salt_file_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make_key, [path] * 32))
    key = read_key(path)
    assert len(key) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    make_key(path)
    assert read_key(path) == key
    assert [one.name for one in tmp_path.iterdir()] == ["salt"]


def test_salt_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="request_log_salt_file: cannot read"):
        read_key(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="request_log_salt_file: cannot write"):
        make_key(tmp_path / "no/such/folder/salt")
    (tmp_path / "short").write_text("pepper\n")
    with pytest.raises(ConfigError, match=r"expected 16 bytes or more in .*short, got 6"):
        read_key(tmp_path / "short")


def config(**settings: Any) -> ServerConfig:
    return ServerConfig.model_validate({"bundle": "nowhere", **settings})


def test_log_is_off_unless_it_is_configured(tmp_path: Path) -> None:
    assert app.request_log(config()) is None
    with pytest.raises(ConfigError, match=r"request_log_salt_file: expected a file, since"):
        app.request_log(config(request_log=tmp_path / "log", request_log_users="hash"))
    log = app.request_log(
        config(
            request_log=tmp_path / "log",
            request_log_users="hash",
            request_log_salt_file=tmp_path / "salt",
        )
    )
    assert log is not None
    log.close()
    assert (tmp_path / "salt").exists()
