"""What Linux is asked for: to end with a parent, to take orphans in, to stand back, to reserve a
port.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from shortlist_server.errors import ConfigError

T = TypeVar("T")

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
JOIN_S_MAX = 5.0


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends; at once where it has ended already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def take_orphans_in() -> None:
    """Become the parent of grandchildren whose parent ends, so that they can be waited for."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def standing_back(function: Callable[[], T]) -> T:
    """Run a function while every other process goes first.

    In a thread of its own, which ends: Linux schedules threads, and one that has stood back may
    not come forward again without privileges, nor may what is forked from it.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            results.append(function())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="loading")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def give_back() -> None:
    """Return memory to the system that loading took and let go: each worker would seem to have
    it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
    if trim is not None:
        trim(0)


def check_alone() -> None:
    """Make sure that this process has one thread: a fork copies no others, and what they held
    would stay locked for ever.

    Raises:
        RuntimeError: there are others.
    """
    end = time.monotonic() + JOIN_S_MAX
    # A thread that was joined may take a moment until the kernel has forgotten it.
    while len(names := _threads()) > 1:
        if time.monotonic() > end:
            raise RuntimeError(f"expected one thread before the fork, got {names}")
        time.sleep(0.001)


def _threads() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208  # names, not paths
        try:
            with open(f"/proc/self/task/{task}/comm") as file:  # noqa: PTH123
                names.append(file.read().strip())
        except OSError:
            continue
    return names


def reserve(listen: str, field: str = "listen") -> tuple[socket.socket, int]:
    """Hold a port for processes that will share it; nobody connects to it before one listens.

    Args:
        listen: HOST:PORT; port 0 takes a free one.
        field: Name of the setting that says so.

    Returns:
        What holds it, and the port.

    Raises:
        ConfigError: the address cannot be bound, or another server is on the port.
    """
    host, _, port = listen.rpartition(":")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The ports of a server that shares them could be shared by any other of the same user,
        # and each would get some of the calls: one that does not share finds out.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise ConfigError(
            f"{field}: cannot bind {listen}: {error.strerror}; is another server on this port?"
        ) from error
    return held, int(held.getsockname()[1])
