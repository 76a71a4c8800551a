"""The section `milvus` of the configuration: where items are searched that outgrow one machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shortlist_server.index.milvus_options import MilvusOptions
from shortlist_server.llm.credentials import read_key


class MilvusConfig(BaseModel):
    """Where a Milvus is, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    uri: str
    """Address: http://HOST:PORT, or https:// with TLS. Changes answers only by the neighbours that
    one graph or the other misses.
    """

    token_env: str | None = Field(default=None, min_length=1)
    """Name of the environment variable that holds `user:password`, or an API key. None, the
    default, sends none.
    """

    token_file: Path | None = None
    """File that holds it, in place of a variable."""

    database: str = Field(default="", max_length=255)
    """Database of Milvus. Empty, the default, is Milvus' own default."""

    collection_prefix: str = Field(
        default="shortlist", pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=100
    )
    """Begin of the names of collections and aliases: letters, digits and `_`."""

    timeout_ms: int = Field(default=500, ge=1, le=60_000)
    """Longest that a search may take, in milliseconds. A request waits no longer than its own
    budget in any case.
    """

    rest_ms: int = Field(default=1_000, ge=0, le=600_000)
    """Time for which Milvus is left alone after three searches in a row without an answer, in
    milliseconds; after that, one search tries.
    """

    scan_items_max: int = Field(default=1_000, ge=0, le=10_000_000)
    """Where a filter leaves no more items than this, they are compared here, exactly, and Milvus is
    not asked. Changes answers only by finding neighbours that a graph misses.
    """

    @field_validator("uri")
    @classmethod
    def _address(cls, uri: str) -> str:
        try:
            parts = urlsplit(uri)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.port)
            secret = parts.password is not None
        except ValueError:
            fits = secret = False
        # The value is not repeated: it may hold a secret.
        if not fits:
            raise ValueError("expected an address like http://127.0.0.1:19530, got something else")
        if secret:
            raise ValueError("expected an address without a password; set token_env or token_file")
        return uri

    def options(self) -> MilvusOptions:
        """Return what the section says.

        Raises:
            ConfigError: the token cannot be read.
        """
        token = read_key("milvus.token", variable=self.token_env, file=self.token_file)
        return MilvusOptions(
            uri=self.uri,
            token="" if token is None else token.reveal(),
            database=self.database,
            timeout_s=self.timeout_ms / 1e3,
            rest_s=self.rest_ms / 1e3,
            scan_items_max=self.scan_items_max,
            collection_prefix=self.collection_prefix,
        )
