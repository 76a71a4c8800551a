"""Loads bundles, then forks workers that share it, for as long as its supervisor lives.

    python -m shortlist_server.workers.zygote DESCRIPTOR

Nothing here has a thread, an event loop or a gRPC object when it forks: a fork copies the thread
that calls it and no other. Models are loaded here, too. With one thread each, ONNX Runtime keeps
none of its own, and so what the models hold is shared like the rest; `check_alone` makes sure.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortlist_server.errors import MissingExtra, ShortlistError
from shortlist_server.observability.logs import set_up_logging
from shortlist_server.workers.link import encoded
from shortlist_server.workers.process import check_alone, end_with, give_back, standing_back

if TYPE_CHECKING:
    from shortlist_server.config import ServerConfig
    from shortlist_server.labels import LabeledGenerations

logger = logging.getLogger(__name__)

ORDER_BYTES_MAX = 1 << 20


def main() -> int:
    """Load as told, and fork as told; in a worker, serve. Returns the exit code."""
    control = socket.socket(fileno=int(sys.argv[1]))
    message = control.recv(ORDER_BYTES_MAX)
    if not message:
        return 0
    order = json.loads(message)
    end_with(order["supervisor"])
    set_up_logging(order["config"]["log_level"], order["config"]["log_format"])
    try:
        loaded = standing_back(lambda: _load(order)) if order["beside"] else _load(order)
    except ShortlistError as error:
        _tell(control, {"refused": encoded(error)})
        return 1
    _tell(control, {"loaded": loaded.described, "items": loaded.items})
    if order["validate_only"]:
        return 0
    end = _fork_as_told(control)
    if end is None:
        return 0
    from shortlist_server.workers.worker import serve_as_worker

    return serve_as_worker(loaded.config, loaded.generations, end, order["port"], order["buckets"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What workers share."""

    config: ServerConfig
    generations: LabeledGenerations
    described: dict[str, dict[str, str]]
    """The bundles by label."""
    items: dict[str, Any]
    """`folder` that the stable bundle's items are from, which may be one with changes folded in,
    and the `revision` of the catalogue that they are of.
    """


def _load(order: dict[str, Any]) -> Loaded:
    """Load the bundles, and all that a worker will import.

    Raises:
        BundleError: one of them cannot be served.
    """
    # Here, not above: importing is a second of work, and it stands back, too.
    from shortlist_server import serving
    from shortlist_server.config import ServerConfig
    from shortlist_server.workers import worker  # noqa: F401
    from shortlist_server.workers.bundle_folder import describe

    config = ServerConfig(**order["config"])
    if config.http_listen is not None:
        try:
            from shortlist_server.rpc.http import front  # noqa: F401
        except ImportError as error:
            raise MissingExtra(feature="http_listen", extra="http") from error
    folders = {label: Path(folder) for label, folder in order["folders"].items()}
    generations = serving.load(config, folders)
    described = {
        str(label): describe(generation.bundle.manifest, generation.bundle.sha256)
        for label, generation in generations.by_label()
    }
    bundle = generations.stable.bundle
    return Loaded(
        config=config,
        generations=generations,
        described=described,
        items={"folder": str(bundle.folder), "revision": bundle.revision},
    )


def _fork_as_told(control: socket.socket) -> socket.socket | None:
    """Fork a worker for each order, and tell how each one ends.

    Returns:
        In a worker, its socket to the supervisor; in the zygote None, once there is no supervisor.
    """
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    check_alone()
    give_back()
    while True:
        readable, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4_096)
            for pid, status in _ended():
                _tell(control, {"ended": pid, "how": status})
        if control.fileno() not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES_MAX, 1)
        if not message:
            return None
        order = json.loads(message)
        if pid := os.fork():
            os.close(descriptors[0])
            _tell(control, {"forked": order["fork"], "pid": pid})
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (woken, wake):
            os.close(descriptor)
        control.close()
        return socket.socket(fileno=descriptors[0])


def _ended() -> list[tuple[int, str]]:
    """Return the workers that have ended since the last call, and how."""
    found: list[tuple[int, str]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        found.append((pid, how))


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:  # the supervisor has gone; reading finds out
        logger.debug("the supervisor has gone")


if __name__ == "__main__":
    sys.exit(main())
