"""The sections `llm` and `text_embedder` of the configuration: which services, and how far they are
trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class ServiceConfig(BaseModel):
    """What is set of a service, whatever it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    provider: Literal["gemini", "gemini-legacy", "openai-compatible"]
    """Whose API it speaks: `gemini` by google-genai and `openai-compatible` by openai (extra
    `llm`), `gemini-legacy` by google-generativeai (extra `gemini-legacy`).
    """

    model: str = Field(min_length=1, max_length=255)
    """The provider's name of the model. Changes answers."""

    base_url: str | None = None
    """URL of the service. None, the default, is the provider's own. What is sent holds what users
    and items say: over http:// it is open to who listens.
    """

    key_env: str | None = Field(default=None, min_length=1)
    """Name of the environment variable that holds the service's key. None, the default, sends
    none.
    """

    key_file: Path | None = None
    """File that holds it, in place of a variable."""

    timeout_ms: int = Field(default=30_000, ge=1, le=3_600_000)
    """Longest that a call may take, whatever its caller allows, in milliseconds."""

    concurrency_max: int = Field(default=8, ge=1, le=1_024)
    """Calls of the service at a time."""

    waiting_max: int = Field(default=32, ge=0, le=1_000_000)
    """More that may wait for their turn; one more does without."""

    retries_max: int = Field(default=2, ge=0, le=10)
    """How often a call is made again that the service was too busy for (429, 503): after the delay
    that it names, and only if its caller still waits then.
    """

    breaker_calls: int = Field(default=20, ge=1, le=10_000)
    """How many of the last calls the circuit breaker looks at."""

    breaker_calls_min: int = Field(default=5, ge=1, le=10_000)
    """It does not open before it knows of so many."""

    breaker_failure_share: float = Field(default=0.5, gt=0, le=1)
    """It opens where at least this share of them failed."""

    breaker_open_ms: int = Field(default=10_000, ge=1, le=86_400_000)
    """Time for which no call is made then, in milliseconds; after that, one probes."""

    breaker_patience_ms: int = Field(default=500, ge=0, le=3_600_000)
    """A call that was out of time before so many milliseconds is no failure of the service."""

    price_input_million: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Price of a million tokens that are sent, in a currency of one's own choice."""

    money_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Most that calls may cost in an hour, in that currency; then requests do without. Workers
    share it equally. None, the default, has no bound.
    """

    cache_bytes: int = Field(default=64 << 20, ge=0, le=1 << 40)
    """Memory for answers that may be asked for again, in bytes; 0 keeps none. With
    `cache_redis_url` none is taken here.
    """

    cache_ttl_s: float = Field(default=3_600.0, gt=0, le=31_536_000, allow_inf_nan=False)
    """Age at which such an answer is forgotten, in seconds."""

    cache_redis_url: str | None = None
    """Redis that keeps them instead, for several servers: `redis://HOST:PORT/DATABASE`,
    `rediss://` with TLS, or `unix:///PATH`. Needs the extra `redis`. None, the default, keeps them
    in memory.
    """

    cache_redis_password_env: str | None = Field(default=None, min_length=1)
    """Name of the environment variable that holds the password of Redis. None, the default, sends
    none.
    """

    cache_redis_password_file: Path | None = None
    """File that holds it, in place of a variable."""

    cache_redis_timeout_ms: int = Field(default=50, ge=1, le=60_000)
    """Longest that Redis may take, in milliseconds; then the service is asked."""

    connections_max: int = Field(default=16, ge=1, le=1_024)
    """Connections to the service. Only speed."""

    @field_validator("base_url", "cache_redis_url")
    @classmethod
    def _without_secrets(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            fits = bool(parts.scheme) and bool(parts.hostname or parts.path.startswith("/"))
            secret = parts.password is not None or "password" in parts.query
        except ValueError:
            fits = secret = False
        # The value is not repeated: it may hold a secret.
        if not fits:
            raise ValueError("expected a URL like http://127.0.0.1:8000/v1, got something else")
        if secret:
            raise ValueError("expected a URL without a password; it has a setting of its own")
        return url

    @field_validator("base_url")
    @classmethod
    def _over_http(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("expected a URL of http:// or https://, got another")
        return url

    @model_validator(mode="after")
    def _breaker_can_open(self) -> ServiceConfig:
        if self.breaker_calls_min > self.breaker_calls:
            raise ValueError(
                f"breaker_calls_min: expected at most breaker_calls ({self.breaker_calls}), "
                f"got {self.breaker_calls_min}"
            )
        return self


class LlmConfig(ServiceConfig):
    """The section `llm`: a language model."""

    temperature: float | Literal["unset"] = Field(default=0.0)
    """How much its answers vary, from 0, the default, on; `unset` sends none, for models that
    refuse it. Changes answers.
    """

    output_tokens_max: int = Field(default=2_048, ge=1, le=1_000_000)
    """Longest answer, in tokens, with what it thinks. Changes answers: a longer one is cut off, and
    cannot be used.
    """

    thinking_tokens: int | None = Field(default=None, ge=0, le=1_000_000)
    """Most that it may think before it answers, in tokens; 0 is the fastest. Gemini alone. None,
    the default, leaves it to the model. Changes answers.
    """

    answer_bytes_max: int = Field(default=1 << 20, ge=1_024, le=1 << 30)
    """Largest response, in bytes; a larger one is given up."""

    price_output_million: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Price of a million tokens that it answers or thinks."""

    @field_validator("temperature")
    @classmethod
    def _from_zero(cls, temperature: float | str) -> float | str:
        if isinstance(temperature, float) and not 0 <= temperature <= 10:
            raise ValueError(f"expected a number from 0 to 10, or `unset`, got {temperature}")
        return temperature


class TextEmbedderConfig(ServiceConfig):
    """The section `text_embedder`: a model that turns texts into points."""

    dimension: int = Field(ge=1, le=65_536)
    """Number of components of its points. Changes answers."""

    ask_dimension: bool = True
    """Whether the service is asked for points of this dimension; false for models that have one
    only.
    """

    query_prefix: str = Field(default="", max_length=1_000)
    """What the model wants before a text that is searched for, as `query: `. Changes answers."""

    item_prefix: str = Field(default="", max_length=1_000)
    """What it wants before a text that is found, as `passage: `. Changes answers."""

    text_characters_max: int = Field(default=8_000, ge=1, le=1_000_000)
    """Longest text, in characters; what is longer is cut. Changes answers."""

    texts_max: int = Field(default=100, ge=1, le=10_000)
    """Most texts of one request to the service; more go in several. Only speed."""

    answer_bytes_max: int = Field(default=32 << 20, ge=1_024, le=1 << 30)
    """Largest response, in bytes; a larger one is given up."""
