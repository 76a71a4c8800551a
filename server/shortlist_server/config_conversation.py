"""The section `conversation` of the configuration: how turns of conversations are answered."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ConversationConfig(BaseModel):
    """What is set of conversations; the language model itself is the section `llm`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    timeout_ms: int = Field(default=20_000, ge=1, le=3_600_000)
    """Time budget of a turn that brings no deadline, in milliseconds."""

    intent_share: float = Field(default=0.4, gt=0, le=1)
    """Share of the budget by which the language model must have understood a turn. Changes answers:
    else the text is taken as it is.
    """

    reply_share: float = Field(default=0.95, gt=0, le=1)
    """Share of the budget by which it must have worded the reply; else a plain one is said."""

    prompt_file: Path | None = None
    """Template of what the model is told, and of the plain replies, see docs/conversation.md. None,
    the default, takes the package's. Changes answers.
    """

    ttl_s: float = Field(default=3_600.0, gt=0, le=31_536_000)
    """Time since its last turn after which a conversation that the server keeps is forgotten, in
    seconds.
    """

    count_max: int = Field(default=10_000, ge=0, le=10_000_000)
    """Most conversations that the server keeps; those that had no turn for the longest time make
    room. 0 keeps none.
    """

    bytes_max: int = Field(default=64 << 20, ge=0, le=1 << 40)
    """Most that they take, in bytes, of memory, or with workers of the disk; the same make room."""
