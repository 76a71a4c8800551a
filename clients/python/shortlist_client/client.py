"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, cast

import grpc

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
    is_connected,
    sent_metadata,
)
from shortlist_client.errors import ShortlistError
from shortlist_client.status import FailedCall, error_from_call
from shortlist_client.streams import Responses, Stream

P = ParamSpec("P")


def _blocking(
    build: Callable[P, Call[RequestT, ResponseT, ResultT]],
) -> Callable[Concatenate[Client, P], ResultT]:
    @presented_as(build)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        return self._send(build(*args, **kwargs))

    return method


def _streaming(
    build: Callable[P, StreamCall[RequestT, ResponseT, ResultT]],
) -> Callable[Concatenate[Client, P], Stream[ResultT]]:
    @presented_as(build)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Stream[ResultT]:
        return self._begin(build(*args, **kwargs))

    return method


class Client:
    """Calls a Shortlist server and waits for its answers.

    Safe to share between threads; one per process is enough. Not to be carried over a fork.

        with Client("127.0.0.1:8500") as client:
            for item in client.recommend(user="42", limit=10).items:
                print(item.id, item.score)

    Args:
        target: `host:port`, or any name that gRPC resolves (`dns:///shortlist.default.svc:8500`).
            Calls go in turn to all addresses behind it.
        timeout_s: Deadline of a call that names none, retries included. The server plans with it:
            it is the budget of the whole funnel.
        tls: None or False: plain text. True: TLS, trusting the public authorities.
        api_key: `sl_...`; sent with every call.
        allow_plaintext_key: Send the key in plain text to other machines, too: where something else
            encrypts.
        metadata: Sent with every call, for whatever stands between. Names in lower case.
        channel_options: gRPC channel arguments, over the client's own.

    Raises:
        InvalidValue: The key cannot be sent, or would be in plain text to another machine.
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
        options = checked_tls(tls)
        self._metadata = sent_metadata(
            metadata,
            api_key=api_key,
            target=target,
            tls=options,
            allow_plaintext_key=allow_plaintext_key,
        )
        self._channel = _open_channel(target, options, channel_options)
        self._stubs = Stubs(self._channel)
        self._closed = False

    recommend = _blocking(calls.recommend)
    stream_recommend = _streaming(stream_calls.stream_recommend)
    recommend_batch = _streaming(stream_calls.recommend_batch)
    converse = _streaming(conversation_calls.converse)
    retrieve = _blocking(calls.retrieve)
    rank = _blocking(calls.rank)
    find_similar_items = _blocking(calls.find_similar_items)
    get_active_bundle = _blocking(calls.get_active_bundle)
    get_catalog_stats = _blocking(calls.get_catalog_stats)
    list_bundles = _blocking(bundle_calls.list_bundles)
    activate_bundle = _blocking(bundle_calls.activate_bundle)
    roll_back_bundle = _blocking(bundle_calls.roll_back_bundle)
    deactivate_bundle = _blocking(bundle_calls.deactivate_bundle)
    upsert_items = _blocking(catalog_calls.upsert_items)
    delete_items = _blocking(catalog_calls.delete_items)
    get_item = _blocking(catalog_calls.get_item)

    def close(self) -> None:
        """Close the connection, and fail the calls that still wait. Again is harmless."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: Call[RequestT, ResponseT, ResultT]) -> ResultT:
        options = self._options(call)
        try:
            response = call.method(self._stubs)(call.request, **options)
        except grpc.RpcError as error:
            raise self._explain(cast(FailedCall, error), call) from error
        return call.read(response)

    def _begin(self, call: StreamCall[RequestT, ResponseT, ResultT]) -> Stream[ResultT]:
        responses = call.method(self._stubs)(call.request, **self._options(call))
        return Stream(
            cast(Responses, responses),
            read=call.read,
            explain=partial(self._explain, call=call),
        )

    def _options(self, call: AnyCall) -> dict[str, Any]:
        if self._closed:
            raise RuntimeError("the client is closed")
        return {
            "timeout": self._timeout_of(call),
            "metadata": (*self._metadata, ("x-request-id", call.request_id)),
        }

    def _timeout_of(self, call: AnyCall) -> float:
        return self._timeout_s if call.timeout_s is None else call.timeout_s

    def _explain(self, error: FailedCall, call: AnyCall) -> ShortlistError:
        return error_from_call(
            error,
            target=self._target,
            timeout_s=self._timeout_of(call),
            request_id=call.request_id,
            is_connected=partial(is_connected, self._channel),
        )


def _open_channel(
    target: str, tls: TlsOptions | None, overrides: Mapping[str, str | int] | None
) -> grpc.Channel:
    options = channel_options(overrides)
    if tls is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials(tls), options)
