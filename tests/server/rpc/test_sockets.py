"""The sockets of a port that this process has."""

from __future__ import annotations

import os
import socket

import pytest
from shortlist_server.rpc.sockets import close_connections, connection_count, stop_listening


def file_count() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_connections_are_counted_and_no_file_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert connection_count(port) == 0
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                before = file_count()
                # Files of all kinds are open here: pipes, files, a directory while it is listed.
                for _ in range(3):
                    assert connection_count(port) == 1
                assert file_count() == before
        assert connection_count(port) == 0


def test_who_stops_listening_keeps_its_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            accepted, _ = listening.accept()
            with accepted:
                before = file_count()
                stop_listening(port)
                assert file_count() == before
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))
                accepted.sendall(b"still here")
                assert caller.recv(16) == b"still here"


def test_connections_that_are_closed_bring_what_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(b"the last word")
                before = file_count()
                close_connections(port)
                assert file_count() == before
                assert caller.recv(16) == b"the last word"
                assert caller.recv(16) == b""
        with socket.create_connection(("127.0.0.1", port)):  # who listens goes on
            pass
