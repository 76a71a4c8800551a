"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs an event loop until it is stopped."""

    def __init__(
        self, name: str, *, at_end: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Start the thread.

        Args:
            name: Of the thread.
            at_end: What the loop runs last, once it is stopped.
        """
        self.loop = asyncio.new_event_loop()
        self._at_end = at_end
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def made(self, make: Callable[[], T]) -> T:
        """Return what is made in the loop. What that raises is raised, and ends the thread."""

        async def there() -> T:
            return make()

        try:
            return asyncio.run_coroutine_threadsafe(there(), self.loop).result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the loop, and wait for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
            if self._at_end is not None:
                self.loop.run_until_complete(self._at_end())
        finally:
            self.loop.close()
