"""What a call over HTTP costs beside one over gRPC.

    python benchmarks/http_call.py       (make bench-http)

20,000 x 64 items behind one server. One caller asks in turn, by gRPC, by JSON and by Connect's
binary format over HTTP/1.1, each on a connection that it keeps: 20 items for a user with a history.
The callers over HTTP are sockets that are written to and read, so that what is measured is the
server, not a library of the client. Writes benchmarks/results/http_call.json.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import synthetic
from bench import machine
from google.protobuf import json_format
from serving import percentiles, serving
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/http_call.json"
ITEMS, DIMENSION = 20_000, 64
PATH = "/shortlist.v1.RecommendationService/Recommend"
WARM_UP = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2_000, help="of each kind")
    arguments = parser.parse_args()
    bundle = synthetic.bundle(ITEMS, DIMENSION)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--http", address]
    command += ["--drain-notice-ms", "0", "--log-level", "error"]
    with serving(command) as target:
        result = _measure(target, address, arguments.calls)
    report = {"machine": machine(), "items": ITEMS, "calls": arguments.calls, **result}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


def _measure(target: str, address: str, calls: int) -> dict[str, Any]:
    host, port = address.split(":")
    with (
        grpc.insecure_channel(target) as channel,
        socket.create_connection((host, int(port))) as by_json,
        socket.create_connection((host, int(port))) as by_proto,
    ):
        stub: Any = RecommendationServiceStub(channel)
        kinds: list[tuple[str, Callable[[int], float]]] = [
            ("grpc", lambda number: _grpc(stub, number)),
            ("http json", lambda number: _json(by_json, number)),
            ("http proto", lambda number: _proto(by_proto, number)),
        ]
        for number in range(WARM_UP):
            for _, ask in kinds:
                ask(number)
        spent: dict[str, list[float]] = {kind: [] for kind, _ in kinds}
        for number in range(calls):
            # Each kind comes after each other one as often.
            for kind, ask in kinds[number % 3 :] + kinds[: number % 3]:
                spent[kind].append(ask(number) * 1e3)
    times = {kind: percentiles(values) for kind, values in spent.items()}
    added = {kind: times[kind]["p50"] - times["grpc"]["p50"] for kind, _ in kinds[1:]}
    return {"ms": times, "added_ms_p50": added}


def _request(number: int) -> pb.RecommendRequest:
    history = [types.HistoryEvent(item_id=f"item-{number + place}") for place in range(10)]
    user = types.UserQuery(id=f"user-{number % 10_000}", history=history)
    query = types.Query(user=user)
    return pb.RecommendRequest(query=query, limit=20)


def _grpc(stub: Any, number: int) -> float:
    request = _request(number)
    begin = time.perf_counter()
    answer = stub.Recommend(request, timeout=10)
    spent = time.perf_counter() - begin
    assert len(answer.items) == 20
    return spent


def _json(connection: socket.socket, number: int) -> float:
    request = json_format.MessageToDict(_request(number))
    begin = time.perf_counter()
    answer = json.loads(_post(connection, "application/json", json.dumps(request).encode()))
    spent = time.perf_counter() - begin
    assert len(answer["items"]) == 20
    return spent


def _proto(connection: socket.socket, number: int) -> float:
    request = _request(number)
    begin = time.perf_counter()
    body = _post(connection, "application/proto", request.SerializeToString())
    answer = pb.RecommendResponse.FromString(body)
    spent = time.perf_counter() - begin
    assert len(answer.items) == 20
    return spent


def _post(connection: socket.socket, kind: str, body: bytes) -> bytes:
    """Send a request; returns the body of the answer, which is one chunk."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\n"
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        answer += connection.recv(1 << 16)
    told, _, chunked = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200"), told
    size, _, rest = chunked.partition(b"\r\n")
    return rest[: int(size, 16)]


if __name__ == "__main__":
    main()
