"""Arbitrary bytes and random messages, many at once, to every method of a server process.

`make test` sends a few thousand, `make test-faults` 100,000.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import tiny_world
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from random_messages import RandomMessages, nearly
from serving_process import COMMAND
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
COUNT = int(os.environ.get("SHORTLIST_FAULTS_REQUESTS") or (100_000 if FULL else 5_000))
SEED = os.environ.get("SHORTLIST_SEED") or "20261"
CONCURRENCY = 48
TIMEOUT_S = 60.0
"""Deadline of calls that are to be answered, however busy the machine is."""
GROWTH_BYTES_MAX = 64 << 20
"""Most by which the server grows after the first tenth of the requests."""
STORE = "catalog.sqlite"
WAITING = ("--wait-ms-max", "60000", "--wait-ms-standing", "60000")
SETTINGS = {
    "in the loop": WAITING,
    "with items that change": (*WAITING, "--catalog-store", STORE),
    "in threads": (
        *(*WAITING, "--compute-threads", "2", "--exact-items-max", "0"),
        *("--recall-share", "0.1", "--filter-cache-bytes", "100000"),
    ),
}
CHANGING = "with items that change"
OF_ADMINS = ("ListBundles", "ActivateBundle", "RollBackBundle", "DeactivateBundle")
CHANGES = ("UpsertItems", "DeleteItems")
METHODS: list[MethodDescriptor] = [
    method
    for file in (recommendation_pb2, bundle_pb2, catalog_pb2, conversation_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name not in OF_ADMINS
]
OTHERS: list[MethodDescriptor] = [
    # Refused without a key.
    *(
        method
        for method in bundle_pb2.DESCRIPTOR.services_by_name["BundleService"].methods
        if method.name in OF_ADMINS
    ),
    *health_pb2.DESCRIPTOR.services_by_name["Health"].methods,
    *reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods,
]
ROW_ENDS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE,  # `min_revision`
    grpc.StatusCode.FAILED_PRECONDITION,  # a label that no bundle has
}
ENDS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OK,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
OTHERS_ENDS = ENDS | {grpc.StatusCode.UNKNOWN, grpc.StatusCode.PERMISSION_DENIED}
"""How calls of health and reflection may end, which answer bytes that are no message in the way of
their packages."""
IN_A_HURRY = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
CODES = {code.value[0]: code for code in grpc.StatusCode}
PROBE = pb.RecommendRequest(
    query=types.Query(user=types.UserQuery(id="u3")),
    limit=7,
    filter=types.Filter(exists=types.ExistsCondition(attribute="year")),
)
KNOWN = {f"i{row}" for row in range(tiny_world.ITEM_COUNT)}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One call: what is sent, and how long it is waited for."""

    number: int
    path: str
    method: MethodDescriptor
    data: bytes
    timeout_s: float
    cancelled_after_s: float | None

    @property
    def in_a_hurry(self) -> bool:
        return self.timeout_s < TIMEOUT_S or self.cancelled_after_s is not None


def sent(setting: str, number: int) -> Sent:
    """Return the call of a number, which can be made again by itself."""
    draw = random.Random(f"{SEED}/{setting}/{number}")
    method = draw.choice(METHODS if draw.random() < 0.95 else OTHERS)
    messages = RandomMessages(draw, draw.choice((0.0, 0.0, 0.005, 0.02, 0.2)))
    data = messages.of(method.input_type).SerializeToString()
    if draw.random() < 0.3:
        data = nearly(data, draw)
    if draw.random() < 0.0005:
        data += b"\x9a\x3f" + b"\x80\x80\x80\x02" + bytes(4 << 20)  # too much for the server
    path = f"/{method.containing_service.full_name}/{method.name}"
    if draw.random() < 0.005:
        path += draw.choice(("s", "/x", "?"))
    hurry = draw.random()
    return Sent(
        number=number,
        path=path,
        method=method,
        data=data,
        timeout_s=draw.choice((0.001, 0.005, 0.02)) if hurry < 0.04 else TIMEOUT_S,
        cancelled_after_s=draw.choice((0.0, 0.001, 0.01)) if 0.04 < hurry < 0.07 else None,
    )


class Server:
    """A server process whose log goes to a file."""

    def __init__(self, bundle: Path, log: Path, settings: tuple[str, ...]) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--bundle", str(bundle), "--listen", "127.0.0.1:0", *settings],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready on port "), self.log
        self.target = f"127.0.0.1:{line.split()[-1]}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) << 10

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(params=list(SETTINGS))
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path, setting: str) -> Iterator[Server]:
    own = (str(tmp_path / one) if one == STORE else one for one in SETTINGS[setting])
    settings = ("--drain-notice-ms", "0", *own)
    running = Server(tiny_bundle, tmp_path / "log", settings)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.communicate()


class Fuzz:
    """Sends calls and looks at how they end."""

    def __init__(self, channel: grpc.aio.Channel, setting: str) -> None:
        self._channel = channel
        self._setting = setting
        self.ends = Counter[str]()
        self.wrong = list[str]()

    async def run(self, numbers: range) -> None:
        """Send the calls of some numbers, many at once, and see that others are answered."""
        waiting = iter(numbers)

        async def work() -> None:
            for number in waiting:
                await self.one(sent(self._setting, number))
                if number % 500 == 0:
                    await self.probe()

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    async def probe(self) -> list[str]:
        """Ask something well-formed; it is answered, and always the same."""
        stub = self._channel.unary_unary(
            "/shortlist.v1.RecommendationService/Recommend",
            request_serializer=pb.RecommendRequest.SerializeToString,
            response_deserializer=pb.RecommendResponse.FromString,
        )
        answer = await stub(PROBE, timeout=TIMEOUT_S)
        self.ends["probes"] += 1
        return [item.id for item in answer.items]

    async def one(self, asked: Sent) -> None:
        """Send one call."""
        code, details, answers = await self._end(asked)
        self.ends[code.name if asked.method in METHODS else f"others {code.name}"] += 1
        ends = ENDS if asked.method in METHODS else OTHERS_ENDS
        if asked.in_a_hurry or asked.method.client_streaming:
            ends |= IN_A_HURRY
        read_only = self._setting != CHANGING and asked.method.name in CHANGES
        if read_only and code is grpc.StatusCode.FAILED_PRECONDITION:
            return
        # Revisions that nobody has written yet.
        if code is grpc.StatusCode.UNAVAILABLE and "min_revision" in (details or ""):
            return
        if code not in ends:
            self._note(asked, f"ends {code.name} {details}")
        for answer in answers:
            self._look(asked, GetMessageClass(asked.method.output_type).FromString(answer))

    async def _end(self, asked: Sent) -> tuple[grpc.StatusCode, str | None, list[bytes]]:
        answers: list[bytes] = []
        call: Any = self._call(asked)
        if asked.cancelled_after_s is not None:
            asyncio.get_running_loop().call_later(asked.cancelled_after_s, call.cancel)
        try:
            if asked.method.server_streaming:
                async for answer in call:
                    answers.append(answer)  # what came before an error counts
                    if asked.method.name == "Watch":  # which never ends by itself
                        call.cancel()
                        return grpc.StatusCode.OK, None, answers
            else:
                answers.append(await call)
        except grpc.aio.AioRpcError as error:
            # What the client says where it writes to a call that has ended.
            if error.details() == "Internal error from Core" and asked.method.client_streaming:
                return grpc.StatusCode.CANCELLED, None, answers
            return error.code(), error.details(), answers
        except asyncio.CancelledError:
            return grpc.StatusCode.CANCELLED, None, answers
        return grpc.StatusCode.OK, None, answers

    def _call(self, asked: Sent) -> Any:
        plain: Any = {"request_serializer": bytes, "response_deserializer": bytes}
        if asked.method.client_streaming:

            async def requests() -> AsyncIterator[bytes]:
                yield asked.data

            stub = self._channel.stream_stream(asked.path, **plain)
            return stub(requests(), timeout=asked.timeout_s)
        streams = asked.method.server_streaming
        make = self._channel.unary_stream if streams else self._channel.unary_unary
        return make(asked.path, **plain)(asked.data, timeout=asked.timeout_s)

    def _look(self, asked: Sent, answer: Any) -> None:
        """See that an answer is none of a fault."""
        if asked.method.name == "BatchRecommend":
            if answer.WhichOneof("result") == "error":
                code = CODES[answer.error.code]
                self.ends[f"row {code.name}"] += 1
                if code not in ROW_ENDS:
                    self._note(asked, f"row {answer.index} ends {code.name}")
                return
            self.ends["row OK"] += 1
        held = answer.response if hasattr(answer, "response") else answer
        if asked.method.name == "Converse":
            held = answer.items
        if not hasattr(held, "items"):
            return
        self.ends["lists with items"] += bool(held.items)
        ids = [item.id for item in held.items]
        unknown = set(ids) - KNOWN if self._setting != CHANGING else set()
        if len(set(ids)) != len(ids) or unknown:
            self._note(asked, f"answers {ids}")
        for left_out in held.info.degraded:
            if left_out.reason == types.DEGRADED_REASON_FAILED:
                self._note(asked, f"left out: {left_out.message}")

    def _note(self, asked: Sent, problem: str) -> None:
        kind = "message" if len(asked.data) < 10**4 else f"{len(asked.data)} bytes"
        hurry = ", in a hurry" if asked.in_a_hurry else ""
        self.wrong.append(
            f"{asked.number} {asked.path} {kind} {asked.data[:200]!r}{hurry}: {problem}"
        )


async def test_no_bytes_and_no_message_are_a_fault(server: Server, setting: str) -> None:
    begin, count = time.monotonic(), COUNT // len(SETTINGS)
    async with grpc.aio.insecure_channel(server.target) as channel:
        fuzz = Fuzz(channel, setting)
        expected = await fuzz.probe()
        assert len(expected) == 7
        await fuzz.run(range(count // 10))
        warm = server.memory_bytes
        await fuzz.run(range(count // 10, count))
        grown = server.memory_bytes - warm
        assert await fuzz.probe() == expected or setting == CHANGING
    print(
        f"{count} requests {setting}, seed {SEED}, in {time.monotonic() - begin:.0f} s, "
        f"memory {warm >> 20} MiB and {grown / 2**20:+.1f} MiB: {dict(fuzz.ends.most_common())}"
    )
    assert server.process.poll() is None
    assert not fuzz.wrong, "\n".join([f"{len(fuzz.wrong)} of seed {SEED}:", *fuzz.wrong[:50]])
    assert grown < GROWTH_BYTES_MAX
    assert server.end() == 0
    assert not faults_in(server.log)
    # A good share got through to the funnel, and each kind of end was seen.
    assert fuzz.ends["lists with items"] > count / 20
    assert fuzz.ends["INVALID_ARGUMENT"] > count / 5
    for name in ("NOT_FOUND", "UNIMPLEMENTED", "DEADLINE_EXCEEDED", "CANCELLED"):
        assert fuzz.ends[name] > 0, name


def faults_in(log: str) -> list[str]:
    """Return the entries that tell of a fault, but for those of health and reflection."""
    # grpc.aio has the latter two for answers and errors that it could not send, since the caller
    # had gone. How calls end whose callers stay is looked at call by call.
    passed_over = (
        "servicer method [/grpc.",
        "Failed sending error status from server",
        "ExecuteBatchError raised in core by servicer method",
    )
    return [
        entry[:2_000]
        for entry in re.split(r"(?m)^(?=\d{4}-\d\d-\d\d )", log)
        if ("Traceback" in entry or " ERROR " in entry)
        and not any(words in entry for words in passed_over)
    ]
