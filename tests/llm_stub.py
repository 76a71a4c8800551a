"""A language model on a real socket: Gemini's REST API and OpenAI's, for the providers' own SDKs.

It answers by a rule, reordering by default, and misbehaves as it is told (`llm_behaviours`):

    with LlmStub() as stub:
        stub.rule = reverse_handles("order")
        stub.behave(status(429, retry_delay_s=0.5), answer())  # the last one stays in force
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from llm_behaviours import Behaviour, answer, status
from llm_wire import GeminiWire, OpenAiWire, Wire

DIMENSION = 16
"""Of the embeddings, where the request asks for none."""
INPUT_TOKENS, OUTPUT_TOKENS = 120, 30
"""What the stub says that each call cost."""


@dataclass
class Asked:
    """A request, and what became of it."""

    path: str
    headers: Mapping[str, str]
    body: Any
    use: str
    """`complete`, `stream` or `embed`."""
    model: str
    messages: list[tuple[str, str]]
    """Role (system, user or assistant) and text."""
    schema: Mapping[str, Any] | None
    texts: list[str]
    """What is to be embedded."""
    began: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    """Whether the caller closed the connection before the answer."""

    @property
    def prompt(self) -> str:
        return "\n".join(text for _, text in self.messages)

    @property
    def data(self) -> Any:
        """The largest JSON object or array in what users said; None if there is none."""
        found = [
            block for role, text in self.messages if role == "user" for block in json_blocks(text)
        ]
        return max(found, key=lambda block: len(json.dumps(block)), default=None)


def json_blocks(text: str) -> Iterator[Any]:
    """Yield the JSON objects and arrays in a text, outermost only."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at] in "{[":
            with contextlib.suppress(ValueError):
                block, at = decoder.raw_decode(text, at)
                yield block
                continue
        at += 1


Rule = Callable[[Asked], Any]
"""What a model would answer: an object, or a text where text is streamed."""


def by_schema(asked: Asked) -> Any:
    """The smallest value of the schema that was asked for; `{}` without one."""
    return _instance(asked.schema or {"type": "object"})


def _instance(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            wanted = schema.get("required", ())
            return {name: _instance(schema["properties"][name]) for name in wanted}
        case "array":
            return [_instance(schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return ""


def reverse_handles(name: str, *, candidates: str = "candidates", handle: str = "handle") -> Rule:
    """A rule: the handles of the prompt's candidates, last first, as a list of this name."""

    def rule(asked: Asked) -> Any:
        return {name: [one[handle] for one in reversed(asked.data[candidates])]}

    return rule


def rate_by_number(asked: Asked) -> Any:
    """A rule: each of the prompt's items has the rating of its title, wherever it stands."""
    return {
        "ratings": [
            {"handle": one["handle"], "rating": rating_of_title(one["title"])}
            for one in asked.data["items"]
        ]
    }


def rating_of_title(title: str) -> float:
    """1.1..4.9 by the number that it holds: neighbours are far from each other."""
    number = int("".join(filter(str.isdigit, title)) or 0) * 7 % 39
    return round(1.1 + number / 10, 1)


def say_back(asked: Asked) -> str:
    """What is streamed by default: the last thing said, in capitals."""
    return asked.messages[-1][1].upper()


class LlmStub:
    """The server. `gemini_url` and `openai_url` are for the SDKs' base URLs."""

    def __init__(self) -> None:
        self.rule: Rule = by_schema
        self.talk: Rule = say_back
        self.choose: Callable[[Asked], Behaviour | None] = lambda asked: None
        """How a request is met; None leaves it to what `behave` was told."""
        self.key: str | None = None
        """The key that is asked for; None takes any."""
        self.asked: list[Asked] = []
        self._script: list[Behaviour] = [answer()]
        self._changed = threading.Condition()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.gemini_url = f"http://127.0.0.1:{self._server.server_port}"
        self.openai_url = f"{self.gemini_url}/v1"

    def behave(self, *behaviours: Behaviour) -> None:
        """Meet the next requests so; the last one stays in force."""
        with self._changed:
            self._script = list(behaviours)

    def take(self, asked: Asked) -> Behaviour:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
            if (chosen := self.choose(asked)) is not None:
                return chosen
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def note_cancelled(self, asked: Asked) -> None:
        with self._changed:
            asked.cancelled = True
            self._changed.notify_all()

    def wait_asked(self, count: int = 1) -> None:
        """Wait until so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, timeout=20)

    def wait_cancelled(self, count: int = 1) -> None:
        """Wait until the callers of so many requests have closed the connection."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(one.cancelled for one in self.asked) >= count, timeout=20
            )

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LlmStub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def embedding(text: str, dimension: int) -> list[float]:
    """The stub's point of a text: the same for the same text, not of unit length."""
    numbers: list[float] = []
    while len(numbers) < dimension:
        digest = hashlib.sha256(f"{len(numbers)} {text}".encode()).digest()
        numbers += [one - 127.5 for one in digest]
    return numbers[:dimension]


def _altered(value: Any, kind: str) -> Any:
    if isinstance(value, dict):
        return {name: _altered(one, kind) for name, one in value.items()}
    if isinstance(value, list) and value:
        if kind == "foreign":
            first = value[0]
            if isinstance(first, dict) and "handle" in first:
                return [{**first, "handle": "nobody sent this"}, *value[1:]]
            return ["nobody sent this" if isinstance(first, str) else -1, *value[1:]]
        return [value[0], *([value[0]] if len(value) > 1 else []), *value[2:]]
    return value


def _handler(stub: LlmStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes: the second would wait for the first to be acknowledged.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            wire: Wire = OpenAiWire() if self.path.startswith("/v1/") else GeminiWire()
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(path=self.path, headers=headers, body=body, **wire.read(self.path, body))
            behaviour = stub.take(asked)
            if stub.key is not None and wire.key(headers) != stub.key:
                behaviour = status(wire.unauthorized)
            if behaviour.delay_s and self._left(asked, behaviour.delay_s):
                return
            if behaviour.kind == "reset" and asked.use != "stream":
                self._reset()
            elif behaviour.kind == "hang" and asked.use != "stream":
                self._left(asked)
            elif behaviour.kind == "status":
                leak = f"key {wire.key(headers)} may not ask {asked.prompt!r}"
                error, more = wire.error(behaviour.status, leak, behaviour.retry_delay_s)
                self._send(behaviour.status, json.dumps(error).encode(), more)
            elif asked.use == "stream":
                self._stream(asked, behaviour, wire)
            else:
                self._send(200, self._whole(asked, behaviour, wire))

        def _whole(self, asked: Asked, behaviour: Behaviour, wire: Wire) -> bytes:
            kind = behaviour.kind
            if kind == "broken_body":
                return b"<html>this is no JSON</html>"
            if asked.use == "embed":
                return self._embedded(asked, behaviour, wire)
            if kind in ("blocked_prompt", "empty"):
                return json.dumps(wire.no_answer(blocked=kind == "blocked_prompt")).encode()
            right = stub.rule(asked)
            text = json.dumps(_altered(right, kind) if kind in ("duplicate", "foreign") else right)
            text = {
                "broken_json": text[: len(text) // 2] + " and so on",
                "truncated": text[: len(text) // 2],
                "wrong_schema": '{"neither": ["asked", "for"]}',
                "blocked": "",
                "empty_text": "",
                "huge": '{"text": "' + "x" * behaviour.size_bytes + '"}',
            }.get(kind, text)
            end = {"truncated": "length", "blocked": "blocked"}.get(kind, "stop")
            return json.dumps(wire.answer(text, end, INPUT_TOKENS, OUTPUT_TOKENS)).encode()

        def _embedded(self, asked: Asked, behaviour: Behaviour, wire: Wire) -> bytes:
            dimension = wire.dimension(asked.body) or DIMENSION
            points = [embedding(text, dimension) for text in asked.texts]
            if behaviour.kind in ("empty", "truncated"):
                points = points[:-1]
            elif behaviour.kind == "wrong_schema":
                points = [point[:-1] for point in points]
            elif behaviour.kind == "huge":
                points = [embedding("", behaviour.size_bytes // 4)]
            elif behaviour.kind == "not_finite":
                points = [[math.nan, *point[1:]] for point in points]
            body = json.dumps(wire.embedded(points, INPUT_TOKENS)).encode()
            return body[: len(body) // 2] if behaviour.kind == "broken_json" else body

        def _stream(self, asked: Asked, behaviour: Behaviour, wire: Wire) -> None:
            kind = behaviour.kind
            text = stub.talk(asked)
            half = len(text) // 2
            pieces = [text[:half], text[half:]]
            self.send_response(200)
            sse = wire.sse(self.path)
            self.send_header("content-type", "text/event-stream" if sse else "application/json")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            if kind == "blocked_prompt" or kind == "empty":
                blocked = kind == "blocked_prompt"
                self._chunks([wire.no_answer(blocked=blocked, stream=True)], wire, sse)
                return
            self._chunk(wire.piece(pieces[0]), sse, first=True)
            if kind == "hang":
                self._left(asked)
            elif kind == "reset":
                self._reset()
            elif kind in ("broken_json", "broken_body"):
                self.wfile.write(b'data: {"cand\n\n' if sse else b', {"cand')
            elif kind == "huge":
                for _ in range(behaviour.size_bytes // (1 << 16) + 1):
                    self._chunk(wire.piece("x" * (1 << 16)), sse)
                self._chunks(wire.end("stop", INPUT_TOKENS, OUTPUT_TOKENS), wire, sse, first=False)
            elif kind == "unfinished":
                self.wfile.write(b"" if sse else b"]")
            else:
                end = {"truncated": "length", "blocked": "blocked"}.get(kind, "stop")
                self._chunk(wire.piece(pieces[1]), sse)
                self._chunks(wire.end(end, INPUT_TOKENS, OUTPUT_TOKENS), wire, sse, first=False)

        def _chunks(self, chunks: list[Any], wire: Wire, sse: bool, first: bool = True) -> None:
            for chunk in chunks:
                self._chunk(chunk, sse, first=first)
                first = False
            self.wfile.write(wire.stream_end if sse else b"]")

        def _chunk(self, chunk: Any, sse: bool, first: bool = False) -> None:
            line = json.dumps(chunk).encode()
            self.wfile.write(b"data: %s\n\n" % line if sse else (b"[" if first else b",") + line)

        def _send(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _left(self, asked: Asked, for_s: float = 3_600.0) -> bool:
            """Wait; whether the caller closed the connection meanwhile, or the stub ended."""
            until = time.monotonic() + for_s
            while (rest := until - time.monotonic()) > 0 and not stub.closing.is_set():
                readable, _, _ = select.select([self.connection], [], [], min(rest, 0.01))
                if readable and not self._peek():
                    stub.note_cancelled(asked)
                    self.close_connection = True
                    return True
            return stub.closing.is_set()

        def _peek(self) -> bytes:
            try:
                return self.connection.recv(1, socket.MSG_PEEK)
            except OSError:
                return b""

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler
