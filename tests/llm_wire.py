"""What Gemini's REST API and OpenAI's look like, for `llm_stub`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit


class Wire(Protocol):
    """One API."""

    stream_end: bytes
    unauthorized: int

    def read(self, path: str, body: Any) -> dict[str, Any]:
        """Fields of `Asked`."""

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that the caller sent."""

    def sse(self, path: str) -> bool:
        """Whether a stream comes as server-sent events; else as one JSON array."""

    def answer(self, text: str, end: str, input_tokens: int, output_tokens: int) -> Any:
        """A whole answer, ended by `stop`, `length` or `blocked`."""

    def no_answer(self, *, blocked: bool, stream: bool = False) -> Any:
        """A response without an answer."""

    def piece(self, text: str) -> Any:
        """A piece of a stream."""

    def end(self, end: str, input_tokens: int, output_tokens: int) -> list[Any]:
        """What a stream ends with."""

    def error(
        self, status: int, message: str, retry_delay_s: float | None
    ) -> tuple[Any, dict[str, str]]:
        """Body and headers of an error."""

    def dimension(self, body: Any) -> int | None:
        """Of the embeddings that are asked for."""

    def embedded(self, points: list[list[float]], input_tokens: int) -> Any:
        """The response to texts."""


class GeminiWire:
    """https://ai.google.dev/api"""

    stream_end = b""
    unauthorized = 400  # a wrong key is INVALID_ARGUMENT there

    def read(self, path: str, body: Any) -> dict[str, Any]:
        model, _, method = urlsplit(path).path.rpartition("/models/")[2].partition(":")
        parts = [("system", body["systemInstruction"])] if body.get("systemInstruction") else []
        parts += [(one.get("role", "user"), one) for one in body.get("contents", ())]
        roles = {"model": "assistant"}
        config = body.get("generationConfig", {})
        uses = {"generateContent": "complete", "streamGenerateContent": "stream"}
        embeds = body.get("requests", [body] if method == "embedContent" else [])
        return {
            "use": uses.get(method, "embed"),
            "model": model,
            "messages": [(roles.get(role, role), _text(content)) for role, content in parts],
            "schema": config.get("responseJsonSchema") or lowered(config.get("responseSchema")),
            "texts": [_text(one["content"]) for one in embeds],
        }

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-goog-api-key", "")

    def sse(self, path: str) -> bool:
        return parse_qs(urlsplit(path).query).get("alt") == ["sse"]

    def answer(self, text: str, end: str, input_tokens: int, output_tokens: int) -> Any:
        candidate: dict[str, Any] = {
            "index": 0,
            "finishReason": {"stop": "STOP", "length": "MAX_TOKENS", "blocked": "SAFETY"}[end],
        }
        if end != "blocked":
            candidate["content"] = {"role": "model", "parts": [{"text": text}] if text else []}
        return {
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": input_tokens,
                "candidatesTokenCount": output_tokens,
                "totalTokenCount": input_tokens + output_tokens,
            },
            "modelVersion": "stub",
        }

    def no_answer(self, *, blocked: bool, stream: bool = False) -> Any:
        feedback = {"promptFeedback": {"blockReason": "SAFETY"}} if blocked else {}
        return {"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}} | feedback

    def piece(self, text: str) -> Any:
        content = {"role": "model", "parts": [{"text": text}]}
        return {"candidates": [{"index": 0, "content": content}]}

    def end(self, end: str, input_tokens: int, output_tokens: int) -> list[Any]:
        return [self.answer("", end, input_tokens, output_tokens)]

    def error(
        self, status: int, message: str, retry_delay_s: float | None
    ) -> tuple[Any, dict[str, str]]:
        names = {
            400: "INVALID_ARGUMENT",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
            503: "UNAVAILABLE",
        }
        details = []
        if retry_delay_s is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{retry_delay_s:g}s"})
        name = names.get(status, "INTERNAL")
        error = {"code": status, "message": message, "status": name, "details": details}
        return {"error": error}, {}

    def dimension(self, body: Any) -> int | None:
        first = body.get("requests", [body])[0]
        return first.get("outputDimensionality")

    def embedded(self, points: list[list[float]], input_tokens: int) -> Any:
        return {"embeddings": [{"values": point} for point in points]}


class OpenAiWire:
    """https://platform.openai.com/docs/api-reference"""

    stream_end = b"data: [DONE]\n\n"
    unauthorized = 401

    def read(self, path: str, body: Any) -> dict[str, Any]:
        texts = body.get("input", []) if path.endswith("/embeddings") else []
        use = "stream" if body.get("stream") else "complete"
        return {
            "use": "embed" if path.endswith("/embeddings") else use,
            "model": body["model"],
            "messages": [(one["role"], one["content"]) for one in body.get("messages", ())],
            "schema": body.get("response_format", {}).get("json_schema", {}).get("schema"),
            "texts": [texts] if isinstance(texts, str) else texts,
        }

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def sse(self, path: str) -> bool:
        return True

    def answer(self, text: str, end: str, input_tokens: int, output_tokens: int) -> Any:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self._end(end)}
        usage = {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }
        envelope = {"id": "1", "object": "chat.completion", "created": 1, "model": "stub"}
        return {**envelope, "choices": [choice], "usage": usage}

    def no_answer(self, *, blocked: bool, stream: bool = False) -> Any:
        kind = "chat.completion.chunk" if stream else "chat.completion"
        envelope = {"id": "1", "object": kind, "created": 1, "model": "stub"}
        part = {"delta": {}} if stream else {"message": {"role": "assistant", "content": None}}
        choice = {"index": 0, **part, "finish_reason": "content_filter"}
        return {**envelope, "choices": [choice] if blocked else []}

    def piece(self, text: str) -> Any:
        return self._chunk({"role": "assistant", "content": text}, None)

    def end(self, end: str, input_tokens: int, output_tokens: int) -> list[Any]:
        whole = self.answer("", end, input_tokens, output_tokens)
        usage = self._chunk({}, None) | {"choices": [], "usage": whole["usage"]}
        return [self._chunk({}, self._end(end)), usage]

    def error(
        self, status: int, message: str, retry_delay_s: float | None
    ) -> tuple[Any, dict[str, str]]:
        headers = {} if retry_delay_s is None else {"retry-after": f"{retry_delay_s:g}"}
        return {"error": {"message": message, "type": "stub", "code": None}}, headers

    def dimension(self, body: Any) -> int | None:
        dimension: int | None = body.get("dimensions")
        return dimension

    def embedded(self, points: list[list[float]], input_tokens: int) -> Any:
        data = [
            {"object": "embedding", "index": index, "embedding": point}
            for index, point in enumerate(points)
        ]
        usage = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
        return {"object": "list", "data": data, "model": "stub", "usage": usage}

    def _chunk(self, delta: Any, finish: str | None) -> Any:
        envelope = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
        return {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def _end(self, end: str) -> str:
        return {"stop": "stop", "length": "length", "blocked": "content_filter"}[end]


def lowered(schema: Any) -> Any:
    """A schema of Gemini's own form, as JSON schema."""
    if isinstance(schema, list):
        return [lowered(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Types are names, or numbers where enumerations are sent so.
    types = ("", "string", "number", "integer", "boolean", "array", "object")
    found = {name: lowered(value) for name, value in schema.items()}
    if isinstance(kind := schema.get("type"), int | str):
        found["type"] = types[kind] if isinstance(kind, int) else kind.lower()
    return found


def _text(content: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in content.get("parts", ()))
