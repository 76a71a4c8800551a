"""Converse, from both clients and from the command."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import conversation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_client import (
    AttributeComparison,
    AttributeCondition,
    ConversationState,
    Degradation,
    DegradedReason,
    DroppedCondition,
    Event,
    InvalidValue,
    LanguageModelCost,
    LanguageModelUse,
    ReplyPiece,
    StageOutcome,
    TurnAction,
    TurnEnd,
    TurnItems,
    Understanding,
    User,
    attribute,
)
from shortlist_client.cli import main

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer

STATE = pb.ConversationState(turns=[pb.ConversationTurn(text="Films", item_ids=["50"])])
UNDERSTANDING = pb.Understanding(
    action=pb.TURN_ACTION_SWAP,
    taste="crime",
    conditions=[
        pb.AttributeCondition(
            attribute="genres",
            comparison=pb.ATTRIBUTE_COMPARISON_IS,
            values=[types.Value(string_value="Crime"), types.Value(string_value="Drama")],
        )
    ],
    dropped_conditions=[pb.DroppedCondition(attribute="length", problem="no such attribute")],
    liked_item_ids=["1"],
    rejected_item_ids=["2"],
    subject_item_ids=["3"],
    by_language_model=True,
)
ITEMS = pb.TurnItems(
    items=[
        types.ScoredItem(id="50", attributes={"title": types.Value(string_value="Heat\x1b[2J")})
    ],
    info=types.AnswerInfo(request_id="mine"),
)
END = pb.TurnEnd(
    reply="Here it is.",
    by_language_model=True,
    state=STATE,
    degraded=[
        types.Degradation(
            stage="intent", reason=types.DEGRADED_REASON_LLM_TIMEOUT, message="too late"
        )
    ],
    stages=[
        types.StageReport(
            name="intent", duration=Duration(nanos=1_500_000), outcome=types.STAGE_OUTCOME_FAILED
        )
    ],
    language_model=pb.LanguageModelUse(
        model="gemini/m-1",
        prompt="converse@abc",
        input_token_count=120,
        output_token_count=30,
        price=0.5,
        violations=["link"],
        intent=pb.LanguageModelCost(input_token_count=100, output_token_count=10, price=0.25),
        reply=pb.LanguageModelCost(input_token_count=20, output_token_count=20, price=0.25),
    ),
)
PARTS = [
    pb.ConverseResponse(understanding=UNDERSTANDING),
    pb.ConverseResponse(items=ITEMS),
    pb.ConverseResponse(reply=pb.ReplyPiece(text="Here it")),
    pb.ConverseResponse(reply=pb.ReplyPiece(text="Here it is.", replaces=True)),
    pb.ConverseResponse(end=END),
]


def test_every_field_is_on_the_wire_as_asked(ask: Ask, fake_server: FakeServer) -> None:
    ask(
        "converse",
        "Films",
        user=User(id="ada", history=[Event("50")]),
        conversation=ConversationState(STATE.SerializeToString()),
        keep=True,
        limit=3,
        filter=attribute("year").equals(1999),
        excluded_filter=attribute("year").equals(1929),
        excluded_item_ids=["7"],
        exclude_seen=False,
        attributes=["title"],
        context={"hour": 20},
        min_revision=9,
        bundle_label="canary",
    )
    named, unnamed = (
        types.Filter(
            equals=types.EqualsCondition(attribute="year", value=types.Value(int64_value=year))
        )
        for year in (1999, 1929)
    )
    assert fake_server.received[-1].request == pb.ConverseRequest(
        text="Films",
        query=types.Query(
            user=types.UserQuery(id="ada", history=[types.HistoryEvent(item_id="50")]),
            context={"hour": types.Value(int64_value=20)},
        ),
        state=STATE,
        keep=True,
        limit=3,
        attributes=["title"],
        filter=named,
        exclusions=types.Exclusions(item_ids=["7"], seen=False, filter=unnamed),
        min_revision=9,
        bundle_label="canary",
    )
    assert {field.name for field in pb.ConverseRequest.DESCRIPTOR.fields} == {
        field.name for field, _ in fake_server.received[-1].request.ListFields()
    } | {"conversation_id"}


def test_what_is_not_asked_for_is_left_to_the_server(ask: Ask, fake_server: FakeServer) -> None:
    ask("converse", "Films")
    assert fake_server.received[-1].request == pb.ConverseRequest(
        text="Films", exclusions=types.Exclusions()
    )
    # A turn takes longer than a list, whose deadline is the client's.
    assert fake_server.received[-1].time_remaining_s > 20
    ask("converse", "Films", conversation="abc", timeout_s=3, request_id="mine")
    assert fake_server.received[-1].request == pb.ConverseRequest(
        text="Films", conversation_id="abc", exclusions=types.Exclusions()
    )
    assert fake_server.received[-1].time_remaining_s < 20
    assert fake_server.received[-1].metadata["x-request-id"] == "mine"


@pytest.mark.parametrize("conversation", [ConversationState(b"\xff"), 7])
def test_what_is_no_conversation_is_refused_before_it_is_sent(
    conversation: Any, ask: Ask, fake_server: FakeServer
) -> None:
    with pytest.raises(InvalidValue) as caught:
        ask("converse", "Films", conversation=conversation)
    assert caught.value.field == "conversation"
    assert not fake_server.received


def test_every_part_arrives_as_it_was_sent(ask: Ask, fake_server: FakeServer) -> None:
    fake_server.script(PARTS)
    understanding, items, first, second, end = ask("converse", "Films")
    assert understanding == Understanding(
        action=TurnAction.SWAP,
        taste="crime",
        conditions=(
            AttributeCondition(
                attribute="genres", comparison=AttributeComparison.IS, values=("Crime", "Drama")
            ),
        ),
        dropped_conditions=(DroppedCondition(attribute="length", problem="no such attribute"),),
        liked_item_ids=("1",),
        rejected_item_ids=("2",),
        subject_item_ids=("3",),
        by_language_model=True,
    )
    assert isinstance(items, TurnItems)
    assert [item.id for item in items.items] == ["50"]
    assert items.info.request_id == "mine"
    assert first == ReplyPiece(text="Here it", replaces=False)
    assert second == ReplyPiece(text="Here it is.", replaces=True)
    assert isinstance(end, TurnEnd)
    assert (end.reply, end.by_language_model, end.expire_time) == ("Here it is.", True, None)
    assert end.degraded == (
        Degradation(
            stage="intent", source="", reason=DegradedReason.LLM_TIMEOUT, message="too late"
        ),
    )
    (stage,) = end.stages
    assert (stage.name, stage.duration_ms, stage.outcome) == ("intent", 1.5, StageOutcome.FAILED)
    assert end.language_model == LanguageModelUse(
        model="gemini/m-1",
        prompt="converse@abc",
        input_token_count=120,
        output_token_count=30,
        price=0.5,
        violations=("link",),
        intent=LanguageModelCost(input_token_count=100, output_token_count=10, price=0.25),
        reply=LanguageModelCost(input_token_count=20, output_token_count=20, price=0.25),
    )
    ask("converse", "More", conversation=end.conversation)
    assert fake_server.received[-1].request.state == STATE


def test_a_conversation_that_the_server_keeps_has_an_id_and_an_end(
    ask: Ask, fake_server: FakeServer
) -> None:
    kept = pb.TurnEnd(conversation_id="abc", expire_time=Timestamp(seconds=1_793_534_400))
    fake_server.script([pb.ConverseResponse(end=kept)])
    (end,) = ask("converse", "Films", keep=True)
    assert end.conversation == "abc"
    assert end.expire_time == datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert end.language_model is None


def test_enums_of_a_later_server_are_not_recognized(ask: Ask, fake_server: FakeServer) -> None:
    later = pb.Understanding(
        action=99, conditions=[pb.AttributeCondition(attribute="year", comparison=99)]
    )
    fake_server.script([pb.ConverseResponse(understanding=later)])
    (understanding,) = ask("converse", "Films")
    assert understanding.action is TurnAction.UNRECOGNIZED
    assert understanding.conditions[0].comparison is AttributeComparison.UNRECOGNIZED


@pytest.fixture
def shortlist(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("SHORTLIST_TARGET", fake_server.target)
    monkeypatch.setenv("SHORTLIST_OUTPUT", "table")
    return lambda *arguments: main(arguments)


def test_the_command_prints_turns_and_sends_what_they_came_to(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(PARTS, PARTS)
    assert shortlist("chat", "Films", "More", "--user", "42", "--limit", "2") == 0
    first, second = (call.request for call in fake_server.received)
    assert (first.text, first.query.user.id, first.limit) == ("Films", "42", 2)
    assert not first.HasField("state")
    assert second.state == STATE
    printed = capsys.readouterr().out
    assert "> Films\n  (genres: Crime, Drama; length: no effect, no such attribute)\n" in printed
    assert "Here it\nHere it is.\n  (without a language model: intent LLM_TIMEOUT)\n" in printed
    # A title is untrusted text: no terminal obeys it.
    assert "Heat" in printed
    assert "\x1b" not in printed


def test_the_command_reads_turns_line_by_line(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Films\n\n  More \n"))
    kept = [pb.ConverseResponse(end=pb.TurnEnd(conversation_id="abc"))]
    fake_server.script(kept, kept)
    assert shortlist("converse", "--keep", "--exclude", "7", "--include-seen") == 0
    assert [call.request.text for call in fake_server.received] == ["Films", "More"]
    assert fake_server.received[0].request.keep
    assert fake_server.received[0].request.exclusions == types.Exclusions(
        item_ids=["7"], seen=False
    )
    assert fake_server.received[1].request.conversation_id == "abc"
    assert capsys.readouterr().out.endswith("conversation abc\n")
