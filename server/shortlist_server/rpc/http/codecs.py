"""How messages stand in the bodies of HTTP: as proto JSON, or in the binary format."""

from __future__ import annotations

from typing import Any

from connectrpc.codec import Codec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message


class JsonCodec(Codec[Any, Any]):
    """Proto JSON, compact. What is not known is refused, where the binary format skips it: who
    writes JSON by hand and misspells a field would otherwise be answered as if it were not there.
    """

    def name(self) -> str:
        """Return the name in content types."""
        return "json"

    def encode(self, message: Message) -> bytes:
        """Return a message as UTF-8."""
        return json_format.MessageToJson(message, indent=None).encode()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Any:
        """Return the message, or the DecodeError; raised, the call would end before it is counted
        and logged.
        """
        try:
            text = bytes(data).decode()
            # json_format takes a list without a word for an empty message.
            if not text.lstrip(" \t\r\n").startswith("{"):
                return DecodeError("a body that is no JSON object")
            return json_format.Parse(text, message_class())
        except (json_format.ParseError, ValueError, RecursionError) as error:
            # A lone surrogate is JSON, and cannot be sent back.
            shown = str(error).encode(errors="backslashreplace").decode()
            return DecodeError(" ".join(shown.split()))


class BinaryCodec(Codec[Any, Any]):
    """Protocol Buffers."""

    def name(self) -> str:
        """Return the name in content types."""
        return "proto"

    def encode(self, message: Message) -> bytes:
        """Return a message as bytes."""
        return message.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Any:
        """Return the message, or the DecodeError, as `JsonCodec` does."""
        try:
            return message_class.FromString(bytes(data))
        except DecodeError as error:
            return error
