"""The OpenAPI description of the services, made from the protos."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
)
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2

from shortlist_server import __version__

Schema: TypeAlias = dict[str, Any]

FILES = (
    recommendation_pb2.DESCRIPTOR,
    conversation_pb2.DESCRIPTOR,
    catalog_pb2.DESCRIPTOR,
    bundle_pb2.DESCRIPTOR,
)
STREAM_TYPE = "application/connect+json"
STREAMS = (
    "Bodies are Connect's envelopes: a byte of flags and four of length before each JSON object. "
    "The last one, of flag 2, says how the call ended."
)
INT32_MAX, UINT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1
_F = FieldDescriptor
_INT32: Schema = {
    "type": "integer",
    "format": "int32",
    "minimum": -INT32_MAX - 1,
    "maximum": INT32_MAX,
}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": UINT32_MAX}
_INT64: Schema = {
    "type": ["string", "integer"],
    "format": "int64",
    "pattern": "^-?(0|[1-9][0-9]{0,17})$",
    "minimum": -INT64_MAX - 1,
    "maximum": INT64_MAX,
}
_UINT64: Schema = {
    "type": ["string", "integer"],
    "pattern": "^(0|[1-9][0-9]{0,18})$",
    "minimum": 0,
    "maximum": 2 * INT64_MAX + 1,
}
_NUMBER: Schema = {
    "anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]
}
_SCALARS: dict[int, Schema] = {
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_BYTES: {"type": "string", "format": "byte"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_FLOAT: _NUMBER,
    _F.TYPE_DOUBLE: _NUMBER,
    _F.TYPE_INT32: _INT32,
    _F.TYPE_SINT32: _INT32,
    _F.TYPE_SFIXED32: _INT32,
    _F.TYPE_UINT32: _UINT32,
    _F.TYPE_FIXED32: _UINT32,
    _F.TYPE_INT64: _INT64,
    _F.TYPE_SINT64: _INT64,
    _F.TYPE_SFIXED64: _INT64,
    _F.TYPE_UINT64: _UINT64,
    _F.TYPE_FIXED64: _UINT64,
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?s$"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}
_ERROR: Schema = {
    "type": "object",
    "description": "How a call ended that failed.",
    "required": ["code"],
    "properties": {
        "code": {"type": "string", "description": "As of gRPC, in small letters."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "value"],
                "properties": {
                    "type": {"type": "string", "description": "Full name of a message."},
                    "value": {"type": "string", "description": "The message, base64."},
                    "debug": {"description": "The same, to be read."},
                },
            },
        },
    },
}
_PARAMETERS: list[Schema] = [
    {
        "name": "Connect-Timeout-Ms",
        "in": "header",
        "description": "Time that the caller gives the call, in milliseconds.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Id of the request, up to 128 characters; made where it is not sent.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
]


def describe() -> Schema:
    """Return the description, as OpenAPI 3.1."""
    schemas = _Schemas()
    paths = {
        f"/{service.full_name}/{method.name}": {"post": _operation(method, schemas)}
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shortlist",
            "version": __version__,
            "summary": "Recommendations over HTTP: the services of the protos, by proto JSON.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.made, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        # A key where the server asks for keys, and none where it does not.
        "security": [{"key": []}, {}],
    }


class _Schemas:
    """Schemas of messages and enums, each made when it is first referred to."""

    def __init__(self) -> None:
        self.made: dict[str, Schema] = {}

    def of(self, kind: Descriptor | EnumDescriptor) -> Schema:
        """Return a reference to the schema of a message or an enum."""
        name = kind.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name not in self.made:
            self.made[name] = {}  # before its fields: a message may hold itself
            made = _enum(kind) if isinstance(kind, EnumDescriptor) else self._message(kind)
            self.made[name] = {**_comment(name), **made}
        return {"$ref": f"#/components/schemas/{name}"}

    def _message(self, message: Descriptor) -> Schema:
        made: Schema = {
            "type": "object",
            "properties": {
                field.json_name: {**self._field(field), **_comment(field.full_name)}
                for field in message.fields
            },
            "additionalProperties": False,
        }
        # At most one field of each oneof; `optional` makes one of a single field.
        for group in message.oneofs:
            names = [field.json_name for field in group.fields]
            pairs = [[one, other] for i, one in enumerate(names) for other in names[i + 1 :]]
            if pairs:
                made.setdefault("allOf", []).append(
                    {"not": {"anyOf": [{"required": pair} for pair in pairs]}}
                )
        return made

    def _field(self, field: FieldDescriptor) -> Schema:
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            values = self._value(message.fields_by_name["value"])
            return {"type": "object", "additionalProperties": values}
        if _repeats(field):
            return {"type": "array", "items": self._value(field)}
        return self._value(field)

    def _value(self, field: FieldDescriptor) -> Schema:
        kind = field.message_type or field.enum_type
        return dict(_SCALARS[field.type]) if kind is None else dict(self.of(kind))


def _repeats(field: FieldDescriptor) -> bool:
    # protobuf before 6.31 has the label alone, and later ones warn of it.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(getattr(field, "label") == FieldDescriptor.LABEL_REPEATED)  # noqa: B009  # not in the stubs


def _enum(enum: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in enum.values]}


def _operation(method: MethodDescriptor, schemas: _Schemas) -> Schema:
    streams = method.server_streaming
    refused = {
        "description": "The call failed.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    asked, answered = schemas.of(method.input_type), schemas.of(method.output_type)
    described = _comment(method.full_name)
    if streams:
        described["description"] = f"{described.get('description', '')} {STREAMS}".strip()
    kind = STREAM_TYPE if streams else "application/json"
    return {
        "operationId": f"{method.containing_service.name}_{method.name}",
        "tags": [method.containing_service.name],
        **described,
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": {kind: {"schema": asked}}},
        "responses": {
            "200": {"description": "The answer.", "content": {kind: {"schema": answered}}},
            **({} if streams else {"default": refused}),
        },
    }


def _comment(name: str) -> Schema:
    comment = _comments().get(name)
    return {} if comment is None else {"description": comment}


@cache
def _comments() -> dict[str, str]:
    """Return the comments of the protos, by full name; the stubs do not have them."""
    text = (resources.files("shortlist.v1") / "comments.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found
