"""The asyncio client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, cast

import grpc
import grpc.aio

from shortlist_client import bundle_calls, calls, catalog_calls, conversation_calls, stream_calls
from shortlist_client.call import (
    AnyCall,
    Call,
    RequestT,
    ResponseT,
    ResultT,
    StreamCall,
    Stubs,
    checked_timeout_s,
    presented_as,
)
from shortlist_client.connection import (
    TlsOptions,
    channel_options,
    checked_tls,
    credentials,
    sent_metadata,
)
from shortlist_client.errors import Internal, ShortlistError
from shortlist_client.status import FailedCall, error_from_call
from shortlist_client.streams import AsyncStream

P = ParamSpec("P")


def _awaited(
    build: Callable[P, Call[RequestT, ResponseT, ResultT]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, ResultT]]:
    @presented_as(build)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        return await self._send(build(*args, **kwargs))

    return method


def _streaming(
    build: Callable[P, StreamCall[RequestT, ResponseT, ResultT]],
) -> Callable[Concatenate[AsyncClient, P], AsyncStream[ResultT]]:
    @presented_as(build)
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[ResultT]:
        return self._begin(build(*args, **kwargs))

    return method


class AsyncClient:
    """Calls a Shortlist server from asyncio. Its methods are those of `Client`, to be awaited; its
    streams are for `async for`.

    One per event loop is enough: calls share the connection. It belongs to the loop of its first
    call. Cancelling a call cancels it on the server too.

        async with AsyncClient("127.0.0.1:8500") as client:
            answer = await client.recommend(user="42", limit=10)

    Args:
        target: As for `Client`, like all that follows.
        timeout_s: Deadline of a call that names none.
        tls: None or False: plain text. True: TLS, trusting the public authorities.
        api_key: Sent with every call.
        allow_plaintext_key: Send it in plain text to other machines, too.
        metadata: Sent with every call.
        channel_options: gRPC channel arguments, over the client's own.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 1.0,
        tls: TlsOptions | bool | None = None,
        api_key: str | None = None,
        allow_plaintext_key: bool = False,
        metadata: Mapping[str, str | bytes] | None = None,
        channel_options: Mapping[str, str | int] | None = None,
    ) -> None:
        self._target = target
        self._timeout_s = checked_timeout_s(timeout_s)
        self._tls = checked_tls(tls)
        self._metadata = sent_metadata(
            metadata,
            api_key=api_key,
            target=target,
            tls=self._tls,
            allow_plaintext_key=allow_plaintext_key,
        )
        self._overrides = channel_options
        self._channel: grpc.aio.Channel | None = None
        self._stubs: Stubs | None = None
        self._closed = False

    recommend = _awaited(calls.recommend)
    stream_recommend = _streaming(stream_calls.stream_recommend)
    recommend_batch = _streaming(stream_calls.recommend_batch)
    converse = _streaming(conversation_calls.converse)
    retrieve = _awaited(calls.retrieve)
    rank = _awaited(calls.rank)
    find_similar_items = _awaited(calls.find_similar_items)
    get_active_bundle = _awaited(calls.get_active_bundle)
    get_catalog_stats = _awaited(calls.get_catalog_stats)
    list_bundles = _awaited(bundle_calls.list_bundles)
    activate_bundle = _awaited(bundle_calls.activate_bundle)
    roll_back_bundle = _awaited(bundle_calls.roll_back_bundle)
    deactivate_bundle = _awaited(bundle_calls.deactivate_bundle)
    upsert_items = _awaited(catalog_calls.upsert_items)
    delete_items = _awaited(catalog_calls.delete_items)
    get_item = _awaited(catalog_calls.get_item)

    async def close(self) -> None:
        """Close the connection, and fail the calls that still wait. Again is harmless."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call[RequestT, ResponseT, ResultT]) -> ResultT:
        options = self._options(call)
        # The generated stubs hold what the channel gives them, here asyncio's kind; their types
        # know only the other.
        method = cast(
            "grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT]",
            call.method(self._open_stubs()),
        )
        try:
            response = await method(call.request, **options)
        except grpc.RpcError as error:
            raise self._explain(cast(FailedCall, error), call) from error
        if response is None:
            # What grpc.aio returns for a response that it cannot decode; its blocking sibling
            # fails with INTERNAL, and so do we.
            raise Internal(
                "the response cannot be decoded",
                code=grpc.StatusCode.INTERNAL,
                request_id=call.request_id,
            )
        return call.read(response)

    def _begin(self, call: StreamCall[RequestT, ResponseT, ResultT]) -> AsyncStream[ResultT]:
        options = self._options(call)
        method = cast(
            "grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT]",
            call.method(self._open_stubs()),
        )
        return AsyncStream(
            method(call.request, **options),
            read=call.read,
            explain=partial(self._explain, call=call),
            request_id=call.request_id,
        )

    def _options(self, call: AnyCall) -> dict[str, Any]:
        if self._closed:
            raise RuntimeError("the client is closed")
        return {
            "timeout": self._timeout_of(call),
            "metadata": grpc.aio.Metadata(*self._metadata, ("x-request-id", call.request_id)),
        }

    def _timeout_of(self, call: AnyCall) -> float:
        return self._timeout_s if call.timeout_s is None else call.timeout_s

    def _explain(self, error: FailedCall, call: AnyCall) -> ShortlistError:
        return error_from_call(
            error,
            target=self._target,
            timeout_s=self._timeout_of(call),
            request_id=call.request_id,
            is_connected=self._is_connected,
        )

    def _is_connected(self) -> bool:
        state = grpc.ChannelConnectivity.SHUTDOWN
        if self._channel is not None and not self._closed:
            state = self._channel.get_state()
        return state is grpc.ChannelConnectivity.READY

    def _open_stubs(self) -> Stubs:
        # Not in the constructor: a channel binds itself to the event loop that runs when it is
        # made, and clients are often made before there is one.
        if self._stubs is None:
            self._channel = _open_channel(self._target, self._tls, self._overrides)
            self._stubs = Stubs(self._channel)
        return self._stubs


def _open_channel(
    target: str, tls: TlsOptions | None, overrides: Mapping[str, str | int] | None
) -> grpc.aio.Channel:
    options = channel_options(overrides)
    if tls is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials(tls), options)
