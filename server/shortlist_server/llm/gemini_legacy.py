"""Gemini, by google-generativeai over REST. The only importer of it, which is an optional extra.

For those who are bound to it: its support ended in 2025, and it needs protobuf below 6. It is asked
by the client class that it wraps: its own `configure` is one for the whole process, and its streams
hold each piece back until the next has come.

It blocks, so each call has a thread, which nobody can cancel: a caller who leaves does so at once,
and the thread ends when the SDK's own timeout has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from shortlist_server.errors import MissingExtra
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.answer import parse_object
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModelError,
    LlmBlocked,
    LlmBudgetExceeded,
    LlmInvalidOutput,
    LlmTimeout,
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

T = TypeVar("T")
TASKS = {"query": "RETRIEVAL_QUERY", "item": "RETRIEVAL_DOCUMENT"}
BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"}
"""Ends of answers that a filter held back."""
SCHEMA_FIELDS = {
    "type": "type_",
    "description": "description",
    "enum": "enum",
    "required": "required",
    "nullable": "nullable",
    "minItems": "min_items",
    "maxItems": "max_items",
}
"""What Gemini's own form of schemas knows of JSON schema, beside `items` and `properties`."""


class _GeminiLegacy:
    """The SDK's client, and threads for its calls."""

    def __init__(self, identity: str, options: ModelOptions | EmbedderOptions) -> None:
        try:
            with warnings.catch_warnings():
                # It says that it is no longer supported, as the documentation does.
                warnings.simplefilter("ignore")
                import requests
                from google.ai import generativelanguage
                from google.api_core import exceptions
                from google.api_core.client_options import ClientOptions
                from google.generativeai import protos
        except ImportError as error:
            raise MissingExtra(feature="gemini-legacy", extra="gemini-legacy") from error
        quiet("google", "urllib3")
        self.identity = identity
        self._protos: Any = protos
        self._error: Any = exceptions.GoogleAPICallError
        self._http_error: Any = requests.RequestException
        self._http_timeout: Any = requests.Timeout
        client_options = ClientOptions(
            api_key="unused" if options.key is None else options.key.reveal(),
            api_endpoint=options.base_url,
        )
        self._client: Any = generativelanguage.GenerativeServiceClient(
            transport="rest", client_options=client_options
        )
        self._threads = ThreadPoolExecutor(options.connections_max, thread_name_prefix="gemini")
        self._free = threading.Semaphore(options.connections_max)

    async def close(self) -> None:
        """Close the connections; threads under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.transport.close()

    def _begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do work in a thread.

        Raises:
            LlmBudgetExceeded: none is free: callers left, and their calls have not ended.
        """
        if not self._free.acquire(blocking=False):
            raise LlmBudgetExceeded(f"{self.identity}: no connection is free")

        def run() -> T:
            try:
                return work()
            finally:
                self._free.release()

        return asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _explain(self, error: Exception) -> LanguageModelError:
        if isinstance(error, self._error):
            response: Any = getattr(error, "response", None)
            body = None
            with contextlib.suppress(AttributeError, ValueError):
                body = response.json()
            headers = getattr(response, "headers", None) or {}
            delay = retry_delay(headers.get("retry-after"), body)
            return failure_of_status(self.identity, int(error.code or 0), delay)
        if isinstance(error, self._http_timeout):
            return LlmTimeout(f"{self.identity}: no answer in time")
        if isinstance(error, self._http_error):
            kind = type(error).__name__
            return LlmUnavailable(f"{self.identity}: cannot be reached ({kind})")
        # Whatever else it is, it came of reading the response.
        return LlmInvalidOutput(f"{self.identity}: its response is not of Gemini's API")


class GeminiLegacyModel(_GeminiLegacy):
    """A Gemini model that answers by schema; see `LanguageModel`."""

    def __init__(self, options: ModelOptions) -> None:
        """Open no connection yet.

        Raises:
            MissingExtra: google-generativeai is not installed.
        """
        super().__init__(f"gemini-legacy/{options.model}", options)
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
        request = self._request(messages, schema)

        def work() -> Any:
            return self._client.generate_content(request, timeout=deadline_s, retry=None)

        response = await ask(lambda: self._begin(work), self._explain, deadline_s=deadline_s)
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
        pieces = self._pieces(messages, deadline_s, on_usage)
        return ask_stream(pieces, self._explain, deadline_s=deadline_s)

    async def _pieces(
        self,
        messages: Sequence[Message],
        deadline_s: float,
        on_usage: Callable[[TokenUsage], None] | None,
    ) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        # Bounded by the longest answer, in tokens.
        chunks: asyncio.Queue[Any] = asyncio.Queue()
        left = threading.Event()
        request = self._request(messages)

        def work() -> None:
            try:
                for chunk in self._client.stream_generate_content(
                    request, timeout=deadline_s, retry=None
                ):
                    if left.is_set():
                        return
                    loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            finally:
                # The loop may have ended before this thread.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(chunks.put_nowait, None)

        usage, end, something = TokenUsage(), None, False
        working = self._begin(work)
        try:
            while (chunk := await chunks.get()) is not None:
                usage = _usage(chunk) if _usage(chunk) != TokenUsage() else usage
                end = _end(chunk) or end
                text = self._text(chunk, usage)
                something = something or bool(text)
                yield text
            await working
        finally:
            left.set()
            working.cancel()
            if on_usage is not None and usage != TokenUsage():
                on_usage(usage)
        if end is None or not something:
            raise LlmInvalidOutput(f"{self.identity}: the text ended before its end", usage=usage)
        self._check_end(end, usage)

    def _request(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> Any:
        protos, options = self._protos, self._options
        system = "\n\n".join(one.text for one in messages if one.role == "system")
        config: dict[str, Any] = {"max_output_tokens": options.output_tokens_max}
        if options.temperature is not None:
            config["temperature"] = options.temperature
        if schema is not None:
            config["response_mime_type"] = "application/json"
            config["response_schema"] = protos.Schema(gemini_schema(schema))
        return protos.GenerateContentRequest(
            model=f"models/{options.model}",
            contents=[
                protos.Content(
                    role="model" if one.role == "assistant" else "user",
                    parts=[protos.Part(text=one.text)],
                )
                for one in messages
                if one.role != "system"
            ],
            system_instruction=protos.Content(parts=[protos.Part(text=system)]) if system else None,
            generation_config=protos.GenerationConfig(config),
        )

    def _text(self, response: Any, usage: TokenUsage) -> str:
        if response.prompt_feedback.block_reason:
            raise LlmBlocked(f"{self.identity}: the prompt was held back", usage=usage)
        if not response.candidates:
            return ""
        return "".join(part.text for part in response.candidates[0].content.parts)

    def _check_end(self, end: str | None, usage: TokenUsage) -> None:
        check_end(self.identity, end, usage, finished="STOP", blocked=BLOCKED)


class GeminiLegacyEmbedder(_GeminiLegacy):
    """A Gemini embedding model, asked with its task types; see `TextEmbedder`."""

    def __init__(self, options: EmbedderOptions) -> None:
        """Open no connection yet.

        Raises:
            MissingExtra: google-generativeai is not installed.
        """
        super().__init__(f"gemini-legacy/{options.model}/{options.dimension}", options)
        self._options = options
        self.dimension = options.dimension

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point for each text; see `TextEmbedder.embed`."""
        options, protos = self._options, self._protos
        model = f"models/{options.model}"

        def work(parts: list[list[str]]) -> list[Any]:
            found: list[Any] = []
            for part in parts:
                asked = [
                    protos.EmbedContentRequest(
                        model=model,
                        content=protos.Content(parts=[protos.Part(text=text)]),
                        task_type=TASKS[kind],
                        output_dimensionality=options.dimension if options.ask_dimension else None,
                    )
                    for text in part
                ]
                request = protos.BatchEmbedContentsRequest(model=model, requests=asked)
                response = self._client.batch_embed_contents(
                    request, timeout=deadline_s, retry=None
                )
                found += [list(one.values) for one in response.embeddings]
            return found

        def call(parts: list[list[str]]) -> asyncio.Future[list[Any]]:
            return self._begin(lambda: work(parts))

        return await embed_parts(
            texts, kind, call, self._explain, options=options, deadline_s=deadline_s
        )


def gemini_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in Gemini's own form, without what that does not know.

    The answer is checked against the whole schema all the same.
    """
    found = {
        name: schema[known]
        for known, name in SCHEMA_FIELDS.items()
        if schema.get(known) is not None
    }
    if isinstance(kind := found.get("type_"), str):
        found["type_"] = kind.upper()
    if "items" in schema:
        found["items"] = gemini_schema(schema["items"])
    if "properties" in schema:
        found["properties"] = {
            name: gemini_schema(value) for name, value in schema["properties"].items()
        }
    return found


def _usage(response: Any) -> TokenUsage:
    usage = response.usage_metadata
    return TokenUsage(
        input_tokens=usage.prompt_token_count, output_tokens=usage.candidates_token_count
    )


def _end(response: Any) -> str | None:
    end = response.candidates[0].finish_reason if response.candidates else None
    return end.name if end else None
