"""Answers that come one by one, in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

import grpc
import grpc.aio

from shortlist_client.errors import Internal, ShortlistError
from shortlist_client.status import FailedCall

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Responses(Protocol):
    """What a blocking call of many responses offers."""

    def __next__(self) -> Any:
        """Wait for the next response."""
        ...

    def cancel(self) -> object:
        """End the call. Harmless where it has ended."""
        ...


class Stream(Iterator[ResultT_co]):
    """Answers of one call, in the order they arrive. The call has begun, and its deadline runs.

    Closing it ends the call, on the server too; so does the end of a `with` block.

        with client.recommend_batch(requests) as rows:
            for index, answer in rows:
                ...
    """

    def __init__(
        self,
        responses: Responses,
        *,
        read: Callable[[Any], ResultT_co],
        explain: Callable[[FailedCall], ShortlistError],
    ) -> None:
        self._responses = responses
        self._read = read
        self._explain = explain
        self._closed = False

    def __next__(self) -> ResultT_co:
        if self._closed:
            raise StopIteration
        try:
            response = next(self._responses)
        except grpc.RpcError as error:
            if self._closed:
                # By another thread, while this one waited.
                raise StopIteration from None
            self._closed = True
            raise self._explain(cast(FailedCall, error)) from error
        return self._read(response)

    def close(self) -> None:
        """End the call. Again is harmless."""
        self._closed = True
        self._responses.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncStream(AsyncIterator[ResultT_co]):
    """The same for asyncio. Cancelling the task that waits for an answer ends the call too.

    async with client.recommend_batch(requests) as rows:
        async for index, answer in rows:
            ...
    """

    def __init__(
        self,
        call: grpc.aio.UnaryStreamCall[Any, Any],
        *,
        read: Callable[[Any], ResultT_co],
        explain: Callable[[FailedCall], ShortlistError],
        request_id: str,
    ) -> None:
        self._call = call
        self._read = read
        self._explain = explain
        self._request_id = request_id
        self._closed = False

    async def __anext__(self) -> ResultT_co:
        if self._closed:
            raise StopAsyncIteration
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            self._closed = True
            raise self._explain(cast(FailedCall, error)) from error
        if response is grpc.aio.EOF:
            self._closed = True
            raise StopAsyncIteration
        if response is None:
            # What grpc.aio returns for a response that it cannot decode.
            await self.aclose()
            raise Internal(
                "a response cannot be decoded",
                code=grpc.StatusCode.INTERNAL,
                request_id=self._request_id,
            )
        return self._read(response)

    async def aclose(self) -> None:
        """End the call. Again is harmless."""
        self._closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
