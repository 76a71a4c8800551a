"""How each peer is asked: by `Recommend`, by the open inference protocol, or by JSON over HTTP.

Requests are made once and sent as bytes, and answers are read only where they are compared: what is
measured is to be the servers.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from serving import TIMEOUT_S
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

LIMIT = 20
EF = 200
"""Width of a search, as the peers have it (peers/peer_funnel.py): at least the candidates."""
ATTEMPT_S = 5.0

Items: TypeAlias = tuple[list[str], list[float]]
"""Ids and scores, best first."""


class Wire(Protocol):
    """A way to ask."""

    def request(self, user_id: str, candidate_count: int) -> bytes:
        """Return a request."""

    def items(self, answer: bytes) -> Items:
        """Return what an answer says."""

    async def connect(self, port: int, count: int) -> None:
        """Connect so many times to a server; must come first."""

    async def ask(self, request: bytes, caller: int) -> bytes:
        """Return the answer, asked on the connection of a caller."""

    async def close(self) -> None:
        """Hang up."""


class _GrpcWire:
    """What goes by gRPC."""

    method: str

    async def connect(self, port: int, count: int) -> None:
        """Connect; see `Wire`."""
        self._channels = [
            grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(count)
        ]
        self._calls: list[Any] = [channel.unary_unary(self.method) for channel in self._channels]

    async def ask(self, request: bytes, caller: int) -> bytes:
        """Return the answer; see `Wire`."""
        answer: bytes = await self._calls[caller % len(self._calls)](request, timeout=TIMEOUT_S)
        return answer

    async def close(self) -> None:
        """Hang up."""
        for channel in self._channels:
            await channel.close()


class RecommendWire(_GrpcWire):
    """Shortlist's own call."""

    method = "/shortlist.v1.RecommendationService/Recommend"

    def request(self, user_id: str, candidate_count: int) -> bytes:
        """Return a request; see `Wire`."""
        return pb.RecommendRequest(
            query=types.Query(user=types.UserQuery(id=user_id)),
            limit=LIMIT,
            # Left to itself Shortlist may scan: it measures what either way costs when it starts.
            retrieval=types.RetrievalOptions(
                candidate_count=candidate_count, ef=max(EF, candidate_count)
            ),
        ).SerializeToString()

    def items(self, answer: bytes) -> Items:
        """Return what an answer says; see `Wire`."""
        items = pb.RecommendResponse.FromString(answer).items
        return [item.id for item in items], [item.score for item in items]


class NoopWire(_GrpcWire):
    """The empty call."""

    method = "/noop.Noop/Call"

    def request(self, user_id: str, candidate_count: int) -> bytes:
        """Return a request; see `Wire`."""
        return b""

    def items(self, answer: bytes) -> Items:
        """Return what an answer says; see `Wire`."""
        return [], []


class InferWire(_GrpcWire):
    """The open inference protocol, which Triton, KServe and MLServer speak over gRPC."""

    method = "/inference.GRPCInferenceService/ModelInfer"

    def __init__(self) -> None:
        self._request, self._response = _infer_messages()

    def request(self, user_id: str, candidate_count: int) -> bytes:
        """Return a request; see `Wire`."""
        user = user_id.encode()
        request = self._request(model_name="recommend")
        for name, datatype in (("user_id", "BYTES"), ("candidate_count", "INT32")):
            request.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<I", len(user)) + user)
        request.raw_input_contents.append(struct.pack("<i", candidate_count))
        content: bytes = request.SerializeToString()
        return content

    def items(self, answer: bytes) -> Items:
        """Return what an answer says; see `Wire`."""
        response = self._response.FromString(answer)
        ids: list[str] = []
        scores: list[float] = []
        for place, output in enumerate(response.outputs):
            raw = response.raw_output_contents[place] if response.raw_output_contents else b""
            if output.name == "id":
                texts = _texts(raw) if raw else output.contents.bytes_contents
                ids = [text.decode() for text in texts]
            else:
                floats = struct.unpack(f"<{len(raw) // 4}f", raw)
                scores = list(floats or output.contents.fp32_contents)
        return ids, scores


class JsonWire:
    """JSON over HTTP/1.1, on connections that are kept."""

    def __init__(self, path: str = "/recommend") -> None:
        self._path = path

    def request(self, user_id: str, candidate_count: int) -> bytes:
        """Return a request; see `Wire`."""
        body = json.dumps(
            {"user_id": user_id, "candidate_count": candidate_count, "limit": LIMIT}
        ).encode()
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def items(self, answer: bytes) -> Items:
        """Return what an answer says; see `Wire`."""
        found = json.loads(answer)
        return found["ids"], found["scores"]

    async def connect(self, port: int, count: int) -> None:
        """Connect; see `Wire`."""
        self._streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]

    async def ask(self, request: bytes, caller: int) -> bytes:
        """Return the answer; see `Wire`."""
        reader, writer = self._streams[caller % len(self._streams)]
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise OSError(head.partition(b"\r\n")[0].decode())
        _, sized, rest = head.partition(b"content-length:")
        if sized:
            return await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        content = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return content

    async def close(self) -> None:
        """Hang up."""
        for _, writer in self._streams:
            writer.close()


async def answered(wire: Wire, port: int, request: bytes) -> bytes | None:
    """Return the answer to a request on a connection of its own; None where there is none yet."""
    try:
        await wire.connect(port, 1)
        return await asyncio.wait_for(wire.ask(request, 0), ATTEMPT_S)
    except (OSError, EOFError, TimeoutError, grpc.aio.AioRpcError):
        return None
    finally:
        if hasattr(wire, "_channels") or hasattr(wire, "_streams"):
            await wire.close()


def _texts(raw: bytes) -> list[bytes]:
    """Return the texts of a tensor: each after its size."""
    texts, place = [], 0
    while place < len(raw):
        (size,) = struct.unpack_from("<I", raw, place)
        texts.append(raw[place + 4 : place + 4 + size])
        place += 4 + size
    return texts


def _infer_messages() -> tuple[Any, Any]:
    """Return the classes of ModelInfer's request and response, with what is used of them.

    Written here because the packages that have them pin another protobuf.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference.proto", package="inference", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, Any, bool]) -> None:
        described = file.message_type.add(name=name)
        for key, number, kind, repeated in fields:
            added = described.field.add(name=key, number=number)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = field.TYPE_MESSAGE, f".inference.{kind}"
            else:
                added.type = kind

    text, whole, binary = field.TYPE_STRING, field.TYPE_INT64, field.TYPE_BYTES
    message(
        "Contents",
        ("fp32_contents", 6, field.TYPE_FLOAT, True),
        ("bytes_contents", 8, binary, True),
    )
    tensor = ("name", 1, text, False), ("datatype", 2, text, False), ("shape", 3, whole, True)
    message("Tensor", *tensor, ("contents", 5, "Contents", False))
    message(
        "Request",
        ("model_name", 1, text, False),
        ("inputs", 5, "Tensor", True),
        ("raw_input_contents", 7, binary, True),
    )
    message("Response", ("outputs", 5, "Tensor", True), ("raw_output_contents", 6, binary, True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}"))
        for name in ("Request", "Response")
    )
    return request, response
