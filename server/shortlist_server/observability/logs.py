"""The server's log: lines of text, or of JSON for what collects logs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from shortlist_server.observability.current_call import current_request_id, current_trace

CALL = "call"
"""Name under which a record carries fields of its own, by name."""


def set_up_logging(level: str, form: Literal["text", "json"]) -> None:
    """Log to standard error from now on, warnings of Python included.

    Args:
        level: Least severity: `debug`, `info`, `warning` or `error`.
        form: Of each record: `text`, or `json`, one object a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Otherwise they go to standard error by themselves, as text of several lines.
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """Makes each record one line of JSON, in ASCII, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: `time` (RFC 3339, UTC), `level`, `logger`, `message`; inside a
        call `request_id`, and `trace_id` where it is traced; `exception` where there is one; and
        what the record carries under `call`.
        """
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if request_id := current_request_id.get():
            fields["request_id"] = request_id
        if (trace := current_trace.get()) is not None:
            fields["trace_id"] = trace.trace_id
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        fields |= getattr(record, CALL, {})
        return json.dumps(
            {name: _valid(value) for name, value in fields.items()}, ensure_ascii=True
        )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a wrong format, or an argument that cannot be shown
        return f"{record.msg!r:.200} (its arguments cannot be shown: {type(error).__name__})"


def _valid(value: Any) -> Any:
    """Return a text without halves of surrogate pairs, which readers of JSON refuse."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
