"""The call of conversations: what is sent, and how it is read, as in `calls`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from google.protobuf.message import DecodeError
from shortlist.v1 import conversation_pb2

from shortlist_client import conversation_responses, conversations
from shortlist_client.call import StreamCall, checked_request_id, own_timeout_s
from shortlist_client.conversations import ConversationState
from shortlist_client.filters import Filter
from shortlist_client.queries import FeatureValue, User
from shortlist_client.requests import exclusions_to_proto, filter_to_proto, query_to_proto
from shortlist_client.values import (
    count,
    invalid,
    optional_flag,
    optional_text,
    optional_texts,
    revision,
    text,
)

TIMEOUT_S = 30.0
"""A language model takes seconds."""


def converse(
    said: str,
    *,
    user: User | str | None = None,
    conversation: str | ConversationState | None = None,
    keep: bool | None = None,
    limit: int | None = None,
    filter: Filter | None = None,  # noqa: A002  # the field's own name
    excluded_filter: Filter | None = None,
    excluded_item_ids: Collection[str] | None = None,
    exclude_seen: bool | None = None,
    attributes: Collection[str] | None = None,
    context: Mapping[str, FeatureValue] | None = None,
    min_revision: int | None = None,
    bundle_label: str | None = None,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> StreamCall[
    conversation_pb2.ConverseRequest, conversation_pb2.ConverseResponse, conversations.TurnPart
]:
    """Return the answer to a turn of a conversation, part by part.

    First an Understanding, then TurnItems, then a ReplyPiece for each piece of the reply, and a
    TurnEnd, whose `conversation` goes into the next turn. The call begins at once and ends with the
    TurnEnd, or when the stream is closed; a turn that was cut off may be sent again.

    Args:
        said: What the user says, in words: 1..2,000 bytes of UTF-8.
        user: His id, or a User. None: somebody of whom nothing is known.
        conversation: That of the TurnEnd before. None: a new one.
        keep: Have the server keep the conversation, and give its id. None: no; the caller keeps
            its state.
        limit: Number of items wanted, 1..20. None: 5.
        filter: Which items may be in the answer, whatever the user says. None: all.
        excluded_filter: Items that must not be in the answer: those that this filter matches.
        excluded_item_ids: Items that must not be in the answer, at most 100,000. None: none.
        exclude_seen: Leave out what the user has seen. None: yes.
        attributes: Names of the item attributes to return; `["*"]` returns all. None: none.
        context: Features of the situation, by the name that the bundle declares under `context.`.
        min_revision: Least revision of the catalogue to answer from. None: none.
        bundle_label: Which of the loaded bundles answers: `stable` or `canary`. None: the server's
            choice.
        timeout_s: Deadline of this call. None: 30 s, not the client's: a language model takes
            seconds.
        request_id: Id of this request in the server's logs and answer, printable ASCII. None: a new
            one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    request = conversation_pb2.ConverseRequest(
        text=text(said, "text"),
        keep=optional_flag(keep, "keep"),
        limit=count(limit, "limit"),
        attributes=optional_texts(attributes, "attributes"),
        filter=filter_to_proto(filter, "filter"),
        exclusions=exclusions_to_proto(
            excluded_item_ids, seen=exclude_seen, filter_=excluded_filter
        ),
        min_revision=revision(min_revision, "min_revision"),
        bundle_label=optional_text(bundle_label, "bundle_label"),
    )
    if user is not None or context:
        request.query.CopyFrom(query_to_proto(None, user, context))
    if isinstance(conversation, ConversationState):
        try:
            request.state.ParseFromString(conversation.data)
        except (DecodeError, TypeError):
            raise invalid("conversation", "the state as it came", conversation) from None
        request.state.SetInParent()
    elif conversation is not None:
        request.conversation_id = text(conversation, "conversation")
    return StreamCall(
        method=lambda stubs: stubs.conversation.Converse,
        request=request,
        read=conversation_responses.part_from_proto,
        request_id=checked_request_id(request_id),
        timeout_s=own_timeout_s(TIMEOUT_S if timeout_s is None else timeout_s),
    )
