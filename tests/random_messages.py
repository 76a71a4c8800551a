"""Random messages of any protobuf type, from its descriptor, and bytes that nearly are some.

Most fields hold what the tiny world knows, so that a good share of the requests is answered; the
others hold the extremes of their type.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import tiny_world
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from shortlist.v1 import conversation_pb2 as conversation
from shortlist.v1 import types_pb2 as types

TEXTS = (
    *("", "x", "é", "\0", "i1\0", "💥", "\u202eabc", "'; --", "*", "i" * 256, "é" * 129, "%s%n"),
    *("../../etc/passwd", "user.age", "a" * 5_000),
)
FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf"), 1e-45, 1e38, -1e38),
    *(1e15, 1.1e15, 1e300, -1e300, 1e308, 5e-324),
)
WIDTHS = {"INT32": (31, True), "INT64": (63, True), "UINT32": (32, False), "UINT64": (64, False)}
WIDTHS |= dict.fromkeys(("SINT32", "SFIXED32", "ENUM"), (31, True))
WIDTHS |= dict.fromkeys(("SINT64", "SFIXED64"), (63, True))
WIDTHS |= {"FIXED32": (32, False), "FIXED64": (64, False)}
SCALARS = {"year": "int64_value", "title": "string_value", "genres": "string_value"}
LISTS = {"year": "int64_list", "title": "string_list", "genres": "string_list"}
KIND_NAMES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_")
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}
PARTS_MAX = 3_000
"""Messages that one request is made of, at most."""


class RandomMessages:
    """Makes messages. `wildness` is the share of fields that hold anything at all."""

    def __init__(self, draw: random.Random, wildness: float) -> None:
        self._draw = draw
        self._wildness = wildness
        self._parts = 0
        self._hints: dict[str, Callable[[], Any]] = {
            "item_id": self._item,
            "item_ids": self._item,
            **dict.fromkeys(("excluded_item_ids", "shown_item_ids"), self._item),
            **dict.fromkeys(("liked_item_ids", "rejected_item_ids"), self._item),
            "min_revision": lambda: int(draw.random() < 0.02),
            "limit": lambda: draw.choice((0, 1, 3, 10, 60, 500)),
            "candidate_count": lambda: draw.choice((0, 0, 60, 500)),
            "event_count": lambda: draw.choice((0, 1, 10)),
            "ef": lambda: draw.choice((0, 0, 1, 50, 4096)),
            "exact": lambda: draw.random() < 0.2,
            "strict": lambda: draw.random() < 0.1,
            "attributes": lambda: draw.choice(("title", "year", "genres", "*", "nowhere")),
            "attribute": lambda: draw.choice(("title", "year", "genres")),
            "feature": lambda: draw.choice(("user.segment", "context.hour", "")),
            "passes": lambda: draw.choice((0, 1, 2)),
            "action": lambda: draw.choice(("", "view", "like")),
            "nanos": lambda: draw.randrange(10**9),
            "rating": lambda: draw.uniform(0, 5),
            "diversity": lambda: draw.choice((0.0, 0.3, 1.0)),
            "score_min": lambda: draw.choice((-1e9, 0.0)),
            "temperature": lambda: draw.choice((0.0, 0.5, 1e6)),
            "item_count_max": lambda: draw.choice((1, 2, 500)),
            "position": lambda: draw.randrange(3),
            "name": lambda: draw.choice(("", "a", "b", "nearest", "popularity")),
            "bundle_label": lambda: draw.choice(("",) * 8 + ("stable", "stable", "canary", "blue")),
            "service": lambda: draw.choice(("", "shortlist.v1.RecommendationService")),
        }

    def of(self, descriptor: Descriptor) -> Message:
        """Return a message of a type."""
        self._parts = 0
        made = GetMessageClass(descriptor)()
        self._fill(made, 0)
        return made

    def _wild(self) -> bool:
        return self._draw.random() < self._wildness

    def _item(self) -> str:
        return f"i{self._draw.randrange(tiny_world.ITEM_COUNT + 2)}"

    def _fill(self, message: Message, depth: int) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            return
        special = getattr(self, f"_fill_{message.DESCRIPTOR.name}", None)
        if special is not None and not self._wild():
            special(message, depth)
            return
        descriptor = message.DESCRIPTOR
        chosen = {oneof.name: self._draw.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            oneof = field.containing_oneof
            if oneof is not None and chosen[oneof.name] != field.name:
                continue
            required = oneof is not None or field.name in ("query", "item_id", "request")
            share = 0.98 if required else 0.6 / (1 + depth) if field.message_type else 0.4
            if self._draw.random() < share:
                self._set(message, field, depth)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        name, inner = field.name, field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            held = getattr(message, name)
            for _ in range(self._count(field)):
                key = self._key(name)
                value = inner.fields_by_name["value"]
                if value.message_type is None:
                    held[key] = self._scalar(value)
                else:
                    self._fill_value_of(held[key], key, depth)
        elif field.is_repeated:
            held = getattr(message, name)
            for _ in range(self._count(field)):
                if inner is None:
                    held.append(self._scalar(field))
                else:
                    self._fill(held.add(), depth + 1)
        elif inner is not None:
            getattr(message, name).SetInParent()
            self._fill(getattr(message, name), depth + 1)
        else:
            setattr(message, name, self._scalar(field))

    def _count(self, field: FieldDescriptor) -> int:
        if self._wild():
            return self._draw.choice((0, 1, 17, 101, 257, 1_025))
        if field.name == "requests":
            return self._draw.choice((1, 2, 4, 8))
        return self._draw.choice((0, 1, 1, 2, 3, 5))

    def _key(self, name: str) -> str:
        if self._wild():
            return self._draw.choice(TEXTS)
        return self._draw.choice(
            {
                "context": ("hour",),
                "features": ("age", "segment"),
                "output_weights": ("rating", "like"),
            }.get(name, TEXTS)
        )

    def _scalar(self, field: FieldDescriptor) -> Any:
        hint = self._hints.get(field.name)
        if hint is not None and not self._wild():
            return hint()
        kind = KIND_NAMES[field.type]
        if kind == "BOOL":
            return self._draw.random() < 0.5
        if kind in ("DOUBLE", "FLOAT"):
            wild = self._wild() or self._draw.random() < 0.02
            number = self._draw.choice(FLOATS) if wild else self._draw.uniform(-2, 2)
            return number if kind == "DOUBLE" or abs(number) < 3e38 else float("inf")
        if kind == "STRING":
            return self._draw.choice(TEXTS)
        if kind == "BYTES":
            return self._draw.randbytes(self._draw.randrange(20))
        bits, signed = WIDTHS[kind]
        low, high = (-(2**bits) if signed else 0), 2**bits - 1
        return self._draw.choice((low, low + signed, 0, 1, 2, 60, high - 1, high))

    # What a field by itself does not say.

    def _fill_UserQuery(self, user: types.UserQuery, depth: int) -> None:  # noqa: N802
        user.id = self._draw.choice(("", "nobody", *(f"u{row}" for row in range(12))))
        for name in ("features", "history"):
            if self._draw.random() < 0.4:
                self._set(user, user.DESCRIPTOR.fields_by_name[name], depth)

    def _fill_ConverseRequest(self, message: conversation.ConverseRequest, depth: int) -> None:  # noqa: N802
        message.text = self._draw.choice((*("Films", "a comedy\n") * 30, *TEXTS))
        message.limit = self._draw.choice((0, 1, 3, 20))
        message.keep = self._draw.random() < 0.3
        if self._draw.random() < 0.9:
            self._fill_UserQuery(message.query.user, depth)
        shares = {"state": 0.4, "filter": 0.1, "exclusions": 0.2, "conversation_id": 0.05}
        for name, share in shares.items():
            if self._draw.random() < share:
                self._set(message, message.DESCRIPTOR.fields_by_name[name], depth)

    def _fill_AttributeCondition(  # noqa: N802
        self, message: conversation.AttributeCondition, depth: int
    ) -> None:
        message.attribute = self._draw.choice(("title", "year", "genres", "nowhere"))
        message.comparison = self._draw.randrange(1, 5)  # type: ignore[assignment]
        for _ in range(self._draw.choice((1, 1, 3))):
            self._fill_value_of(message.values.add(), message.attribute, depth)

    def _fill_Embedding(self, embedding: types.Embedding, depth: int) -> None:  # noqa: N802
        embedding.values.extend(
            self._draw.uniform(-2, 2) for _ in range(tiny_world.DIMENSION - self._wild())
        )

    def _fill_EqualsCondition(self, message: types.EqualsCondition, depth: int) -> None:  # noqa: N802
        message.attribute = self._draw.choice(("title", "year"))
        self._fill_value_of(message.value, message.attribute, depth)

    def _fill_ContainsCondition(self, message: types.ContainsCondition, depth: int) -> None:  # noqa: N802
        message.attribute = "genres"
        self._fill_value_of(message.value, "genres", depth)

    def _fill_InCondition(self, message: types.InCondition, depth: int) -> None:  # noqa: N802
        message.attribute = self._draw.choice(("title", "year"))
        held = getattr(message.values, LISTS[message.attribute]).values
        for _ in range(self._draw.choice((1, 2, 30))):
            one = types.Value()
            self._fill_value_of(one, message.attribute, depth)
            value = getattr(one, SCALARS[message.attribute])
            held.append(value)

    def _fill_RangeCondition(self, message: types.RangeCondition, depth: int) -> None:  # noqa: N802
        message.attribute = self._draw.choice(("title", "year"))
        for bounds in (("at_least", "above"), ("at_most", "below")):
            self._fill_value_of(
                getattr(message, self._draw.choice(bounds)), message.attribute, depth
            )

    def _fill_FilterList(self, message: types.FilterList, depth: int) -> None:  # noqa: N802
        for _ in range(self._draw.choice((1, 1, 2, 3)) if depth < 40 else 0):
            self._fill(message.filters.add(), depth + 1)

    def _fill_value_of(self, value: types.Value, name: str, depth: int) -> None:
        """Fill a value of the type that a feature or an attribute has."""
        if self._wild():
            self._fill(value, depth + 1)
        elif name in ("hour", "year"):
            value.int64_value = self._draw.choice((0, 12, 1985, 2000, -(2**63), 2**63 - 1))
        elif name == "age":
            value.double_value = self._draw.choice((20.5, 1e300, -1e15, 0.0))
        elif name == "genres":
            value.string_value = self._draw.choice((*tiny_world.GENRES, "", "é"))
        else:
            value.string_value = self._draw.choice(("new", "old", "Film 3 é", *TEXTS))


def nearly(data: bytes, draw: random.Random) -> bytes:
    """Return bytes that are a message with a fault, or none at all."""
    held = bytearray(data)
    at = draw.randrange(len(held) + 1)
    match draw.randrange(9):
        case 0:
            return draw.randbytes(draw.choice((0, 1, 5, 60, 1_000)))
        case 1:
            for _ in range(min(len(held), draw.choice((1, 2, 10)))):
                held[draw.randrange(len(held))] = draw.randrange(256)
        case 2:
            del held[at:]
        case 3:
            held[at:at] = draw.randbytes(draw.randint(1, 9))
        case 4:
            held += held[at:]
        case 5:  # a length that is longer than all there is
            held += b"\x0a" + draw.choice((b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\x7f"))
        case 6:  # fields that nobody knows, which a message may have
            held += b"\xfa\xff\xff\x0f\x03abc" + b"\xf8\x7f\x01" + b"\xfb\x7f\xfc\x7f"
        case 7:  # a message in a message in a message
            inner = b""
            for _ in range(draw.choice((16, 99, 101, 3_000))):
                tag = draw.choice((b"\x0a", b"\x42", b"\x1a"))
                inner = tag + _varint(len(inner)) + inner
            held += inner
        case _:
            held += draw.choice((b"\x0a\x02\xff\xfe", b"\x2a\x01\xc3", b"\0" * 9, b"\x0b" * 200))
    return bytes(held)


def _varint(number: int) -> bytes:
    held = b""
    while number > 127:
        held += bytes([number & 127 | 128])
        number >>= 7
    return held + bytes([number])
