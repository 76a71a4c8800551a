"""Parts of turns from the messages of the service."""

from __future__ import annotations

from datetime import UTC

from shortlist.v1 import conversation_pb2 as pb

from shortlist_client import conversations as results
from shortlist_client.responses import (
    by_number,
    degradation_from_proto,
    info_from_proto,
    item_from_proto,
    stage_from_proto,
)
from shortlist_client.values import value_from_proto

_ACTIONS = by_number(results.TurnAction, pb.TurnAction.items(), "TURN_ACTION_")
_COMPARISONS = by_number(
    results.AttributeComparison, pb.AttributeComparison.items(), "ATTRIBUTE_COMPARISON_"
)


def part_from_proto(response: pb.ConverseResponse) -> results.TurnPart:
    """Return one part of the answer to a turn."""
    match response.WhichOneof("part"):
        case "understanding":
            return _understanding(response.understanding)
        case "items":
            return results.TurnItems(
                items=tuple(map(item_from_proto, response.items.items)),
                info=info_from_proto(response.items.info),
            )
        case "end":
            return _end(response.end)
    # A part of a later server that this client does not know says nothing.
    return results.ReplyPiece(text=response.reply.text, replaces=response.reply.replaces)


def _understanding(message: pb.Understanding) -> results.Understanding:
    return results.Understanding(
        action=_ACTIONS.get(message.action, results.TurnAction.UNRECOGNIZED),
        taste=message.taste,
        conditions=tuple(map(_condition, message.conditions)),
        dropped_conditions=tuple(
            results.DroppedCondition(attribute=one.attribute, problem=one.problem)
            for one in message.dropped_conditions
        ),
        liked_item_ids=tuple(message.liked_item_ids),
        rejected_item_ids=tuple(message.rejected_item_ids),
        subject_item_ids=tuple(message.subject_item_ids),
        by_language_model=message.by_language_model,
    )


def _condition(message: pb.AttributeCondition) -> results.AttributeCondition:
    values = tuple(map(value_from_proto, message.values))
    return results.AttributeCondition(
        attribute=message.attribute,
        comparison=_COMPARISONS.get(message.comparison, results.AttributeComparison.UNRECOGNIZED),
        values=tuple(value for value in values if isinstance(value, str | int | float | bool)),
    )


def _end(message: pb.TurnEnd) -> results.TurnEnd:
    conversation: str | results.ConversationState = message.conversation_id
    if message.WhichOneof("conversation") != "conversation_id":
        conversation = results.ConversationState(message.state.SerializeToString())
    model = message.language_model
    return results.TurnEnd(
        reply=message.reply,
        by_language_model=message.by_language_model,
        conversation=conversation,
        expire_time=(
            message.expire_time.ToDatetime(tzinfo=UTC) if message.HasField("expire_time") else None
        ),
        degraded=tuple(map(degradation_from_proto, message.degraded)),
        stages=tuple(map(stage_from_proto, message.stages)),
        language_model=results.LanguageModelUse(
            model=model.model,
            prompt=model.prompt,
            input_token_count=model.input_token_count,
            output_token_count=model.output_token_count,
            price=model.price,
            violations=tuple(model.violations),
            intent=_cost(model.intent),
            reply=_cost(model.reply),
        )
        if message.HasField("language_model")
        else None,
    )


def _cost(message: pb.LanguageModelCost) -> results.LanguageModelCost:
    return results.LanguageModelCost(
        input_token_count=message.input_token_count,
        output_token_count=message.output_token_count,
        price=message.price,
    )
