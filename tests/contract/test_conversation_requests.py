"""Converse without a language model: what is kept, and for whom; what is refused, and counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import RunningServer
from conversing import Talk
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import conversation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.conversation import kept_file
from shortlist_server.errors import ConfigError
from shortlist_server.generation import Generation

Code = grpc.StatusCode
UNAVAILABLE = {"intent": "LLM_UNAVAILABLE", "reply": "LLM_UNAVAILABLE"}


@pytest.fixture
def converse(channel: grpc.Channel) -> Any:
    stub = ConversationServiceStub(channel)
    return lambda message, **options: list(stub.Converse(message, **options))


def test_without_a_language_model_turns_are_plain(channel: grpc.Channel) -> None:
    talk = Talk(channel)
    first = talk.say("Something\x00 light\n for tonight")
    assert first.degraded == UNAVAILABLE
    assert first.understanding.taste == "Something light for tonight"
    assert first.end.reply.startswith("Here is what I found: Film ")
    assert not first.end.HasField("language_model")
    second = talk.say("More")
    assert not set(first.ids) & set(second.ids)
    assert second.understanding.taste == "More"


def test_nobody_known_gets_what_is_popular(channel: grpc.Channel) -> None:
    answered = Talk(channel, user="").say("Films")
    assert answered.info.cold_start_basis == types.COLD_START_BASIS_NOTHING


def test_a_state_that_comes_back_holds(channel: grpc.Channel) -> None:
    talk = Talk(channel)
    talk.say("Films")
    state = pb.ConversationState()
    state.CopyFrom(talk.so_far["state"])
    state.conditions.add(
        attribute="genres",
        comparison=pb.ATTRIBUTE_COMPARISON_IS,
        values=[types.Value(string_value="Drama")],
    )
    state.conditions.add(
        attribute="gone",
        comparison=pb.ATTRIBUTE_COMPARISON_IS,
        values=[types.Value(bool_value=True)],
    )
    state.shown_item_ids.append("was-deleted")
    answered = talk.say("More", state=state)
    assert answered.items
    for item in answered.items:
        assert "Drama" in item.attributes["genres"].string_list.values
    (dropped,) = answered.understanding.dropped_conditions
    assert (dropped.attribute, dropped.problem) == ("gone", "the items have no such attribute")
    assert [one.attribute for one in answered.end.state.conditions] == ["genres"]


def test_conversations_do_not_end(channel: grpc.Channel) -> None:
    talk = Talk(channel, limit=1)
    for number in range(25):
        answered = talk.say(f"More {number}")
    assert [turn.text for turn in answered.end.state.turns] == [f"More {n}" for n in range(5, 25)]
    assert len(answered.end.state.shown_item_ids) == 25


def test_nothing_is_found_when_all_is_shown(channel: grpc.Channel) -> None:
    talk = Talk(channel, limit=20)
    found = [len(talk.say("More").items) for _ in range(4)]
    assert found[0] == 20
    assert found[-1] == 0
    assert talk.say("More").end.reply == "I found nothing that fits. Try with fewer conditions."


def test_the_server_keeps_a_conversation_that_it_is_asked_to_keep(channel: grpc.Channel) -> None:
    talk = Talk(channel)
    first = talk.say("Films", keep=True)
    assert first.end.conversation_id
    now = Timestamp()
    now.GetCurrentTime()
    assert 3_500 < first.end.expire_time.seconds - now.seconds <= 3_601
    second = talk.say("More")
    assert second.end.conversation_id == first.end.conversation_id
    assert not set(first.ids) & set(second.ids)


@pytest.fixture
def keyed(
    tiny_bundle: Path, generation: Generation, tmp_path: Path
) -> Iterator[tuple[grpc.Channel, list[str]]]:
    """A channel to a server with two keys."""
    keys = [make_key(), make_key()]
    entries = [
        entry(key, name=name, scopes=["recommend"]) for key, name in zip(keys, "ab", strict=True)
    ]
    (tmp_path / "keys.toml").write_text("\n".join(entries))
    running = RunningServer(tiny_bundle, generation, api_keys_file=tmp_path / "keys.toml")
    with grpc.insecure_channel(running.target) as opened:
        yield opened, keys
    running.stop()


def test_no_caller_reaches_the_conversation_of_another(
    keyed: tuple[grpc.Channel, list[str]], refuse: Any
) -> None:
    channel, keys = keyed
    stub = ConversationServiceStub(channel)

    def say(key: str, **asked: Any) -> pb.TurnEnd:
        metadata = (("authorization", f"Bearer {key}"),)
        request = pb.ConverseRequest(text="Films", **asked)
        return list(stub.Converse(request, timeout=20, metadata=metadata))[-1].end

    kept = say(keys[0], keep=True).conversation_id
    refusal = refuse(
        lambda message, **options: list(stub.Converse(message, **options)),
        pb.ConverseRequest(text="Films", conversation_id=kept),
        metadata=(("authorization", f"Bearer {keys[1]}"),),
    )
    assert (refusal.code, refusal.info.reason) == (Code.NOT_FOUND, "CONVERSATION_NOT_FOUND")
    # It neither learned of it nor did it harm.
    assert say(keys[0], conversation_id=kept).conversation_id == kept


def test_what_is_not_kept_is_not_found(
    tiny_bundle: Path, generation: Generation, refuse: Any
) -> None:
    running = RunningServer(tiny_bundle, generation, conversation={"count_max": 1})
    with grpc.insecure_channel(running.target) as channel:
        stub = ConversationServiceStub(channel)
        first, second = Talk(channel), Talk(channel)
        first.say("Films", keep=True)
        second.say("Films", keep=True)
        refusal = refuse(
            lambda message, **options: list(stub.Converse(message, **options)),
            pb.ConverseRequest(text="More", **first.so_far),
        )
        assert refusal.code is Code.NOT_FOUND
        second.say("More")
    running.stop()


# Of several workers, none sees what another keeps in memory.
@pytest.mark.parametrize("settings", [{"conversation": {"count_max": 0}}, {"workers": 2}])
def test_a_server_that_keeps_none_says_so(
    settings: dict[str, Any], tiny_bundle: Path, generation: Generation, refuse: Any
) -> None:
    running = RunningServer(tiny_bundle, generation, **settings)
    with grpc.insecure_channel(running.target) as channel:
        stub = ConversationServiceStub(channel)
        refusal = refuse(
            lambda message, **options: list(stub.Converse(message, **options)),
            pb.ConverseRequest(text="Films", keep=True),
        )
        Talk(channel).say("Films")
    running.stop()
    assert (refusal.code, refusal.info.reason) == (Code.FAILED_PRECONDITION, "NOT_CONFIGURED")


def test_a_turn_whose_conversation_cannot_be_kept_is_answered_and_its_caller_keeps_it(
    tiny_bundle: Path, generation: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_file, "LOCK_WAIT_S", 0.1)
    running = RunningServer(tiny_bundle, generation, workers=2, state_dir=tmp_path)
    with grpc.insecure_channel(running.target) as channel:
        talk = Talk(channel)
        first = talk.say("Films", keep=True)
        other = sqlite3.connect(tmp_path / kept_file.FILE)
        other.execute("BEGIN IMMEDIATE")
        second = talk.say("More")
        other.close()
        assert [turn.text for turn in second.end.state.turns] == ["Films", "More"]
        third = talk.say("More", keep=True)
        assert third.end.conversation_id
        assert not {*first.ids, *second.ids} & set(third.ids)
    running.stop()


def state(**fields: Any) -> pb.ConverseRequest:
    return pb.ConverseRequest(text="Films", state=pb.ConversationState(**fields))


def condition(**fields: Any) -> pb.ConverseRequest:
    whole: dict[str, Any] = {
        "attribute": "year",
        "comparison": pb.ATTRIBUTE_COMPARISON_IS,
        "values": [types.Value(int64_value=1999)],
    }
    return state(conditions=[pb.AttributeCondition(**{**whole, **fields})])


TURN = pb.ConversationTurn(text="Films")


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (pb.ConverseRequest(), "text", "FIELD_REQUIRED"),
        (pb.ConverseRequest(text="é" * 1_001), "text", "OUT_OF_RANGE"),
        (pb.ConverseRequest(text=" \n\x00"), "text", "INVALID_VALUE"),
        (pb.ConverseRequest(text="Films", limit=21), "limit", "OUT_OF_RANGE"),
        (
            pb.ConverseRequest(
                text="Films", query=types.Query(items=types.ItemsQuery(item_ids=["i1"]))
            ),
            "query",
            "INVALID_VALUE",
        ),
        (
            pb.ConverseRequest(text="Films", query=types.Query(user=types.UserQuery(id="x" * 257))),
            "query.user.id",
            "OUT_OF_RANGE",
        ),
        (
            pb.ConverseRequest(text="Films", filter=types.Filter()),
            "filter",
            "FIELD_REQUIRED",
        ),
        (
            pb.ConverseRequest(text="Films", exclusions=types.Exclusions(item_ids=[""])),
            "exclusions.item_ids[0]",
            "FIELD_REQUIRED",
        ),
        (pb.ConverseRequest(text="Films", min_revision=-1), "min_revision", "OUT_OF_RANGE"),
        (
            pb.ConverseRequest(text="Films", conversation_id=""),
            "conversation_id",
            "FIELD_REQUIRED",
        ),
        (
            pb.ConverseRequest(text="Films", conversation_id="x" * 65),
            "conversation_id",
            "OUT_OF_RANGE",
        ),
        (state(turns=[TURN] * 21), "state.turns", "OUT_OF_RANGE"),
        (
            state(turns=[TURN, pb.ConversationTurn(text="x" * 2_001)]),
            "state.turns[1].text",
            "OUT_OF_RANGE",
        ),
        (
            state(turns=[pb.ConversationTurn(reply="x" * 6_001)]),
            "state.turns[0].reply",
            "OUT_OF_RANGE",
        ),
        (
            state(turns=[pb.ConversationTurn(item_ids=["i1"] * 21)]),
            "state.turns[0].item_ids",
            "OUT_OF_RANGE",
        ),
        (state(taste="x" * 1_201), "state.taste", "OUT_OF_RANGE"),
        (state(shown_item_ids=["i1"] * 501), "state.shown_item_ids", "OUT_OF_RANGE"),
        (state(liked_item_ids=[""]), "state.liked_item_ids[0]", "FIELD_REQUIRED"),
        (state(rejected_item_ids=["i1"] * 101), "state.rejected_item_ids", "OUT_OF_RANGE"),
        (
            state(turns=[pb.ConversationTurn(item_ids=["x" * 250] * 20)] * 20 + [TURN] * 300_000),
            "state",
            "OUT_OF_RANGE",
        ),
        (condition(attribute=""), "state.conditions[0].attribute", "FIELD_REQUIRED"),
        (condition(comparison=0), "state.conditions[0].comparison", "INVALID_VALUE"),
        (condition(comparison=9), "state.conditions[0].comparison", "INVALID_VALUE"),
        (condition(values=[]), "state.conditions[0].values", "FIELD_REQUIRED"),
        (
            condition(values=[types.Value()]),
            "state.conditions[0].values[0]",
            "INVALID_VALUE",
        ),
        (
            condition(values=[types.Value(double_value=float("nan"))]),
            "state.conditions[0].values[0]",
            "INVALID_VALUE",
        ),
    ],
)
def test_what_is_out_of_range_is_refused_by_field(
    request_: pb.ConverseRequest, field: str, reason: str, converse: Any, refuse: Any
) -> None:
    refusal = refuse(converse, request_)
    assert (refusal.code, refusal.info.reason) == (Code.INVALID_ARGUMENT, reason)
    assert refusal.info.metadata["field"] == field


def test_the_largest_state_is_taken(channel: grpc.Channel) -> None:
    ids = [f"{number:03d}{'x' * 253}" for number in range(500)]
    largest = pb.ConversationState(
        turns=[pb.ConversationTurn(text="x" * 2_000, reply="😀" * 1_500, item_ids=ids[:20])] * 20,
        taste="😀" * 300,
        liked_item_ids=ids[:100],
        rejected_item_ids=ids[100:200],
        shown_item_ids=ids,
    )
    answered = Talk(channel).say("More", state=largest)
    assert len(answered.items) == 3
    # What comes back is taken, too.
    assert len(Talk(channel).say("More", state=answered.end.state).items) == 3


def test_turns_are_counted(tiny_bundle: Path, generation: Generation) -> None:
    running = RunningServer(tiny_bundle, generation, metrics_listen="127.0.0.1:0")
    with grpc.insecure_channel(running.target) as channel:
        talk = Talk(channel)
        talk.say("Films", keep=True)
        talk.say("More")
    assert running.metrics is not None
    found = running.metrics.registry.get_sample_value
    turns = {"action": "recommend"}
    failed = {"stage": "reply", "outcome": "LLM_UNAVAILABLE"}
    assert found("shortlist_conversation_turns_total", turns) == 2
    assert found("shortlist_conversation_stages_total", failed) == 2
    assert found("shortlist_conversations_kept") == 1
    assert found("shortlist_conversations_kept_bytes", {}) > 50  # type: ignore[operator]
    assert found("shortlist_answers_total", {"label": "stable"}) == 2
    running.stop()


def test_a_template_that_is_none_is_refused_by_field(
    tiny_bundle: Path, generation: Generation, tmp_path: Path
) -> None:
    (tmp_path / "prompt.toml").write_text('title = "title"')
    with pytest.raises(ConfigError, match=r"conversation\.prompt_file.*intent: expected a text"):
        RunningServer(
            tiny_bundle, generation, conversation={"prompt_file": tmp_path / "prompt.toml"}
        )
