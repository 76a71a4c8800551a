"""Conversations that the server keeps: each its caller's, for a while, not too many.

`kept_file.py` keeps them for several processes.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOptions:
    """How much is kept, and for how long."""

    ttl_s: float = 3_600.0
    """Time since its last turn after which a conversation is forgotten, in seconds."""
    count_max: int = 10_000
    bytes_max: int = 64 << 20
    """Of all conversations together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    owner: str
    state: bytes
    expires: float


class KeptConversations(Protocol):
    """Conversations by id. Only the owner of one gets it; to others it does not exist."""

    @property
    def options(self) -> KeptOptions:
        """How much is kept, and for how long."""

    def __len__(self) -> int: ...

    @property
    def size_bytes(self) -> int:
        """What their states take."""

    async def find(self, conversation_id: str, owner: str) -> bytes | None:
        """Return the state of a conversation; None where its owner has none of this id."""

    async def keep(self, conversation_id: str, owner: str, state: bytes) -> None:
        """Keep a conversation as it is now; those that had no turn for the longest time make room.

        Args:
            conversation_id: That of `new_id`, or one that `find` found for the owner.
            owner: Whose it is.
            state: What it came to.
        """


class MemoryConversations:
    """Implements `KeptConversations` in the memory of one process, of which one thread changes it.

    Without the process they are gone.
    """

    def __init__(self, options: KeptOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none."""
        self.options = options
        self._clock = clock
        # In the order in which they expire: each turn moves its conversation to the end.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        # Asked for by another thread, too: nothing changes here. Expired ones count until a call.
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """What their states take."""
        return self._bytes

    async def find(self, conversation_id: str, owner: str) -> bytes | None:
        """Return the state of a conversation; see `KeptConversations.find`."""
        self._forget_expired()
        kept = self._kept.get(conversation_id)
        return None if kept is None or kept.owner != owner else kept.state

    async def keep(self, conversation_id: str, owner: str, state: bytes) -> None:
        """Keep a conversation as it is now; see `KeptConversations.keep`."""
        self._forget(conversation_id)
        expires = self._clock() + self.options.ttl_s
        self._kept[conversation_id] = _Kept(owner=owner, state=state, expires=expires)
        self._bytes += len(state)
        self._forget_expired()
        while self._kept and (
            len(self._kept) > self.options.count_max or self._bytes > self.options.bytes_max
        ):
            self._forget(next(iter(self._kept)))

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).expires <= now:
            self._forget(next(iter(self._kept)))

    def _forget(self, conversation_id: str) -> None:
        if (kept := self._kept.pop(conversation_id, None)) is not None:
            self._bytes -= len(kept.state)


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_hex(16)
