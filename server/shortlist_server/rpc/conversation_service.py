"""ConversationService: check, convert, dialogue, convert."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc
from shortlist.v1 import conversation_pb2 as pb
from shortlist.v1 import conversation_pb2_grpc

from shortlist_server.conversation.attributes import Attributes, attributes_of
from shortlist_server.conversation.dialogue import Dialogue, Ended, Found, Part, Understood
from shortlist_server.conversation.kept import KeptConversations, new_id
from shortlist_server.conversation.reply import Piece
from shortlist_server.conversation.state import Conversation
from shortlist_server.errors import ConversationNotFound, NotConfigured
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query
from shortlist_server.observability.current_call import current_request_id
from shortlist_server.rpc import check_conversation, convert_conversation
from shortlist_server.rpc.access import current_caller
from shortlist_server.rpc.generations import Generations
from shortlist_server.rpc.snapshot import Snapshot, snapshot_of
from shortlist_server.rpc.write_answer import write_answer
from shortlist_server.runtime.compute import ComputePool

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
GENERATIONS_MAX = 4
"""Bundles whose attributes are remembered."""


class ConversationService(conversation_pb2_grpc.ConversationServiceServicer):
    """Answers each turn from one snapshot."""

    def __init__(
        self,
        *,
        generations: Callable[[], Generations],
        compute: ComputePool,
        dialogue: Dialogue,
        kept: KeptConversations | None,
        default_timeout_s: float,
        observe: Callable[[Answer, str], None] | None = None,
        observe_turn: Callable[[Understood, Ended], None] | None = None,
    ) -> None:
        """Take what turns are answered from, and who answers them.

        Args:
            generations: Returns what a turn that arrives now is answered from.
            compute: Where the funnel runs.
            dialogue: Understands and replies.
            kept: The conversations that the server keeps; None where it keeps none.
            default_timeout_s: Budget of turns without a deadline.
            observe: Told of each answer of the funnel, and of the label of its bundle.
            observe_turn: Told of each turn that has ended.
        """
        self._generations = generations
        self._compute = compute
        self._dialogue = dialogue
        self._kept = kept
        self._default_timeout_s = default_timeout_s
        self._observe = observe
        self._observe_turn = observe_turn
        self._attributes: dict[str, Attributes] = {}

    async def Converse(
        self, request: pb.ConverseRequest, context: Context
    ) -> AsyncIterator[pb.ConverseResponse]:
        """Answer one turn."""
        remaining = context.time_remaining()
        budget = Budget(self._default_timeout_s if remaining is None else remaining)
        check_conversation.converse_request(request)
        conversation = await self._conversation(request)
        at = await self._snapshot(request, budget)

        async def ask_funnel(query: Query, options: Options) -> Answer:
            compute = self._compute.of(waits=at.funnel.waits(query, options))
            return await compute(at.funnel.recommend, query, options, budget)

        parts = self._dialogue.turn(
            convert_conversation.turn(request),
            conversation,
            catalog=at.catalog,
            attributes=self._attributes_of(at),
            ask_funnel=ask_funnel,
            has_texts=at.funnel.has_texts,
            budget=budget,
        )
        understood: Understood | None = None
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Understood):
                    understood = part
                message = self._message(part, at, budget)
                if isinstance(part, Ended):
                    await self._keep(request, part.conversation, message.end)
                    if self._observe_turn is not None and understood is not None:
                        self._observe_turn(understood, part)
                yield message

    def _message(self, part: Part, at: Snapshot, budget: Budget) -> pb.ConverseResponse:
        message = pb.ConverseResponse()
        match part:
            case Understood():
                convert_conversation.fill_understanding(part.intent, message.understanding)
            case Found():
                message.items.SetInParent()
                last = write_answer(at, part.answer, part.options, budget, message.items)
                if self._observe is not None:
                    stages = (*part.answer.stages, last)
                    self._observe(replace(part.answer, stages=stages), at.label)
            case Piece():
                message.reply.text, message.reply.replaces = part.text, part.replaces
            case Ended():
                convert_conversation.fill_end(part, message.end)
        return message

    async def _conversation(self, request: pb.ConverseRequest) -> Conversation:
        """Return what came of the turns before.

        Raises:
            ConversationNotFound: the server keeps none of this id for this caller.
            NotConfigured: it keeps none at all.
        """
        kind = request.WhichOneof("conversation")
        if kind == "state":
            return convert_conversation.conversation(request.state)
        if kind is None and not request.keep:
            return Conversation()
        if self._kept is None:
            raise NotConfigured(
                setting="conversation.count_max",
                expected="1 or more, and state_dir where there are workers, to keep conversations",
            )
        if kind is None:
            return Conversation()
        state = await self._kept.find(request.conversation_id, _caller())
        if state is None:
            raise ConversationNotFound(request.conversation_id)
        return convert_conversation.conversation(pb.ConversationState.FromString(state))

    async def _keep(
        self, request: pb.ConverseRequest, conversation: Conversation, end: pb.TurnEnd
    ) -> None:
        """Keep a conversation, or give it to the caller to keep."""
        state = pb.ConversationState()
        convert_conversation.fill_state(conversation, state)
        if self._kept is None or not (request.keep or request.conversation_id):
            end.state.CopyFrom(state)
            return
        conversation_id = request.conversation_id or new_id()
        try:
            await self._kept.keep(conversation_id, _caller(), state.SerializeToString())
        except Exception:
            # The turn is answered, and was paid for.
            logger.exception("a conversation could not be kept; its caller keeps it")
            end.state.CopyFrom(state)
            return
        end.conversation_id = conversation_id
        end.expire_time.FromNanoseconds(time.time_ns() + int(self._kept.options.ttl_s * 1e9))

    async def _snapshot(self, request: pb.ConverseRequest, budget: Budget) -> Snapshot:
        label, serving = self._generations().choose(
            label=request.bundle_label,
            user_id=request.query.user.id,
            request_id=current_request_id.get(),
        )
        at = await snapshot_of(serving, request.min_revision, budget)
        return at if at.label == label else replace(at, label=label)

    def _attributes_of(self, at: Snapshot) -> Attributes:
        """Return the attributes of a bundle's items, as a sample of them was when it was first
        asked for: types never change, and values that came later need not be named.
        """
        known = self._attributes
        if (found := known.get(at.identity.sha256)) is None:
            while len(known) >= GENERATIONS_MAX:
                del known[next(iter(known))]
            found = known[at.identity.sha256] = attributes_of(at.catalog)
        return found


def _caller() -> str:
    """Return whose conversations a call may reach: its key's; where there are no keys, all."""
    key = current_caller.get()
    return "" if key is None else key.name
