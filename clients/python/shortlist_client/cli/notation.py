"""How people write what an option takes: each function reads one argument."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from shortlist_client.cli.conditions import OPERATORS, Condition
from shortlist_client.options import (
    Cap,
    Configured,
    Nearest,
    PinnedItem,
    Popularity,
    RecentHistory,
    Source,
    Text,
)
from shortlist_client.queries import Event


def name_and_value(argument: str) -> tuple[str, str]:
    """Read `NAME=VALUE`."""
    name, equals, value = argument.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {argument!r}")
    return name, value


def weight(argument: str) -> tuple[str, float]:
    """Read `OUTPUT=WEIGHT`."""
    name, _, written = argument.rpartition("=")
    try:
        number = float(written)
    except ValueError:
        name = ""
    if not name:
        raise argparse.ArgumentTypeError(f"expected OUTPUT=WEIGHT, got {argument!r}")
    return name, number


def event(argument: str) -> Event:
    """Read `ID[:RATING]`; `x:5:` is the id `x:5`."""
    item_id, colon, rating = argument.rpartition(":")
    if not colon:
        return Event(argument)
    if not rating:
        return Event(item_id)
    try:
        return Event(item_id, rating=float(rating))
    except ValueError:
        return Event(argument)


def file_bytes(argument: str) -> bytes:
    """Read the file of this name."""
    try:
        return Path(argument).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{argument}: {error.strerror}") from error


def readable_file(argument: str) -> str:
    """Return the name itself, of a file that can be read."""
    file_bytes(argument)
    return argument


def key_file(argument: str) -> str:
    """Return the name itself, of a file that holds text."""
    try:
        file_bytes(argument).decode("ascii")
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{argument}: expected one line of ASCII") from error
    return argument


def embedding(argument: str) -> list[float]:
    """Read the file of this name, which holds a JSON list of numbers."""
    try:
        values = json.loads(file_bytes(argument))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{argument}: expected JSON: {error}") from error
    if not isinstance(values, list) or not all(isinstance(one, int | float) for one in values):
        raise argparse.ArgumentTypeError(f"{argument}: expected a JSON list of numbers")
    return values


def condition(argument: str) -> Condition:
    """Read a name, an operator and a value, such as `year>=1990`.

    The first operator is the one: a value may hold others, a name cannot.
    """
    places = [(argument.find(operator), -len(operator), operator) for operator in OPERATORS]
    # The first, and of several at one place the longest: `>=` before `>`.
    place, _, operator = min((found for found in places if found[0] >= 0), default=(0, 0, ""))
    name = argument[:place].strip()
    if not name:
        known = " ".join(OPERATORS)
        raise argparse.ArgumentTypeError(
            f"expected an attribute, one of {known} and a value, got {argument!r}"
        )
    return Condition(
        attribute=name, operator=operator, value=argument[place + len(operator) :].strip()
    )


def source(argument: str) -> Source:
    """Read `NAME[=COUNT]`."""
    name, equals, written = argument.partition("=")
    count = _whole(written, argument, "NAME[=COUNT]") if equals else None
    match name:
        case "nearest":
            return Nearest(candidate_count=count)
        case "recent_history":
            return RecentHistory(candidate_count=count)
        case "popularity":
            return Popularity(candidate_count=count)
        case "text":
            return Text(candidate_count=count)
        case "":
            raise argparse.ArgumentTypeError(f"expected NAME[=COUNT], got {argument!r}")
    return Configured(name, candidate_count=count)


def cap(argument: str) -> Cap:
    """Read `ATTRIBUTE=N`."""
    attribute, _, written = argument.rpartition("=")
    if not attribute:
        raise argparse.ArgumentTypeError(f"expected ATTRIBUTE=N, got {argument!r}")
    return Cap(attribute, _whole(written, argument, "ATTRIBUTE=N"))


def pinned_item(argument: str) -> PinnedItem:
    """Read `ID[@POSITION]`; `x@5@` is the id `x@5`."""
    item_id, at, position = argument.rpartition("@")
    if not at:
        return PinnedItem(argument)
    if not position:
        return PinnedItem(item_id)
    return PinnedItem(item_id, int(position)) if position.isdecimal() else PinnedItem(argument)


def _whole(written: str, argument: str, form: str) -> int:
    try:
        return int(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected {form} with a whole number, got {argument!r}"
        ) from error
