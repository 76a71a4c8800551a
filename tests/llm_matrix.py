"""Every behaviour of the stub, and what becomes of a call of the server that meets it."""

from __future__ import annotations

from typing import Any

import llm_behaviours as behave

RIGHT: list[tuple[behave.Behaviour, ...]] = [
    (behave.answer(),),
    (behave.slow(0.1),),
    (behave.status(429, retry_delay_s=0.05), behave.answer()),
    (behave.status(503, retry_delay_s=0.05), behave.answer()),
]
"""Those that end with the right answer."""
WRONG: list[tuple[behave.Behaviour, str, tuple[str, ...]]] = [
    (behave.hang(), "LLM_TIMEOUT", ()),
    (behave.slow(3_600), "LLM_TIMEOUT", ()),
    (behave.status(400), "LLM_UNAVAILABLE", ()),
    (behave.status(429, retry_delay_s=3_600), "LLM_UNAVAILABLE", ()),
    (behave.status(500), "LLM_UNAVAILABLE", ()),
    (behave.status(503, retry_delay_s=3_600), "LLM_UNAVAILABLE", ()),
    (behave.reset(), "LLM_UNAVAILABLE", ()),
    (behave.broken_json(), "LLM_INVALID_OUTPUT", ()),
    (behave.broken_body(), "LLM_INVALID_OUTPUT", ()),
    (behave.truncated(), "LLM_INVALID_OUTPUT", ()),
    (behave.wrong_schema(), "LLM_INVALID_OUTPUT", ()),
    (behave.empty(), "LLM_INVALID_OUTPUT", ()),
    (behave.empty_text(), "LLM_INVALID_OUTPUT", ()),
    (behave.huge(8 << 20), "LLM_INVALID_OUTPUT", ()),
    (behave.duplicate_handles(), "LLM_INVALID_OUTPUT", ("duplicate", "missing")),
    (behave.foreign_handles(), "LLM_INVALID_OUTPUT", ("foreign", "missing")),
    (behave.blocked(), "LLM_BLOCKED", ()),
    (behave.blocked_prompt(), "LLM_BLOCKED", ()),
]
"""The others: the reason that the caller is told, and what is counted as wrong with the answer."""


def name_of(value: Any) -> str:
    return f"{value.kind}{value.status}" if isinstance(value, behave.Behaviour) else ""
