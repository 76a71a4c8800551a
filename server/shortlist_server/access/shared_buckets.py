"""Rate limits that several processes keep together, in memory that they share.

A table of entries, found by the key's SHA-256. Each is read and written under a lock of the file
that the memory belongs to, which the kernel lets go when its holder is killed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shortlist_server.access.token_bucket import TokenBucket

ENTRIES = 4_096
"""Four times as many as a file has keys."""
PROBED = 8
"""Places that an entry may have; where all are taken, the one that was longest unused is."""
_ENTRY = struct.Struct("<32sdddd")
"""SHA-256 of the key, tokens per second, burst, tokens, and the time of these on the clock."""


def make_memory() -> int:
    """Return a descriptor of memory for `SharedBuckets`, which other processes may inherit."""
    descriptor = os.memfd_create("rate-limits")
    os.truncate(descriptor, ENTRIES * _ENTRY.size)
    return descriptor


class SharedBuckets:
    """The token buckets of all keys."""

    def __init__(self, descriptor: int, now: Callable[[], float] = time.monotonic) -> None:
        """Map the memory.

        Args:
            descriptor: What `make_memory` returned, here or in a process before.
            now: The clock, in seconds; the same for all processes.
        """
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, ENTRIES * _ENTRY.size)
        self._now = now

    def bucket(self, digest: bytes, per_second: float, burst: int) -> TokenBucket:
        """Return the bucket of a key; what was used of it stays where its limit is as it was."""
        return _SharedBucket(self, digest, per_second, burst, self._now)

    @contextmanager
    def entry(self, digest: bytes) -> Iterator[_Entry]:
        """Lock the entry of a key, and yield it; what it holds then is kept."""
        start = int.from_bytes(digest[:8], "little") % ENTRIES
        # One lock for all places that it may have. A place at the end of the table may be reached
        # from two starts: a whole block of places is locked, and probing stays inside it.
        block = start - start % PROBED
        begin, length = block * _ENTRY.size, PROBED * _ENTRY.size
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, length, begin)
        try:
            entry = self._find(block, digest)
            yield entry
            values = (entry.digest, entry.per_second, entry.burst, entry.tokens, entry.filled_at)
            _ENTRY.pack_into(self._memory, entry.place * _ENTRY.size, *values)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, length, begin)

    def _find(self, block: int, digest: bytes) -> _Entry:
        entries = [
            _Entry(place, *_ENTRY.unpack_from(self._memory, place * _ENTRY.size))
            for place in range(block, block + PROBED)
        ]
        for entry in entries:
            if entry.digest == digest:
                return entry
        oldest = min(entries, key=lambda entry: entry.filled_at)
        return _Entry(oldest.place, digest, 0.0, 0.0, 0.0, 0.0)


class _Entry:
    __slots__ = ("burst", "digest", "filled_at", "per_second", "place", "tokens")

    def __init__(
        self,
        place: int,
        digest: bytes,
        per_second: float,
        burst: float,
        tokens: float,
        filled_at: float,
    ) -> None:
        self.place = place
        self.digest = digest
        self.per_second = per_second
        self.burst = burst
        self.tokens = tokens
        self.filled_at = filled_at


class _SharedBucket(TokenBucket):
    """A token bucket whose tokens are in the table."""

    def __init__(
        self,
        table: SharedBuckets,
        digest: bytes,
        per_second: float,
        burst: int,
        now: Callable[[], float],
    ) -> None:
        super().__init__(per_second, burst, now)
        self._table = table
        self._digest = digest

    def take(self) -> float:
        with self._shared():
            return super().take()

    def charge(self, count: int) -> None:
        with self._shared():
            super().charge(count)

    @contextmanager
    def _shared(self) -> Iterator[None]:
        with self._table.entry(self._digest) as entry:
            if (entry.per_second, entry.burst) == (self.per_second, self.burst):
                self._tokens, self._filled_at = entry.tokens, entry.filled_at
            else:  # new, or its limit was changed
                self._tokens, self._filled_at = float(self.burst), self._now()
            yield
            entry.per_second, entry.burst = self.per_second, self.burst
            entry.tokens, entry.filled_at = self._tokens, self._filled_at
