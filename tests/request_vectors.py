"""The shared request vectors: read, sent by the plain stubs, and compared. See
tests/data/requests/README.md for what is in them.

As a program it sends them all and writes down what came as what is expected:

    .venv/bin/python tests/request_vectors.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2
from vector_server import VectorServers, vector_servers

FOLDER = Path(__file__).parent / "data/requests"
PROTOS = (health_pb2, recommendation_pb2, conversation_pb2, bundle_pb2, catalog_pb2)
TIMEOUT_S = 60.0

_RULES = json.loads((FOLDER / "comparison.json").read_text())
TOLERANCE: float = _RULES["tolerance"]
VOLATILE = frozenset(_RULES["volatile"])
UNORDERED: Mapping[str, str] = _RULES["unordered"]


@dataclass(frozen=True)
class Vector:
    """A request, and what must come of it."""

    file: Path
    method: str
    """Full name: `shortlist.v1.RecommendationService/Recommend`."""
    request: Any
    server: str
    key: str
    expected: Any

    @property
    def name(self) -> str:
        return self.file.stem


def vectors() -> list[Vector]:
    """Return all vectors in the order in which they are to be sent."""
    return [
        _vector(file) for file in sorted(FOLDER.glob("[0-9]*.json"), key=lambda file: file.name)
    ]


def _vector(file: Path) -> Vector:
    held = json.loads(file.read_text(encoding="utf-8"))
    return Vector(
        file=file,
        method=held.pop("method"),
        request=held.pop("request"),
        server=held.pop("server", "main"),
        key=held.pop("key", "all"),
        **{"expected": None, **held},
    )


def send(vector: Vector, servers: VectorServers) -> Any:
    """Send a vector on a connection of its own; returns what came, as `expected` has it."""
    method = method_of(vector.method)
    request = json_format.ParseDict(vector.request, GetMessageClass(method.input_type)())
    metadata = ()
    if vector.key != "none":
        metadata = (("authorization", f"Bearer {servers.keys[vector.key]}"),)
    # Connections that there are stay with the worker that they reached.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(servers.targets[vector.server], options=options) as channel:
        call = (channel.unary_stream if method.server_streaming else channel.unary_unary)(
            f"/{vector.method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        try:
            answered = call(request, timeout=TIMEOUT_S, metadata=metadata)
            responses = list(answered) if method.server_streaming else [answered]
        except grpc.RpcError as error:
            return {"error": _error(error)}
    return {"responses": [json_format.MessageToDict(response) for response in responses]}


def method_of(name: str) -> MethodDescriptor:
    service, _, method = name.partition("/")
    found: MethodDescriptor = Default().FindServiceByName(service).methods_by_name[method]
    return found


def methods() -> list[str]:
    """Return the full names of all methods that have vectors: those of the protos, and health."""
    names = [
        f"{service.full_name}/{method.name}"
        for module in PROTOS[1:]
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    return [*names, "grpc.health.v1.Health/Check"]


def _error(error: Any) -> dict[str, Any]:
    status = Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        message: Message
        for message in (info, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return {
        "code": error.code().name,
        "reason": info.reason,
        "message": error.details(),
        "metadata": dict(info.metadata),
        "has_retry_delay": retry.HasField("retry_delay"),
    }


def differences(expected: Any, got: Any, *, method: str) -> list[str]:
    """Return where two answers differ, volatile fields aside; empty where they are equal."""
    return list(_differ(_in_order(expected, method), _in_order(got, method), ""))


def _in_order(answer: Any, method: str) -> Any:
    field = UNORDERED.get(method)
    if field is None or "responses" not in answer:
        return answer
    return {"responses": sorted(answer["responses"], key=lambda one: one.get(field, 0))}


def _differ(expected: Any, got: Any, path: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in sorted((expected.keys() | got.keys()) - VOLATILE):
            yield from _differ(expected.get(name), got.get(name), f"{path}.{name}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for place, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _differ(one, other, f"{path}[{place}]")
    elif not _equal(expected, got):
        yield f"{path.lstrip('.')}: expected {expected!r}, got {got!r}"


def _equal(expected: Any, got: Any) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, numbers) and isinstance(got, numbers):
        return abs(expected - got) <= TOLERANCE * max(1.0, abs(expected), abs(got))
    return bool(expected == got)


def without_volatile(answer: Any) -> Any:
    """Return an answer without what differs each time."""
    if isinstance(answer, dict):
        return {
            name: without_volatile(value) for name, value in answer.items() if name not in VOLATILE
        }
    if isinstance(answer, list):
        return [without_volatile(value) for value in answer]
    return answer


def main() -> None:
    """Write down what the server answers now."""
    with tempfile.TemporaryDirectory() as folder, vector_servers(Path(folder)) as servers:
        for vector in vectors():
            got = without_volatile(_in_order(send(vector, servers), vector.method))
            changed = vector.expected is None or differences(
                vector.expected, got, method=vector.method
            )
            if changed:
                held = json.loads(vector.file.read_text(encoding="utf-8"))
                text = json.dumps(held | {"expected": got}, indent=1, ensure_ascii=False)
                vector.file.write_text(f"{text}\n", encoding="utf-8")
            print(f"{vector.name}: {'written' if changed else 'as before'}")


if __name__ == "__main__":
    main()
