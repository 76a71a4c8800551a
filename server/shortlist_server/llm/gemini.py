"""Gemini, by google-genai. The only importer of google.genai, which is an optional extra."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal

from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.answer import parse_object
from shortlist_server.llm.http_client import (
    failure_of_http,
    make_http_client,
    noted_responses,
)
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

BASE_URL = "https://generativelanguage.googleapis.com"
TASKS = {"query": "RETRIEVAL_QUERY", "item": "RETRIEVAL_DOCUMENT"}
BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"}
"""Ends of answers that a filter held back."""


class _Gemini:
    """The SDK's client."""

    def __init__(self, identity: str, options: ModelOptions | EmbedderOptions) -> None:
        try:
            from google import genai
        except ImportError as error:
            raise MissingExtra(feature="Gemini", extra="llm") from error
        quiet("google_genai", "httpx2", "httpcore2")
        self.identity = identity
        self._sdk = genai
        self._http = make_http_client(
            response_bytes_max=options.answer_bytes_max, connections_max=options.connections_max
        )
        self._client = genai.Client(
            api_key="unused" if options.key is None else options.key.reveal(),
            vertexai=False,
            # With a client of its own the SDK takes neither aiohttp, which it would retry with
            # after a random pause, nor anything from the environment.
            http_options=genai.types.HttpOptions(
                base_url=options.base_url or BASE_URL,
                api_version="v1beta",
                httpx_async_client=self._http,
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        self._client.close()
        await self._http.aclose()

    def _explain(self, error: Exception) -> LanguageModelError:
        if isinstance(error, self._sdk.errors.APIError):
            headers = getattr(error.response, "headers", None) or {}
            delay = retry_delay(headers.get("retry-after"), error.details)
            return failure_of_status(self.identity, error.code or 0, delay)
        if found := failure_of_http(self.identity, error):
            return found
        # Those of JSON and of pydantic are ValueErrors.
        if isinstance(error, ValueError):
            return LlmInvalidOutput(f"{self.identity}: its response is not of Gemini's API")
        return LlmUnavailable(f"{self.identity}: the call failed ({type(error).__name__})")


class GeminiModel(_Gemini):
    """A Gemini model that answers by JSON schema; see `LanguageModel`."""

    def __init__(self, options: ModelOptions) -> None:
        """Open no connection yet; call it inside the event loop.

        Raises:
            MissingExtra: google-genai is not installed.
        """
        super().__init__(f"gemini/{options.model}", options)
        self._options = options

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        *,
        deadline_s: float,
        prompt_version: str = "",
    ) -> Completion:
        """Return an object of a schema; see `LanguageModel.complete`."""
        asked = self._asked(messages, schema)

        async def call() -> Any:
            return await self._client.aio.models.generate_content(**asked)

        response = await ask(call, self._explain, deadline_s=deadline_s)
        usage = _usage(response)
        text = self._text(response, usage)
        self._check_end(_end(response), usage)
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
        usage, end, something = TokenUsage(), None, False
        with noted_responses() as responses:
            chunks = await self._client.aio.models.generate_content_stream(**self._asked(messages))
            chunk = await anext(chunks, None)
        try:
            while chunk is not None:
                usage = _usage(chunk) if chunk.usage_metadata else usage
                end = _end(chunk) or end
                text = self._text(chunk, usage)
                something = something or bool(text)
                yield text
                chunk = await anext(chunks, None)
        finally:
            # Where nobody reads on, the SDK leaves it open until garbage is collected.
            for response in responses:
                await response.aclose()
            if on_usage is not None and usage != TokenUsage():
                on_usage(usage)
        if end is None or not something:
            raise LlmInvalidOutput(f"{self.identity}: the text ended before its end", usage=usage)
        self._check_end(end, usage)

    def _asked(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        types, options = self._sdk.types, self._options
        system = "\n\n".join(one.text for one in messages if one.role == "system")
        structured: dict[str, Any] = {}
        if schema is not None:
            structured = {
                "response_mime_type": "application/json",
                "response_json_schema": dict(schema),
            }
        if options.thinking_tokens is not None:
            thinking = types.ThinkingConfig(thinking_budget=options.thinking_tokens)
            structured["thinking_config"] = thinking
        return {
            "model": options.model,
            "contents": [
                types.Content(
                    role="model" if one.role == "assistant" else "user",
                    parts=[types.Part(text=one.text)],
                )
                for one in messages
                if one.role != "system"
            ],
            "config": types.GenerateContentConfig(
                system_instruction=system or None,
                temperature=options.temperature,
                max_output_tokens=options.output_tokens_max,
                **structured,
            ),
        }

    def _text(self, response: Any, usage: TokenUsage) -> str:
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            raise LlmBlocked(f"{self.identity}: the prompt was held back", usage=usage)
        content = response.candidates[0].content if response.candidates else None
        parts = (content.parts if content is not None else None) or []
        return "".join(part.text for part in parts if part.text and not part.thought)

    def _check_end(self, end: str | None, usage: TokenUsage) -> None:
        check_end(self.identity, end, usage, finished="STOP", blocked=BLOCKED)


class GeminiEmbedder(_Gemini):
    """A Gemini embedding model, asked with its task types; see `TextEmbedder`."""

    def __init__(self, options: EmbedderOptions) -> None:
        """Open no connection yet; call it inside the event loop.

        Raises:
            MissingExtra: google-genai is not installed.
        """
        super().__init__(f"gemini/{options.model}/{options.dimension}", options)
        self._options = options
        self.dimension = options.dimension

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point for each text; see `TextEmbedder.embed`."""
        options, types = self._options, self._sdk.types
        config = types.EmbedContentConfig(
            task_type=TASKS[kind],
            output_dimensionality=options.dimension if options.ask_dimension else None,
        )

        async def call(parts: list[list[str]]) -> list[Any]:
            found: list[Any] = []
            for part in parts:
                response = await self._client.aio.models.embed_content(
                    model=options.model,
                    # Plain strings would be parts of one content for the newer models.
                    contents=[types.Content(parts=[types.Part(text=text)]) for text in part],
                    config=config,
                )
                found += [one.values or [] for one in response.embeddings or []]
            return found

        return await embed_parts(
            texts, kind, call, self._explain, options=options, deadline_s=deadline_s
        )


def _usage(response: Any) -> TokenUsage:
    usage = response.usage_metadata
    if usage is None:
        return TokenUsage()
    return TokenUsage(
        input_tokens=usage.prompt_token_count or 0,
        # What it thinks is paid as what it says.
        output_tokens=(usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )


def _end(response: Any) -> str | None:
    end = response.candidates[0].finish_reason if response.candidates else None
    return None if end is None else str(getattr(end, "value", end))
