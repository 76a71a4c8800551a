"""Connections: how many calls one takes, and what becomes of one at whose end nobody is.

A peer that breaks the rules is a raw socket here: gRPC's own client keeps them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from shortlist_server.generation import Generation

SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


@dataclass(frozen=True)
class Frame:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""

    kind: int
    flags: int
    payload: bytes


class Peer:
    """The client's end of an HTTP/2 connection, as far as it gets by itself."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS)

    def send(self, kind: int, payload: bytes = b"", flags: int = 0) -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
        self._socket.sendall(head + bytes(4) + payload)

    def frames(self) -> Iterator[Frame]:
        """Frames until the server closes the connection; its settings are acknowledged."""
        while head := self._read(9):
            frame = Frame(head[3], head[4], self._read(int.from_bytes(head[:3], "big")))
            if frame.kind == SETTINGS and not frame.flags & ACK:
                self.send(SETTINGS, flags=ACK)
            yield frame

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                return b""
            data += part
        return data

    def close(self) -> None:
        self._socket.close()


Connect = Callable[..., Peer]


@pytest.fixture
def connect(tiny_bundle: Path, generation: Generation, server: Any) -> Iterator[Connect]:
    """Connect to a server of these settings."""
    opened: list[Any] = []

    def start(**settings: int) -> Peer:
        running = type(server)(tiny_bundle, generation, **settings)
        peer = Peer(running.target)
        opened.append((running, peer))
        return peer

    yield start
    for running, peer in opened:
        peer.close()
        running.stop()


def test_calls_at_a_time_on_a_connection_are_bounded(connect: Connect) -> None:
    settings = next(frame for frame in connect(streams_max=7).frames() if frame.kind == SETTINGS)
    pairs = [settings.payload[start : start + 6] for start in range(0, len(settings.payload), 6)]
    values = {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
    assert values[MAX_CONCURRENT_STREAMS] == 7


def test_peer_that_answers_no_pings_is_disconnected(connect: Connect) -> None:
    """Without keepalive, reading would fail after the socket's 20 s."""
    seen = list(connect(keepalive_ms=200, keepalive_timeout_ms=200).frames())
    assert PING in {frame.kind for frame in seen}


def test_peer_that_answers_pings_stays_though_it_is_idle(connect: Connect) -> None:
    peer, answered = connect(keepalive_ms=100, keepalive_timeout_ms=5_000), 0
    for frame in peer.frames():
        assert frame.kind != GOAWAY
        if frame.kind == PING and not frame.flags & ACK:
            peer.send(PING, frame.payload, ACK)
            answered += 1
        if answered == 5:
            break
    assert answered == 5


def ping_often(peer: Peer) -> list[Frame]:
    """Ping ten times, each as soon as the one before is answered; the frames that came."""
    seen, sent = [], 1
    peer.send(PING, bytes(8))
    for frame in peer.frames():
        seen.append(frame)
        if frame.kind == PING and frame.flags & ACK:
            if sent == 10:
                break
            peer.send(PING, bytes(8))
            sent += 1
    return seen


def test_client_that_pings_too_often_is_disconnected(connect: Connect) -> None:
    seen = ping_often(connect(ping_interval_ms_min=3_600_000))
    (goaway,) = [frame for frame in seen if frame.kind == GOAWAY]
    assert int.from_bytes(goaway.payload[4:8], "big") == ENHANCE_YOUR_CALM
    assert goaway.payload[8:] == b"too_many_pings"


def test_client_may_ping_as_often_as_the_server_lets_it(connect: Connect) -> None:
    seen = ping_often(connect(ping_interval_ms_min=0))
    assert sum(frame.kind == PING for frame in seen) == 10
    assert GOAWAY not in {frame.kind for frame in seen}
