"""What providers answered, checked: objects by their JSON schema, points by their dimension."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import LlmInvalidOutput, TokenUsage

NO_JSON: Any = object()


def parse_object(
    text: str, schema: Mapping[str, Any], *, usage: TokenUsage | None = None
) -> dict[str, Any]:
    """Return the object that a text is.

    Args:
        text: JSON; alone, or in a Markdown fence, as models without structured output write it.
        schema: JSON schema (2020-12) that it must satisfy.
        usage: What the answer cost: errors carry it.

    Raises:
        LlmInvalidOutput: it is no JSON, no object, or not of the schema. The message says where,
            never what.
        MissingExtra: jsonschema is not installed.
    """
    text = text.strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json")
    value = NO_JSON
    # The decoder's error holds the text: ours is not to hang on to it.
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=_refuse)
    if value is NO_JSON:
        problem = "nothing" if not text else f"{len(text)} characters that are no JSON"
        raise LlmInvalidOutput(f"expected JSON, got {problem}", usage=usage)
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise LlmInvalidOutput(f"expected a JSON object, got a {kind}", usage=usage)
    if (broken := schema_problem(value, schema)) is not None:
        raise LlmInvalidOutput(broken, usage=usage)
    return value


def schema_problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return what of a schema a value breaks first, without the value; None if it satisfies it.

    Raises:
        MissingExtra: jsonschema is not installed.
    """
    try:
        import jsonschema
    except ImportError as error:
        raise MissingExtra(feature="a language model", extra="llm") from error
    found = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    if found is None:
        return None
    # The names in the path may be the answer's own.
    depth = len(found.absolute_path)
    return f"the answer breaks the schema's {found.validator!r}, {depth} levels deep"


def unit_points(points: Sequence[Sequence[float]], count: int, dimension: int) -> Floats:
    """Return points at unit length, float32 [count, dimension].

    Raises:
        LlmInvalidOutput: they are more or fewer, of another dimension, or without a direction.
    """
    if len(points) != count:
        raise LlmInvalidOutput(f"expected {count} embeddings, got {len(points)}")
    found = {len(point) for point in points} - {dimension}
    if found:
        raise LlmInvalidOutput(f"expected embeddings of dimension {dimension}, got {min(found)}")
    array = None
    with contextlib.suppress(TypeError, ValueError):
        array = np.array(points, dtype=np.float32).reshape(count, dimension)
    if array is None:
        raise LlmInvalidOutput("expected embeddings of numbers, got something else")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise LlmInvalidOutput("expected embeddings with a direction, got zeros or no numbers")
    return np.asarray(array / lengths, dtype=np.float32)


def cut(texts: Sequence[str], prefix: str, characters_max: int) -> list[str]:
    """Return texts as they are sent: bounded, and none empty, which services refuse."""
    return [f"{prefix}{text}"[:characters_max] if text.strip() else f"{prefix} " for text in texts]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
