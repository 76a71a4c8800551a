"""Endpoints that speak OpenAI's API: its own, vLLM, Ollama, llama.cpp. The only importer of
openai, which is an optional extra.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal

from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.answer import parse_object
from shortlist_server.llm.http_client import failure_of_http, make_http_client
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModelError,
    LlmBlocked,
    LlmInvalidOutput,
    LlmUnavailable,
    Message,
    TokenUsage,
)
from shortlist_server.llm.provider import (
    EmbedderOptions,
    ModelOptions,
    ask,
    ask_stream,
    check_end,
    embed_parts,
    failure_of_status,
    quiet,
    retry_delay,
)

BASE_URL = "https://api.openai.com/v1"


class _OpenAi:
    """The SDK's client."""

    def __init__(self, identity: str, options: ModelOptions | EmbedderOptions) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra(feature="an OpenAI-compatible endpoint", extra="llm") from error
        quiet("openai", "httpx2", "httpcore2")
        self.identity = identity
        self._sdk = openai
        self._client = openai.AsyncOpenAI(
            # Servers of one's own ask for none, and the SDK for one.
            api_key="unused" if options.key is None else options.key.reveal(),
            base_url=options.base_url or BASE_URL,
            max_retries=0,
            timeout=None,
            http_client=make_http_client(
                response_bytes_max=options.answer_bytes_max,
                connections_max=options.connections_max,
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _explain(self, error: Exception) -> LanguageModelError:
        if isinstance(error, self._sdk.APIStatusError):
            if error.code == "content_filter":
                return LlmBlocked(f"{self.identity}: the prompt was held back")
            delay = retry_delay(error.response.headers.get("retry-after"))
            return failure_of_status(self.identity, error.status_code, delay)
        if found := failure_of_http(self.identity, error):
            return found
        if isinstance(error, self._sdk.APIError | ValueError | AttributeError | TypeError):
            return LlmInvalidOutput(f"{self.identity}: its response is not of OpenAI's API")
        return LlmUnavailable(f"{self.identity}: the call failed ({type(error).__name__})")


class OpenAiCompatibleModel(_OpenAi):
    """A chat model that answers by JSON schema; see `LanguageModel`.

    An endpoint that does not know schemas is asked for any JSON object instead, and told the schema
    in words.
    """

    def __init__(self, options: ModelOptions) -> None:
        """Open no connection yet; call it inside the event loop.

        Raises:
            MissingExtra: openai is not installed.
        """
        super().__init__(f"openai-compatible/{options.model}", options)
        self._options = options
        self._knows_schemas = True

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        *,
        deadline_s: float,
        prompt_version: str = "",
    ) -> Completion:
        """Return an object of a schema; see `LanguageModel.complete`."""

        async def call() -> Any:
            if self._knows_schemas:
                try:
                    return await self._create(messages, response_format=_by_schema(schema))
                except self._sdk.BadRequestError as error:
                    if not any(word in str(error) for word in ("response_format", "json_schema")):
                        raise
                self._knows_schemas = False
            words = f"Answer with a JSON object of this JSON schema:\n{json.dumps(schema)}"
            told = [Message(role="system", text=words), *messages]
            return await self._create(told, response_format={"type": "json_object"})

        response = await ask(call, self._explain, deadline_s=deadline_s)
        usage = _usage(response)
        choice = self._choice(response, usage)
        self._check_end(choice.finish_reason, usage)
        text = choice.message.content or ""
        return Completion(value=parse_object(text, schema, usage=usage), usage=usage)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_usage: Callable[[TokenUsage], None] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield text as it is written; see `LanguageModel.stream`."""
        pieces = self._pieces(messages, on_usage)
        return ask_stream(pieces, self._explain, deadline_s=deadline_s)

    async def _pieces(
        self, messages: Sequence[Message], on_usage: Callable[[TokenUsage], None] | None
    ) -> AsyncGenerator[str, None]:
        chunks = await self._create(messages, stream=True, stream_options={"include_usage": True})
        usage, end, something = TokenUsage(), None, False
        try:
            async with chunks:
                async for chunk in chunks:
                    usage = _usage(chunk) if chunk.usage else usage
                    if chunk.choices:
                        end = chunk.choices[0].finish_reason or end
                        text = chunk.choices[0].delta.content or ""
                        something = something or bool(text)
                        yield text
        finally:
            if on_usage is not None and usage != TokenUsage():
                on_usage(usage)
        if end is None or (end == "stop" and not something):
            raise LlmInvalidOutput(f"{self.identity}: the text ended before its end", usage=usage)
        self._check_end(end, usage)

    async def _create(self, messages: Sequence[Message], **more: Any) -> Any:
        options = self._options
        if options.temperature is not None:
            more["temperature"] = options.temperature
        return await self._client.chat.completions.create(
            model=options.model,
            messages=[{"role": one.role, "content": one.text} for one in messages],
            max_completion_tokens=options.output_tokens_max,
            **more,
        )

    def _choice(self, response: Any, usage: TokenUsage) -> Any:
        # The SDK does not check what came: it may be anything.
        choices = getattr(response, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise LlmInvalidOutput(f"{self.identity}: it answered with nothing", usage=usage)
        if getattr(choices[0].message, "refusal", None):
            raise LlmBlocked(f"{self.identity}: it refused to answer", usage=usage)
        return choices[0]

    def _check_end(self, end: str | None, usage: TokenUsage) -> None:
        check_end(self.identity, end, usage, finished="stop", blocked={"content_filter"})


class OpenAiCompatibleEmbedder(_OpenAi):
    """An embedding model; see `TextEmbedder`."""

    def __init__(self, options: EmbedderOptions) -> None:
        """Open no connection yet; call it inside the event loop.

        Raises:
            MissingExtra: openai is not installed.
        """
        super().__init__(f"openai-compatible/{options.model}/{options.dimension}", options)
        self._options = options
        self.dimension = options.dimension

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point for each text; see `TextEmbedder.embed`."""
        options = self._options
        more = {"dimensions": options.dimension} if options.ask_dimension else {}

        async def call(parts: list[list[str]]) -> list[Any]:
            found: list[Any] = []
            for part in parts:
                response = await self._client.embeddings.create(
                    model=options.model,
                    input=part,
                    # The SDK would ask for base64, which not every server knows.
                    encoding_format="float",
                    **more,
                )
                ordered = sorted(response.data, key=lambda one: int(one.index))
                found += [one.embedding for one in ordered]
            return found

        return await embed_parts(
            texts, kind, call, self._explain, options=options, deadline_s=deadline_s
        )


def _by_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {"name": "answer", "schema": dict(schema), "strict": _is_closed(schema)}
    return {"type": "json_schema", "json_schema": described}


def _is_closed(schema: Any) -> bool:
    """Whether a schema is of the part that OpenAI enforces: nothing optional, nothing open."""
    if isinstance(schema, list):
        return all(_is_closed(one) for one in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required", ())) != set(schema.get("properties", ()))
    ):
        return False
    return all(_is_closed(value) for value in schema.values())


def _usage(response: Any) -> TokenUsage:
    usage = getattr(response, "usage", None)
    if usage is None:
        return TokenUsage()
    return TokenUsage(
        input_tokens=usage.prompt_tokens or 0, output_tokens=usage.completion_tokens or 0
    )
