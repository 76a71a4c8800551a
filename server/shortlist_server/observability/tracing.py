"""Traces: a span for each call, and for each stage.

A call takes its place in its caller's trace, and keeps what its stages reported. Spans are made of
that, and sent, by a thread, after the call: what is slow, or not there, costs calls nothing. See
`docs/tracing.md`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable

from shortlist_server.observability.spans import Spans, TracingOptions
from shortlist_server.observability.traced_call import TracedCall

logger = logging.getLogger(__name__)

CALLS_AT_ONCE = 32
"""Calls that are sent together."""
SEND_S = 1.0
"""How long a call waits for others to be sent with."""
CLOSE_S_MAX = 2.0
"""How long what is left is sent for when the server stops."""
WARNING_S = 60.0


class Tracing:
    """Begins the traces of calls, and sends them."""

    def __init__(self, options: TracingOptions) -> None:
        """Start the thread.

        Raises:
            MissingExtra: opentelemetry is not installed.
        """
        self._spans = Spans(options)
        self._waiting: deque[TracedCall] = deque()
        self._waiting_max = options.waiting_max
        # Each is counted by one thread.
        self._refused = self._lost = 0
        self._warned_s = float("-inf")
        self._warned_count = 0
        self._due = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._thread.start()

    @property
    def dropped_count(self) -> int:
        """Calls that were to be traced, and whose spans did not reach the collector."""
        return self._refused + self._lost

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> TracedCall:
        """Return the trace of a call that begins now.

        Args:
            method: Full name of the method, `/shortlist.v1.RecommendationService/Recommend`.
            metadata: Of the request. What is wrong in `traceparent` is as if it were not there.
        """
        return TracedCall(self.take, method, *self._spans.place(method, metadata))

    def take(self, call: TracedCall) -> None:
        """Take a call that has ended; drops it where too many wait. Returns at once."""
        if self._closing or len(self._waiting) >= self._waiting_max:
            self._refused += 1
            return
        self._waiting.append(call)
        if len(self._waiting) >= CALLS_AT_ONCE and not self._due.is_set():
            self._due.set()

    def close(self) -> None:
        """Send what is left, for a while, and end the thread."""
        self._closing = True
        self._due.set()
        self._thread.join(CLOSE_S_MAX)
        # Ends what is being tried again.
        self._spans.shutdown()
        self._thread.join(CLOSE_S_MAX)
        self._lost += len(self._waiting)
        if self.dropped_count:
            logger.warning("of %d calls no trace was sent", self.dropped_count)

    def _run(self) -> None:
        while not self._closing or self._waiting:
            if len(self._waiting) < CALLS_AT_ONCE:
                self._due.wait(SEND_S)
            self._due.clear()
            count = min(len(self._waiting), CALLS_AT_ONCE)
            if calls := [self._waiting.popleft() for _ in range(count)]:
                self._send(calls)

    def _send(self, calls: list[TracedCall]) -> None:
        try:
            sent = self._spans.export(calls)
        except Exception:  # whatever it is, the thread goes on
            logger.exception("a trace could not be made")
            sent = False
        if not sent:
            self._lost += len(calls)
        now_s = time.monotonic()
        if self.dropped_count > self._warned_count and now_s >= self._warned_s + WARNING_S:
            logger.warning(
                "of %d more calls no trace was sent: the collector does not answer in time, or "
                "refuses them",
                self.dropped_count - self._warned_count,
            )
            self._warned_s, self._warned_count = now_s, self.dropped_count
