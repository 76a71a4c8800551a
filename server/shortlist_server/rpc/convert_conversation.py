"""Messages of conversations to the dialogue's values, and back."""

from __future__ import annotations

from shortlist.v1 import conversation_pb2 as pb
from shortlist.v1 import types_pb2

from shortlist_server.conversation.asked import Turn
from shortlist_server.conversation.dialogue import Ended
from shortlist_server.conversation.intent import Action, Intent
from shortlist_server.conversation.state import (
    AnsweredTurn,
    Comparison,
    Condition,
    Conversation,
)
from shortlist_server.funnel.types import Query, User
from shortlist_server.rpc import convert
from shortlist_server.rpc.convert_filter import filter_or_none, value_of
from shortlist_server.rpc.respond import DEGRADED, OUTCOMES, set_value

LIMIT_DEFAULT = 5
ACTIONS = {
    Action.RECOMMEND: pb.TURN_ACTION_RECOMMEND,
    Action.SWAP: pb.TURN_ACTION_SWAP,
    Action.EXPLAIN: pb.TURN_ACTION_EXPLAIN,
}
COMPARISONS = {
    Comparison.IS: pb.ATTRIBUTE_COMPARISON_IS,
    Comparison.IS_NOT: pb.ATTRIBUTE_COMPARISON_IS_NOT,
    Comparison.AT_LEAST: pb.ATTRIBUTE_COMPARISON_AT_LEAST,
    Comparison.AT_MOST: pb.ATTRIBUTE_COMPARISON_AT_MOST,
}
COMPARISON_OF = {message: comparison for comparison, message in COMPARISONS.items()}


def turn(request: pb.ConverseRequest) -> Turn:
    """Return a turn; `check_conversation` has been before."""
    has_user = request.query.WhichOneof("kind") == "user"
    query = convert.query(request.query) if has_user else Query(subject=User())
    assert isinstance(query.subject, User)
    return Turn(
        text=request.text,
        user=query.subject,
        context=convert.values(request.query.context),
        limit=request.limit or LIMIT_DEFAULT,
        attributes=tuple(request.attributes),
        filter=filter_or_none(request, "filter"),
        excluded_filter=filter_or_none(request.exclusions, "filter", "exclusions.filter"),
        excluded_item_ids=convert.excluded_ids("exclusions.item_ids", request.exclusions.item_ids),
        exclude_seen=convert.exclude_seen(request.exclusions),
    )


def conversation(state: pb.ConversationState) -> Conversation:
    """Return a conversation of its message."""
    return Conversation(
        turns=tuple(
            AnsweredTurn(text=one.text, reply=one.reply, item_ids=tuple(one.item_ids))
            for one in state.turns
        ),
        taste=state.taste,
        conditions=tuple(
            Condition(
                attribute=one.attribute,
                comparison=COMPARISON_OF[one.comparison],
                values=tuple(map(value_of, one.values)),
            )
            for one in state.conditions
        ),
        liked=tuple(state.liked_item_ids),
        rejected=tuple(state.rejected_item_ids),
        shown=tuple(state.shown_item_ids),
    )


def fill_state(value: Conversation, message: pb.ConversationState) -> None:
    """Write a conversation."""
    for one in value.turns:
        message.turns.add(text=one.text, reply=one.reply, item_ids=one.item_ids)
    message.taste = value.taste
    for condition in value.conditions:
        fill_condition(condition, message.conditions.add())
    message.liked_item_ids.extend(value.liked)
    message.rejected_item_ids.extend(value.rejected)
    message.shown_item_ids.extend(value.shown)


def fill_condition(condition: Condition, message: pb.AttributeCondition) -> None:
    """Write a condition."""
    message.attribute = condition.attribute
    message.comparison = COMPARISONS[condition.comparison]
    for value in condition.values:
        set_value(message.values.add(), value)


def fill_understanding(intent: Intent, message: pb.Understanding) -> None:
    """Write what was understood."""
    message.action = ACTIONS[intent.action]
    message.taste = intent.taste
    for condition in intent.conditions:
        fill_condition(condition, message.conditions.add())
    for dropped in intent.dropped:
        message.dropped_conditions.add(attribute=dropped.attribute, problem=dropped.problem)
    message.liked_item_ids.extend(intent.liked)
    message.rejected_item_ids.extend(intent.rejected)
    message.subject_item_ids.extend(intent.subjects)
    message.by_language_model = intent.by_model


def fill_end(end: Ended, message: pb.TurnEnd) -> None:
    """Write the end of a turn, without the conversation."""
    message.reply = end.reply
    message.by_language_model = end.by_model
    for one in end.degraded:
        message.degraded.add(
            stage=one.stage, source=one.source, reason=DEGRADED[one.reason], message=one.message
        )
    for report in end.stages:
        stage: types_pb2.StageReport = message.stages.add(
            name=report.name, outcome=OUTCOMES[report.outcome], plan=report.plan
        )
        stage.duration.FromNanoseconds(report.duration_ns)
    if (use := end.use) is not None:
        model = message.language_model
        model.model = use.model
        model.prompt = use.prompt
        for cost, told in ((use.intent, model.intent), (use.reply, model.reply)):
            told.input_token_count = cost.usage.input_tokens
            told.output_token_count = cost.usage.output_tokens
            told.price = cost.price
        model.input_token_count = model.intent.input_token_count + model.reply.input_token_count
        model.output_token_count = model.intent.output_token_count + model.reply.output_token_count
        model.price = model.intent.price + model.reply.price
        model.violations.extend(use.violations)
