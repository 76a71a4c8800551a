"""How calls over HTTP are taken, apart from what takes them, which is an extra."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CodelabOptions:
    """How `POST /recommend` is answered; see `codelab.py`."""

    title: str
    """Attribute of the items that is answered; the id where an item has none."""
    candidate_count: int
    """Films that are retrieved and ranked."""
    exclude_seen: bool
    """Whether films that the user has seen are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How calls over HTTP are taken."""

    listen: str
    """HOST:PORT; port 0 takes a free one."""
    connections_max: int
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call; `*` is any."""
    codelab: CodelabOptions | None = None
    """None: there is no `POST /recommend`."""
    playground: bool = False
    """Whether the page to try the server out is served."""
