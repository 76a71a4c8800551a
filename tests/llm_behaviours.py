"""How the language model of `llm_stub` meets a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What one request meets. Made by the functions below."""

    kind: str
    delay_s: float = 0.0
    status: int = 200
    retry_delay_s: float | None = None
    size_bytes: int = 0


def answer() -> Behaviour:
    """What the rule says, at once."""
    return Behaviour(kind="answer")


def slow(delay_s: float) -> Behaviour:
    """The same, after a while."""
    return Behaviour(kind="answer", delay_s=delay_s)


def hang() -> Behaviour:
    """Nothing, for ever; a stream hangs after its first piece."""
    return Behaviour(kind="hang")


def status(code: int, *, retry_delay_s: float | None = None) -> Behaviour:
    """An error, whose message gives away the key and the prompt, as real ones have."""
    return Behaviour(kind="status", status=code, retry_delay_s=retry_delay_s)


def broken_json() -> Behaviour:
    """An answer whose text is no JSON; a stream is cut off within a chunk."""
    return Behaviour(kind="broken_json")


def broken_body() -> Behaviour:
    """A response that is no JSON."""
    return Behaviour(kind="broken_body")


def truncated() -> Behaviour:
    """Half of the answer, ended by the limit of tokens."""
    return Behaviour(kind="truncated")


def duplicate_handles() -> Behaviour:
    """The right answer, but the first entry of each list stands in place of the second, too."""
    return Behaviour(kind="duplicate")


def foreign_handles() -> Behaviour:
    """The right answer, but the first entry of each list is one that nobody sent."""
    return Behaviour(kind="foreign")


def wrong_schema() -> Behaviour:
    """A JSON object that is not of the schema."""
    return Behaviour(kind="wrong_schema")


def not_finite() -> Behaviour:
    """Embeddings with a number that is none."""
    return Behaviour(kind="not_finite")


def blocked() -> Behaviour:
    """An answer that the safety filter held back."""
    return Behaviour(kind="blocked")


def blocked_prompt() -> Behaviour:
    """A prompt that the safety filter refused."""
    return Behaviour(kind="blocked_prompt")


def empty() -> Behaviour:
    """A response without an answer."""
    return Behaviour(kind="empty")


def empty_text() -> Behaviour:
    """An answer without text."""
    return Behaviour(kind="empty_text")


def huge(size_bytes: int) -> Behaviour:
    """An answer of this many bytes."""
    return Behaviour(kind="huge", size_bytes=size_bytes)


def reset() -> Behaviour:
    """A connection that is reset; a stream's after its first piece."""
    return Behaviour(kind="reset")


def unfinished() -> Behaviour:
    """A stream that ends without saying why."""
    return Behaviour(kind="unfinished")
