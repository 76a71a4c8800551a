"""Calls over HTTP, as one without a library for Connect makes them; and over gRPC, to compare."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

END = 0b10
"""Flag of the envelope that ends a stream."""
TIMINGS = frozenset(
    {"duration", "requestId", "request_id", "budget", "age", "storeAge", "updateTime", "createTime"}
)
"""Fields of answers that differ between two equal calls."""


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason in the ErrorInfo of an error."""
        reason: str = self.json["details"][0]["debug"]["reason"]
        return reason


def post(
    address: str,
    path: str,
    body: Any,
    *,
    method: str = "POST",
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> Reply:
    """Send a request on a connection of its own. Names of headers have _ for -."""
    made = (
        http.client.HTTPConnection(address, timeout=30)
        if tls is None
        else http.client.HTTPSConnection(address, timeout=30, context=tls)
    )
    sent = {"content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        made.request(method, path, body if isinstance(body, bytes) else json.dumps(body), sent)
        answer = made.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())
    finally:
        made.close()


def free_address() -> str:
    """An address on this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def enveloped(message: bytes, flags: int = 0) -> bytes:
    """A message as it stands in a stream."""
    return struct.pack(">BI", flags, len(message)) + message


def messages(body: bytes) -> tuple[list[Any], Any]:
    """Take a stream apart: its messages, and what its end says."""
    found: list[Any] = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        message, body = json.loads(body[5 : 5 + length]), body[5 + length :]
        if flags & END:
            assert not body
            return found, message
        found.append(message)
    raise AssertionError("a stream without an end")


@dataclass(frozen=True)
class Outcome:
    """How a call ended, without what differs between two that are equal."""

    code: str
    message: str = ""
    details: list[Any] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)


def over_http(address: str, path: str, request: Any, **headers: str) -> Outcome:
    """Call a method by proto JSON."""
    asked = json_format.MessageToJson(request).encode()
    if not _descriptor(path).server_streaming:
        reply = post(address, path, asked, **headers)
        if reply.status == 200:
            return Outcome("ok", answers=[without_timings(reply.json)])
        return _failed(reply.json, [])
    headers["content_type"] = "application/connect+json"
    reply = post(address, path, enveloped(asked), **headers)
    assert reply.status == 200
    answers, end = messages(reply.body)
    answers = without_timings(answers)
    return _failed(end["error"], answers) if "error" in end else Outcome("ok", answers=answers)


def over_grpc(channel: grpc.Channel, path: str, request: Any, **headers: str) -> Outcome:
    """Call a method by gRPC."""
    method = _descriptor(path)
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(
        path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    metadata = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    answers: list[Any] = []
    try:
        answer = call(request, timeout=20, metadata=metadata)
        for message in answer if method.server_streaming else [answer]:
            answers += [without_timings(json_format.MessageToDict(message))]
    except grpc.RpcError as error:
        status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        details = [without_timings(_readable(detail)) for detail in status.details]
        return Outcome(error.code().name.lower(), error.details(), details, answers)
    return Outcome("ok", answers=answers)


def _failed(error: Any, answers: list[Any]) -> Outcome:
    details = [without_timings(detail["debug"]) for detail in error["details"]]
    return Outcome(error["code"], error["message"], details, answers)


def _readable(detail: Any) -> Any:
    name = detail.type_url.rpartition("/")[2]
    kind = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    return json_format.MessageToDict(kind.FromString(detail.value))


def _descriptor(path: str) -> Any:
    _, service, name = path.split("/")
    return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]


def without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_timings(held) for name, held in value.items() if name not in TIMINGS}
    return [without_timings(held) for held in value] if isinstance(value, list) else value
