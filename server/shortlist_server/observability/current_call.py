"""The call that the current task answers, for what logs and traces it."""

from __future__ import annotations

from contextvars import ContextVar

from shortlist_server.observability.traced_call import TracedCall

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")
"""Id of the request that the current task answers."""

current_trace: ContextVar[TracedCall | None] = ContextVar("current_trace", default=None)
"""None where nothing is traced."""
