"""Callers over HTTP who send slowly, or without an end, or nothing at all."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.generation import Generation
from shortlist_server.rpc.http import front, protocol

RECOMMEND = "/shortlist.v1.RecommendationService/Recommend"
BODY = json.dumps({"query": {"user": {"id": "u1"}}, "limit": 3}).encode()
HEAD = (
    f"POST {RECOMMEND} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n"
).encode()
PATIENCE_S = 30
"""After which a caller who was not given up has the test fail."""


KEY = make_key()


@pytest.fixture
def serve(tiny_bundle: Path, generation: Generation, server: Any) -> Iterator[Any]:
    """Starts servers, whose limits are those that the test has set before."""
    running: list[Any] = []

    def start(**settings: Any) -> tuple[str, int]:
        settings["http_listen"] = "127.0.0.1:0"
        running.append(type(server)(tiny_bundle, generation, **settings))
        host, port = running[-1].http.split(":")
        return host, int(port)

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def address(serve: Any) -> tuple[str, int]:
    found: tuple[str, int] = serve()
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers have no time to come slowly."""
    monkeypatch.setattr(protocol, "HEADERS_S_MAX", 0.2)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections have no time to be idle."""
    monkeypatch.setattr(front, "IDLE_S", 0.2)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    connection.settimeout(PATIENCE_S)
    found = b""
    while part := connection.recv(1 << 16):
        found += part
    return found


def answer_on(connection: socket.socket) -> bytes:
    """One answer, which comes in chunks."""
    found = b""
    while not found.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(1 << 16)
        assert part, found
        found += part
    return found


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Send byte by byte until the server has had enough; returns what it says."""
    connection.settimeout(0.02)
    found, end = b"", time.monotonic() + PATIENCE_S
    for place in range(1 << 20):
        assert time.monotonic() < end, "the server waits on"
        try:
            connection.sendall(data[place % len(data) : place % len(data) + 1])
            part = connection.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            return found
        if not part:
            return found
        found += part
    raise AssertionError("the server waits on")


def test_headers_that_come_byte_by_byte_are_given_up(short: None, address: Any) -> None:
    with socket.create_connection(address) as connection:
        said = drip(connection, HEAD[:-2] + b"x-more: " + b"x" * 1_000_000)
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_so_are_those_of_a_later_request_and_empty_lines(short: None, address: Any) -> None:
    for begin in (HEAD[:-2] + b"x-more: " + b"x" * 1_000_000, b"\r\n"):
        with socket.create_connection(address) as connection:
            connection.sendall(HEAD + BODY)
            connection.settimeout(PATIENCE_S)
            assert answer_on(connection).startswith(b"HTTP/1.1 200")
            assert b"HTTP/1.1 408 Request Timeout\r\n" in drip(connection, begin)


def test_connection_without_a_byte_is_closed(restless: None, address: Any) -> None:
    with socket.create_connection(address) as connection:
        assert rest_of(connection) == b""


def test_headers_without_an_end_are_refused(address: Any) -> None:
    with socket.create_connection(address) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(HEAD[:-2])
        said = b""
        try:
            for number in range(10_000):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1_000))
            raise AssertionError("ten megabytes of headers were taken")
        except ConnectionError:
            pass
        try:
            said = rest_of(connection)
        except ConnectionError:
            return  # what the server said was lost with the bytes that it had not read
    assert said in (b"", protocol._TOO_LARGE)


def test_many_headers_are_taken_nevertheless(address: Any) -> None:
    with socket.create_connection(address) as connection:
        connection.settimeout(PATIENCE_S)
        more = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1_000) for number in range(50))
        connection.sendall(HEAD[:-2] + more + b"\r\n" + BODY)
        assert answer_on(connection).startswith(b"HTTP/1.1 200")


def test_body_may_take_longer_than_headers(short: None, address: Any) -> None:
    with socket.create_connection(address) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(HEAD)
        for place in range(len(BODY)):
            time.sleep(0.02)  # longer in all than the limit of the headers
            connection.sendall(BODY[place : place + 1])
        assert answer_on(connection).startswith(b"HTTP/1.1 200")


def test_body_of_a_refused_request_is_no_headers(short: None, serve: Any, tmp_path: Path) -> None:
    """Who is refused before the body is read may send it to its end, and ask again."""
    (tmp_path / "keys.toml").write_text(entry(KEY, name="all", scopes=["recommend"]))
    large = 4 * protocol.HEADERS_BYTES_MAX
    head = HEAD.replace(str(len(BODY)).encode(), str(large).encode())
    with socket.create_connection(serve(api_keys_file=tmp_path / "keys.toml")) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(head)
        assert answer_on(connection).startswith(b"HTTP/1.1 401")
        for _ in range(4):
            connection.sendall(b"b" * (large // 4))
            time.sleep(0.1)  # longer in all than the limit of the headers
        keyed = HEAD[:-2] + f"authorization: Bearer {KEY}\r\n\r\n".encode()
        connection.sendall(keyed + BODY)
        assert answer_on(connection).startswith(b"HTTP/1.1 200")
