"""Python values to and from the wire, refused by name where the wire cannot hold them.

The server checks what a request means. Checked here is only what would never reach it, or would
reach it as something else: another type, an integer beyond its bits, a time without a zone.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import types_pb2

from shortlist_client.errors import InvalidValue, OutOfRange

AttributeValue: TypeAlias = (
    str
    | int
    | float
    | bool
    | tuple[str, ...]
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[bool, ...]
)
"""A typed value of an item attribute."""

_INT32_MAX = 2**31 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# The years 1 to 9999, all that a Timestamp may hold.
_TIME_S_MIN, _TIME_S_MAX = -62_135_596_800, 253_402_300_799
# 10,000 years, all that a Duration may hold.
_DURATION_S_MAX = 315_576_000_000


def value_to_proto(value: object, field: str) -> types_pb2.Value:
    """Return the Value of a str, bool, int, float, or of a list or tuple of one of them.

    An empty list shows no type, and is sent as a list of strings.

    Raises:
        InvalidValue: The value is of another type, a list mixes types, or a number is not finite.
        OutOfRange: An integer has more than 64 bits.
    """
    if isinstance(value, list | tuple):
        return _list_to_proto(value, field)
    if isinstance(value, str):
        return types_pb2.Value(string_value=text(value, field))
    # Before int: a bool is an int to Python, but not to the server.
    if isinstance(value, bool):
        return types_pb2.Value(bool_value=value)
    if isinstance(value, int | numbers.Integral):
        return types_pb2.Value(int64_value=int64(value, field))
    if isinstance(value, float | numbers.Real):
        return types_pb2.Value(double_value=number(value, field))
    raise invalid(field, "a str, bool, int, float, or a list of one of them", value)


def value_from_proto(value: types_pb2.Value) -> AttributeValue | None:
    """Return the Python value, or None where it is of a kind that this version does not know."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    inner = getattr(value, kind)
    plain: AttributeValue = tuple(inner.values) if kind.endswith("_list") else inner
    return plain


def time_to_proto(time: object, field: str) -> Timestamp:
    """Return the Timestamp of an aware datetime or of seconds since 1970, to the microsecond.

    Raises:
        InvalidValue: It is neither, or the datetime has no time zone.
        OutOfRange: It is not in the years 1 to 9999.
    """
    if isinstance(time, datetime):
        # Taking the machine's zone, as `datetime.timestamp` does, would send another time from
        # every machine.
        if time.utcoffset() is None:
            raise InvalidValue.about(
                field,
                reason="INVALID_VALUE",
                expected="a datetime with a time zone (datetime.now(UTC)), or seconds since 1970",
                got=f"datetime {time.isoformat()} without one",
            )
        timestamp = Timestamp()
        timestamp.FromDatetime(time.astimezone(UTC).replace(tzinfo=None))
        return timestamp
    seconds = number(time, field)
    if not _TIME_S_MIN <= seconds <= _TIME_S_MAX:
        raise _out_of_range(field, "a time in the years 1 to 9999, in seconds since 1970", time)
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return Timestamp(seconds=whole, nanos=microseconds * 1_000)


def duration_to_proto(seconds: object, field: str) -> Duration:
    """Return the message of a time span.

    Args:
        seconds: The span.
        field: Where it stands in the request, for errors.

    Raises:
        InvalidValue: It is no finite number.
        OutOfRange: It is longer than a Duration may be.
    """
    span = number(seconds, field)
    if abs(span) > _DURATION_S_MAX:
        raise _out_of_range(field, f"at most {_DURATION_S_MAX:,} s", seconds)
    duration = Duration()
    duration.FromNanoseconds(int(span * 1e9))
    return duration


def text(value: object, field: str) -> str:
    """Return the string itself.

    Raises:
        InvalidValue: It is not a string, or holds surrogates, which UTF-8 has no bytes for.
    """
    if not isinstance(value, str):
        raise invalid(field, "a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise invalid(field, "text that UTF-8 can hold", value) from error
    return value


def texts(values: Collection[str], field: str) -> list[str]:
    """Return the strings as a list.

    Raises:
        InvalidValue: One is not a string, or the whole is a single string: its letters are hardly
            what is meant.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Collection):
        raise invalid(field, "a list of strings", values)
    return [text(value, f"{field}[{place}]") for place, value in enumerate(values)]


def optional_texts(values: Collection[str] | None, field: str) -> list[str]:
    """Return the strings as a list; none for None. Raises like `texts`."""
    return [] if values is None else texts(values, field)


def number(value: object, field: str) -> float:
    """Return a finite number as a float.

    Raises:
        InvalidValue: It is not a number, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, float | int | numbers.Real):
        raise invalid(field, "a number", value)
    try:
        result = float(value)
    except OverflowError as error:
        raise _out_of_range(field, "a number that 64 bits can hold", value) from error
    if not math.isfinite(result):
        raise invalid(field, "a finite number", value)
    return result


def count(value: object, field: str) -> int:
    """Return a number of things; 0, which leaves the choice to the server, for None.

    Raises:
        InvalidValue: It is not an integer.
        OutOfRange: It is below 1 or beyond 32 bits. 0 is refused, since a caller who computed a
            limit of 0 does not mean the server's default.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        raise invalid(field, "an integer", value)
    integer = int(value)
    if not 1 <= integer <= _INT32_MAX:
        raise _out_of_range(field, "1 or more, or unset for the server's default", value)
    return integer


def position(value: object, field: str) -> int:
    """Return a place in a list, 0 for the first.

    Raises:
        InvalidValue: It is not an integer.
        OutOfRange: It is negative, or beyond 32 bits.
    """
    integer = int64(value, field)
    if not 0 <= integer <= _INT32_MAX:
        raise _out_of_range(field, "0 or more, 0 being the first", value)
    return integer


def revision(value: object, field: str) -> int:
    """Return a revision of the catalogue; 0, which asks for none, for None.

    Raises:
        InvalidValue: It is not an integer.
        OutOfRange: It is below 0 or beyond 64 bits.
    """
    if value is None:
        return 0
    if (integer := int64(value, field)) < 0:
        raise _out_of_range(field, "0 or more", value)
    return integer


def int64(value: object, field: str) -> int:
    """Return an integer of 64 bits.

    Raises:
        InvalidValue: It is not an integer.
        OutOfRange: It has more than 64 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        raise invalid(field, "an integer", value)
    integer = int(value)
    if not _INT64_MIN <= integer <= _INT64_MAX:
        raise _out_of_range(field, "an integer of 64 bits (-2^63..2^63-1)", value)
    return integer


def flag(value: object, field: str) -> bool:
    """Return the bool itself.

    Raises:
        InvalidValue: It is not a bool.
    """
    if not isinstance(value, bool):
        raise invalid(field, "True or False", value)
    return value


def optional_text(value: object, field: str) -> str:
    """Return the string itself; an empty one for None. Raises like `text`."""
    return "" if value is None else text(value, field)


def optional_flag(value: object, field: str) -> bool:
    """Return the bool itself; False for None. Raises like `flag`."""
    return value is not None and flag(value, field)


def _list_to_proto(values: list[object] | tuple[object, ...], field: str) -> types_pb2.Value:
    fields = [f"{field}[{place}]" for place in range(len(values))]
    pairs = list(zip(values, fields, strict=True))
    if all(isinstance(value, str) for value in values):
        strings = types_pb2.StringList(values=[text(value, name) for value, name in pairs])
        return types_pb2.Value(string_list=strings)
    if all(isinstance(value, bool) for value in values):
        flags = types_pb2.BoolList(values=[flag(value, name) for value, name in pairs])
        return types_pb2.Value(bool_list=flags)
    if any(isinstance(value, bool | str) for value in values):
        raise InvalidValue.about(
            field,
            reason="INVALID_VALUE",
            expected="a list of one type",
            got="a list of " + ", ".join(sorted({type(value).__name__ for value in values})),
        )
    if all(isinstance(value, int | numbers.Integral) for value in values):
        integers = types_pb2.Int64List(values=[int64(value, name) for value, name in pairs])
        return types_pb2.Value(int64_list=integers)
    doubles = types_pb2.DoubleList(values=[number(value, name) for value, name in pairs])
    return types_pb2.Value(double_list=doubles)


def invalid(field: str, expected: str, value: object) -> InvalidValue:
    """Return the error of a value that is not what its field takes."""
    return InvalidValue.about(
        field, reason="INVALID_VALUE", expected=expected, got=_described(value)
    )


def _out_of_range(field: str, expected: str, value: object) -> OutOfRange:
    return OutOfRange.about(field, reason="OUT_OF_RANGE", expected=expected, got=_described(value))


def _described(value: object) -> str:
    """Return type and value, short enough for a message whatever the value is."""
    if isinstance(value, int) and value.bit_length() > 256:
        # Python refuses to print integers of more than 4,300 digits.
        return f"an integer of {value.bit_length()} bits"
    written = ascii(value)
    return f"{type(value).__name__} {written if len(written) <= 100 else written[:97] + '...'}"
