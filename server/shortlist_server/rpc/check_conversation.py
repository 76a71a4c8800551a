"""Turns of conversations as callers send them: is every field in its range?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shortlist_server.conversation.state import (
    CONDITIONS_MAX,
    LIKED_MAX,
    LIMIT_MAX,
    REJECTED_MAX,
    REPLY_CHARS_MAX,
    SHOWN_MAX,
    TASTE_CHARS_MAX,
    TEXT_BYTES_MAX,
    TURNS_MAX,
    VALUES_MAX,
)
from shortlist_server.errors import FieldRequired, InvalidValue, OutOfRange
from shortlist_server.llm.prompt import clean
from shortlist_server.rpc import check
from shortlist_server.rpc.check_values import count_at_most, finite, ids, in_range, text_at_most

if TYPE_CHECKING:
    from shortlist.v1 import conversation_pb2, types_pb2

CONVERSATION_ID_BYTES_MAX = 64
STATE_BYTES_MAX = 512 << 10
ATTRIBUTE_BYTES_MAX = 256
CHAR_BYTES_MAX = 4
COMPARISONS = (1, 2, 3, 4)


def converse_request(request: conversation_pb2.ConverseRequest) -> None:
    """Check a ConverseRequest.

    Raises:
        RequestError: a field is out of its range; the error names it.
    """
    _text(request.text)
    if request.HasField("query"):
        _query(request.query)
    in_range("limit", request.limit, LIMIT_MAX, default="5")
    check.attributes(request.attributes)
    check.exclusions("exclusions.item_ids", request.exclusions.item_ids)
    check.filters(request)
    check.min_revision(request.min_revision)
    kind = request.WhichOneof("conversation")
    if kind == "conversation_id":
        if not request.conversation_id:
            raise FieldRequired("conversation_id", expected="an id, or none", got="an empty text")
        text_at_most("conversation_id", request.conversation_id, CONVERSATION_ID_BYTES_MAX)
    elif kind == "state":
        _state(request.state)


def _text(text: str) -> None:
    expected = f"1..{TEXT_BYTES_MAX} bytes of UTF-8"
    if not text:
        raise FieldRequired("text", expected=expected, got="an empty text")
    text_at_most("text", text, TEXT_BYTES_MAX)
    if not clean(text, TEXT_BYTES_MAX):
        raise InvalidValue(
            "text", expected="words", got="nothing but white space and control characters"
        )


def _query(query: types_pb2.Query) -> None:
    kind = query.WhichOneof("kind")
    if kind is None:
        check.values("query.context", query.context)
        return
    if kind != "user":
        raise InvalidValue("query", expected="a query for a user, or none", got=kind)
    check.query(query)


def _state(state: conversation_pb2.ConversationState) -> None:
    if (size := state.ByteSize()) > STATE_BYTES_MAX:
        raise OutOfRange("state", expected=f"at most {STATE_BYTES_MAX} bytes", got=f"{size} bytes")
    count_at_most("state.turns", len(state.turns), TURNS_MAX)
    for position, turn in enumerate(state.turns):
        where = f"state.turns[{position}]"
        text_at_most(f"{where}.text", turn.text, TEXT_BYTES_MAX)
        text_at_most(f"{where}.reply", turn.reply, REPLY_CHARS_MAX * CHAR_BYTES_MAX)
        _ids(f"{where}.item_ids", turn.item_ids, LIMIT_MAX)
    text_at_most("state.taste", state.taste, TASTE_CHARS_MAX * CHAR_BYTES_MAX)
    count_at_most("state.conditions", len(state.conditions), CONDITIONS_MAX)
    for position, condition in enumerate(state.conditions):
        _condition(f"state.conditions[{position}]", condition)
    _ids("state.liked_item_ids", state.liked_item_ids, LIKED_MAX)
    _ids("state.rejected_item_ids", state.rejected_item_ids, REJECTED_MAX)
    _ids("state.shown_item_ids", state.shown_item_ids, SHOWN_MAX)


def _ids(field: str, item_ids: Sequence[str], maximum: int) -> None:
    count_at_most(field, len(item_ids), maximum)
    ids(field, item_ids)


def _condition(where: str, condition: conversation_pb2.AttributeCondition) -> None:
    if not condition.attribute:
        raise FieldRequired(f"{where}.attribute", expected="the name of an attribute", got="none")
    text_at_most(f"{where}.attribute", condition.attribute, ATTRIBUTE_BYTES_MAX)
    if condition.comparison not in COMPARISONS:
        got = str(int(condition.comparison))
        raise InvalidValue(f"{where}.comparison", expected="one of the comparisons", got=got)
    if not condition.values:
        raise FieldRequired(f"{where}.values", expected=f"1..{VALUES_MAX} values", got="none")
    count_at_most(f"{where}.values", len(condition.values), VALUES_MAX)
    for position, value in enumerate(condition.values):
        _scalar(f"{where}.values[{position}]", value)


def _scalar(field: str, value: Any) -> None:
    kind = value.WhichOneof("kind")
    if kind is None or kind.endswith("_list"):
        got = kind or "none"
        raise InvalidValue(field, expected="one string, int64, double or bool", got=got)
    if kind == "double_value":
        finite(field, value.double_value)
    if kind == "string_value":
        text_at_most(field, value.string_value, ATTRIBUTE_BYTES_MAX * CHAR_BYTES_MAX)
