"""`shortlist call`: any method of the services, with a request in proto JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Generator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2

from shortlist_client.call import Call, StreamCall, Stubs, checked_request_id
from shortlist_client.cli.command import (
    Output,
    Subparsers,
    add_command,
    add_server,
    json_document,
    json_line,
)
from shortlist_client.cli.connection import open_client
from shortlist_client.errors import InvalidValue

_EPILOG = """\
examples:
  shortlist call GetActiveBundle
  echo '{"query": {"user": {"id": "42"}}, "limit": 3}' | shortlist call Recommend -
  shortlist call Recommend request.json --target 127.0.0.1:8500

The request and the answer are messages of the protos in proto JSON, as over HTTP; of a method with
several answers, each is a line.
"""

_SERVICES = {
    "recommendation": recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"],
    "conversation": conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    "bundle": bundle_pb2.DESCRIPTOR.services_by_name["BundleService"],
    "catalog": catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"],
}
"""By the name that `Stubs` has for them."""

METHODS: dict[str, tuple[str, MethodDescriptor]] = {
    method.name: (stub, method) for stub, service in _SERVICES.items() for method in service.methods
}
"""By name, which is the method's alone among all services."""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "call",
        "METHOD [FILE] [options]",
        "the answer of any method, to a request in JSON",
        _EPILOG,
        run=_call,
    )
    parser.set_defaults(default_timeout_s=30.0)
    parser.add_argument(
        "method", choices=sorted(METHODS), metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="the request; - is standard input (default: an empty request)",
    )
    add_server(parser)


def request_from_json(written: str, message: Message, place: str) -> Any:
    """Fill a message from proto JSON, and return it.

    Raises:
        InvalidValue: It is none, or names a field that there is not.
    """
    try:
        return json_format.Parse(written, message)
    except json_format.ParseError as error:
        raise InvalidValue.about(
            place,
            reason="INVALID_VALUE",
            expected=f"a {message.DESCRIPTOR.name} in JSON",
            got=str(error),
        ) from error


def _call(options: Namespace) -> Output:
    stub, method = METHODS[options.method]
    request = request_from_json(
        _read(options.file), GetMessageClass(method.input_type)(), options.file or "request"
    )

    def of(stubs: Stubs) -> Any:
        return getattr(getattr(stubs, stub), method.name)

    if method.server_streaming:
        return _answers(options, of, request)
    with open_client(options) as client:
        answer: Message = client.send(
            Call(
                method=of,
                request=request,
                read=_as_it_came,
                request_id=checked_request_id(None),
                timeout_s=None,
            )
        )
    return json_document(answer)


def _answers(options: Namespace, of: Any, request: Message) -> Generator[str, None, None]:
    call: StreamCall[Any, Any, Message] = StreamCall(
        method=of,
        request=request,
        read=_as_it_came,
        request_id=checked_request_id(None),
        timeout_s=None,
    )
    with open_client(options) as client, client.begin(call) as answers:
        yield from map(json_line, answers)


def _as_it_came(response: Message) -> Message:
    return response


def _read(file: str | None) -> str:
    if file is None:
        return "{}"
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue.about(
            file, reason="INVALID_VALUE", expected="a file of JSON", got=str(error)
        ) from error
