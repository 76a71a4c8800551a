"""The sockets of a port that this process has, which gRPC keeps to itself.

A server that hands its port over to another process must stop listening and go on answering. gRPC
has no such call: its `stop` ends calls that are under way to the handlers CANCELLED, which no
caller retries. So the sockets are found among the process's files, and closed for gRPC.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import closing

SETTLE_S_MAX = 0.5
_ACCEPT_QUEUE_OFFSET = 24
"""Where tcp_info has `tcpi_unacked`: for a socket that listens, the connections that wait to be
accepted (linux/tcp.h)."""


def stop_listening(port: int) -> None:
    """Take no more connections at a port; those that there are stay.

    A connection that the kernel has taken and gRPC has not would be reset: so it happens at a
    moment without any. One whose handshake is under way is reset all the same, unless
    `net.ipv4.tcp_migrate_req` lets it go to another process that listens.
    """
    for opened in _sockets(port, listening=True):
        end = time.monotonic() + SETTLE_S_MAX
        while accept_queue(opened) and time.monotonic() < end:
            time.sleep(0.0005)
        opened.shutdown(socket.SHUT_RDWR)


def close_connections(port: int) -> None:
    """Close the connections to a port of this process; what was sent still arrives.

    The other side sees a connection that ended: calls that it sends at this moment fail
    UNAVAILABLE, or are sent again elsewhere.
    """
    for opened in _sockets(port, listening=False):
        with contextlib.suppress(OSError):  # closed meanwhile
            opened.shutdown(socket.SHUT_RDWR)


def connection_count(port: int) -> int:
    """Return the number of connections to a port of this process."""
    return sum(1 for _ in _sockets(port, listening=False))


def accept_queue(opened: socket.socket) -> int:
    """Return how many connections wait at a socket that listens."""
    info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACCEPT_QUEUE_OFFSET + 4)
    return int(struct.unpack_from("I", info, _ACCEPT_QUEUE_OFFSET)[0])


def _sockets(port: int, *, listening: bool) -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names, not paths
        try:
            # A socket cannot be made of any other file, and what was duplicated would stay open.
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            opened = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed meanwhile
            continue
        with closing(opened):
            if _is_at(opened, port, listening=listening):
                yield opened


def _is_at(opened: socket.socket, port: int, *, listening: bool) -> bool:
    try:
        if opened.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        accepts = bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if listening:
            return accepts and opened.getsockname()[1] == port
        return not accepts and opened.getsockname()[1] == port and bool(opened.getpeername())
    except OSError:  # not connected, or no longer
        return False
