"""The server's configuration: defaults, then a TOML file, then the environment, then flags."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shortlist_server.config_conversation import ConversationConfig
from shortlist_server.config_llm import LlmConfig, TextEmbedderConfig
from shortlist_server.config_milvus import MilvusConfig
from shortlist_server.config_origin import ENV_PREFIX, check_file, origin_of
from shortlist_server.config_rerank import RatingConfig, RerankConfig
from shortlist_server.errors import ConfigError

WORKERS_CONNECTION_AGE_S = 30.0
COMPACT_AT = 50_000


class ServerConfig(BaseSettings):
    """Everything that can be set. Each field says its unit, and whether it changes answers or only
    speed.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )
    SECTIONS: ClassVar[tuple[str, ...]] = (
        *("milvus", "llm", "text_embedder", "rerank", "rating", "conversation"),
    )
    """Fields with fields of their own: set in the file or by the environment, not by flags."""

    bundle: Path | None = None
    """Folder of the bundle to serve. None, the default, serves the newest of `bundles`, or what was
    active there when the server ended.
    """

    bundles: str | None = None
    """Where bundles come from that can be switched to: a folder of bundles, or a URL that fsspec
    opens, as s3://bucket/bundles (extra `object-store`). Needs `workers` and `state_dir`. None, the
    default, serves `bundle` alone.
    """

    bundle_watch: bool = False
    """Whether a bundle that appears in `bundles`, and is newer than any that served, is switched to
    by itself.
    """

    bundle_poll_s: float = Field(default=10.0, ge=0.05, le=86_400)
    """Time between two looks into `bundles`, in seconds."""

    state_dir: Path | None = None
    """Folder in which the server remembers what it serves, and keeps bundles that it downloads,
    indices that it folds changes of items into and, with workers, conversations; made if missing. A
    server that starts again serves what was active.
    """

    workers: int = Field(default=0, ge=0, le=1_024)
    """Processes that serve, sharing the port and the memory of the bundle. 0 serves in the one
    process. Only speed.
    """

    connection_age_ms: int | None = Field(default=None, ge=100, le=86_400_000)
    """Age at which a connection is given up, in milliseconds; its calls finish, and clients make
    another without a call that fails. After a switch of bundles the one before answers on for so
    long, on the connections that it has. None, the default, is 30,000 where there are workers, and
    gives none up where there are not.
    """

    canary_bundle: Path | None = None
    """Folder of a bundle that answers a share of the users, and callers who ask for `canary`. None,
    the default, serves none. Changes the answers of those. With workers, what was activated or
    taken away by a call since holds until this is set to another one; so for `shadow_bundle`.
    """

    shadow_bundle: Path | None = None
    """Folder of a bundle that answers recommendations too, after the caller was answered: how its
    lists differ is shown in the metrics, and nobody gets them. None, the default, has none. Only
    speed.
    """

    shadow_share: float = Field(default=0.1, gt=0, le=1)
    """Share of the recommendations that the shadow answers, too; at most what a quarter of one core
    can do.
    """

    canary_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the users whom `canary_bundle` answers, by a hash of the user's id: the same user
    always, and a larger share only adds users.
    """

    listen: str = "127.0.0.1:8500"
    """Address to listen on, HOST:PORT; port 0 takes a free one. IPv6 as [::1]:8500."""

    http_listen: str | None = None
    """Address to answer HTTP on, HOST:PORT, by JSON, Connect or gRPC-Web; port 0 takes a free one.
    None, the default, does not. Needs the extra `http`; see docs/http.md. `--http` is the same.
    """

    http_cors_origins: str | None = None
    """Origins of web pages that may call over HTTP, separated by spaces, as `https://shop.example`;
    `*` is any. None, the default, lets no page of another origin call.
    """

    http_connections_max: int = Field(default=1_000, ge=1, le=1 << 20)
    """Most connections at a time over HTTP; a call on one more is answered 503. Only speed."""

    codelab_title: str | None = Field(default=None, min_length=1)
    """Attribute of the items that is a film's title, in answers to the app of the TensorFlow and
    Flutter codelab (`POST /recommend` over HTTP); see docs/codelab.md. None, the default, does not
    answer it. `--codelab` is the same, and by itself says `title`.
    """

    codelab_candidate_count: int = Field(default=200, ge=10, le=4_096)
    """Films that are retrieved and ranked for such an answer of 10. Changes results: the codelab's
    own backend ranks 10.
    """

    codelab_exclude_seen: bool = True
    """Whether films that the user has seen are left out of such an answer. Changes results: the
    codelab's own backend recommends them again.
    """

    playground: bool = False
    """Whether a page to try the server out is served beside HTTP, under /playground/. Needs
    `http_listen`; see docs/playground.md.
    """

    tls_certificate_file: Path | None = None
    """PEM file of the certificate that the server shows, and the chain above it; looked at again
    for each new connection. None, the default, speaks plain text.
    """

    tls_key_file: Path | None = None
    """PEM file of the private key of `tls_certificate_file`, without a passphrase."""

    tls_client_ca_file: Path | None = None
    """PEM file of the authorities of clients' certificates: only clients that show one can connect.
    None, the default, asks for none.
    """

    allow_plaintext: bool = False
    """Whether to listen without TLS on an address that other machines reach. Where something else
    encrypts, as a service mesh does, or nobody else is on the network.
    """

    api_keys_file: Path | None = None
    """TOML file of the API keys that callers must send; read again when it changes. None, the
    default, asks for no keys, and serves nothing that needs the scope `admin`.
    """

    default_timeout_ms: int = Field(default=1_000, ge=1, le=3_600_000)
    """Time budget of a call that brings no deadline, in milliseconds."""

    compute_threads: int = Field(default=0, ge=0, le=1_024)
    """Threads that compute requests; 0 computes each in the event loop, one after the other: the
    lowest latency, and the highest throughput where kernels take well under a millisecond. Only
    speed; try the number of cores where ranking takes longer than that.
    """

    waiting_max: int = Field(default=256, ge=0, le=1_000_000)
    """Requests that may wait for a compute thread, or for the event loop; one more is answered
    RESOURCE_EXHAUSTED.
    """

    wait_ms_max: int = Field(default=100, ge=1, le=3_600_000)
    """Longest that a request may wait for its turn, in milliseconds; then it is answered
    RESOURCE_EXHAUSTED.
    """

    wait_ms_standing: int = Field(default=20, ge=1, le=3_600_000)
    """The same where requests have been waiting without a pause for `wait_ms_max`; or the time that
    eight requests take, if that is more. What the server can do is then done in time; a larger
    value refuses less, later.
    """

    exact_items_max: int = Field(default=10_000, ge=0)
    """Catalogues up to this many items are scanned instead of searched by graph, where a request
    leaves it open: exact, and faster at this size. Changes answers only by finding neighbours that
    the graph misses.
    """

    exact_ms_max: float = Field(default=2.0, ge=0, le=1_000)
    """Larger ones are scanned too where that is expected to take no more milliseconds, by what a
    scan cost when the bundle was loaded; 0 leaves it to which way is faster. Changes answers only
    by finding neighbours that the graph misses.
    """

    filter_cache_bytes: int = Field(default=64 << 20, ge=0, le=1 << 40)
    """Memory for the masks of filters that were asked for before, in bytes. Only speed."""

    source_share: float = Field(default=0.6, gt=0, le=1)
    """Share of a call's time budget after which sources of candidates are given up, once one has
    answered. Changes answers only where a source is late; they say so.
    """

    diversity_share: float = Field(default=0.9, gt=0, le=1)
    """Share of a call's time budget by which diversity must be done; it is left out where there is
    no time for it, and the answer says so.
    """

    recall_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the approximate searches that are answered again by exact search, off their path,
    to measure recall (GetCatalogStats). 0 switches it off. Only speed.
    """

    recall_cpu_share: float = Field(default=0.02, gt=0, le=1)
    """Most of one core that measuring recall may take."""

    text_cache_count: int = Field(default=4_096, ge=0, le=1 << 20)
    """Most query texts whose embeddings are remembered, the last used ones. Only speed."""

    message_bytes_max: int = Field(default=4 << 20, ge=1_024, le=1 << 30)
    """Largest request, in bytes; a larger one is refused before it is read."""

    streams_max: int = Field(default=1_000, ge=1, le=1 << 20)
    """Most calls at a time on one connection; more wait at the client. Only speed."""

    keepalive_ms: int = Field(default=30_000, ge=100, le=86_400_000)
    """Silence on a connection after which its other end is asked whether it is still there, in
    milliseconds. Only speed.
    """

    keepalive_timeout_ms: int = Field(default=10_000, ge=100, le=600_000)
    """Time to answer that, in milliseconds; then the connection is closed, and its calls end."""

    ping_interval_ms_min: int = Field(default=10_000, ge=0, le=86_400_000)
    """Least time between two such questions of a client that has nothing else to send, in
    milliseconds; one that asks more often is disconnected.
    """

    drain_notice_ms: int = Field(default=1_000, ge=0, le=600_000)
    """Time between health turning NOT_SERVING and the port closing, in milliseconds: load balancers
    look away.
    """

    drain_ms: int = Field(default=10_000, ge=0, le=600_000)
    """Time that calls in flight get to finish after that, in milliseconds."""

    metrics_listen: str | None = None
    """Address that Prometheus metrics are served on, HOST:PORT, over HTTP at /metrics; port 0 takes
    a free one. None, the default, serves none. Only speed.
    """

    catalog_store: str | None = None
    """Where changes of the items are kept: an SQLite file on a local disk, made if missing, which
    servers of one machine may share; or a database, `postgresql://...`, for those of several. None,
    the default, lets nobody change items.
    """

    compact_at: int | None = Field(default=None, ge=0, le=1 << 31)
    """Number of changed items from which on they are folded into a new index, in a process that
    stands back for those that serve. Needs `catalog_store` and `state_dir`. None, the default, is
    50,000 where there are both; 0 never folds. Only speed, as far as the index finds all
    neighbours.
    """

    compact_interval_s_min: float = Field(default=300.0, ge=0, le=86_400)
    """Least time from the end of one folding to the begin of the next, in seconds; twice as long
    after each that fails, up to an hour. Only speed.
    """

    request_log: Path | None = None
    """Folder in which requests are logged with their answers, for `shortlist-server replay`; made
    if missing. None, the default, logs none. Needs the extra `replay`. Only speed.
    """

    request_log_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are logged, by a hash of the request id: a retry is in or out like
    the call before it. Only speed.
    """

    request_log_bytes_max: int = Field(default=1 << 30, ge=1 << 20, le=1 << 50)
    """Most that the folder of the request log takes, in bytes; the oldest files are removed. A
    request of more than 1/32 of it (or 16 MiB) is not logged.
    """

    request_log_file_s: float = Field(default=300.0, gt=0, le=86_400)
    """Age at which a file of the request log is finished, in seconds. A server that is killed
    loses the file that it is writing.
    """

    request_log_users: Literal["keep", "hash", "drop"] = "keep"
    """What the request log keeps of users: `keep`, requests as they are sent; `hash`, keyed hashes
    of ids and features; `drop`, nothing. Changes no answers; decides what can be replayed.
    """

    request_log_salt_file: Path | None = None
    """File with the secret of `hash`; written, with mode 0600, if missing. Keep it apart from the
    log. Replay with this file finds the ids that the bundle knows.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged, to standard error."""

    log_format: Literal["text", "json"] = "text"
    """Form of the log: lines of text, or one JSON object a line. Only what the log looks like."""

    access_log: bool = False
    """Whether each call of Shortlist's services is logged when it ends: method, status code,
    duration, request id and name of the API key. At level info. Only speed.
    """

    otel_endpoint: str | None = None
    """URL of the OpenTelemetry collector that traces are sent to by OTLP over HTTP, without
    /v1/traces: http://127.0.0.1:4318. None, the default, traces nothing. Needs the extra `otel`.
    Only speed.
    """

    otel_service_name: str = Field(default="shortlist-server", min_length=1, max_length=255)
    """Name of this service in traces, 1..255 characters."""

    trace_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the calls that are traced, of those whose callers do not say by `traceparent`
    whether they are. Only speed.
    """

    trace_waiting_max: int = Field(default=1_024, ge=1, le=1_000_000)
    """Calls whose traces may wait to be sent; one more is left out of the traces, and counted. Only
    speed.
    """

    channelz: bool = False
    """Whether grpc.channelz.v1, gRPC's view of its connections, is served. Needs the extra
    `channelz`.
    """

    milvus: MilvusConfig | None = None
    """A section: where items are searched by their embeddings, see docs/milvus.md. None, the
    default, searches them here.
    """

    llm: LlmConfig | None = None
    """A section: the language model, see docs/language-models.md. None, the default, has none."""

    text_embedder: TextEmbedderConfig | None = None
    """A section: what turns texts into points, see there. None, the default, has none."""

    rerank: RerankConfig = RerankConfig()
    """A section: how the language model puts candidates in order, see docs/reranking.md."""

    rating: RatingConfig = RatingConfig()
    """A section: how the language model predicts ratings, see docs/rating.md."""

    conversation: ConversationConfig = ConversationConfig()
    """A section: how turns of conversations are answered, see docs/conversation.md."""

    @field_validator("http_cors_origins")
    @classmethod
    def _origins(cls, origins: str | None) -> str | None:
        for origin in (origins or "").split():
            parts = urlsplit(origin)
            whole = (
                parts.scheme in ("http", "https") and origin == f"{parts.scheme}://{parts.netloc}"
            )
            if origin != "*" and not (whole and parts.netloc):
                raise ValueError(f"expected origins like https://shop.example, got {origin!r}")
        return origins

    @field_validator("otel_endpoint")
    @classmethod
    def _collector(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits or parts.query or parts.fragment:
            raise ValueError(f"expected a URL like http://127.0.0.1:4318, got {endpoint!r}")
        if parts.username is not None or parts.password is not None:
            # The value is not repeated: it holds a secret.
            raise ValueError("expected a URL without user and password; see docs/tracing.md")
        return endpoint

    @property
    def connection_age_s(self) -> float:
        """Age at which a connection is given up, in seconds; infinite where none is."""
        if self.connection_age_ms is not None:
            return self.connection_age_ms / 1e3
        return WORKERS_CONNECTION_AGE_S if self.workers else math.inf

    @property
    def compaction_rows(self) -> int:
        """Number of changed rows from which on they are folded in; 0 where they never are."""
        if self.milvus is not None:
            # What is in Milvus are the items as exported.
            return 0
        if self.compact_at is None and self.catalog_store and self.state_dir:
            return COMPACT_AT
        return self.compact_at or 0

    @property
    def served_folder(self) -> Path:
        """The folder of the one bundle.

        Raises:
            ConfigError: none is set.
        """
        if self.bundle is None:
            raise ConfigError(
                "bundle: expected a folder, got none; `bundles` are for `serve` with workers alone"
            )
        return self.bundle

    @field_validator("listen", "http_listen", "metrics_listen")
    @classmethod
    def _host_and_port(cls, listen: str | None) -> str | None:
        if listen is None:
            return None
        host, _, port = listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"expected HOST:PORT with a port from 0 to 65535, got {listen!r}")
        return listen

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, file. No `.env` file is read."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_config(file: Path | None, flags: dict[str, Any]) -> ServerConfig:
    """Build the configuration, once.

    Args:
        file: A TOML file; None for none.
        flags: Values by field name that win over everything else.

    Raises:
        ConfigError: the file cannot be read, or a value is wrong; the message names the field and
            where it came from.
    """
    if file is not None:
        check_file(file)

    # pydantic-settings takes the file's name from the class, not from the call.
    class Config(ServerConfig):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        config = Config(**flags)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(step) for step in problem["loc"])
        raise ConfigError(f"{name} ({origin_of(name, file, flags)}): {problem['msg']}") from error
    if config.bundle is None and config.bundles is None:
        where = origin_of("bundle", file, flags)
        raise ConfigError(f"bundle ({where}): expected a folder, or `bundles`, got none")
    if config.bundles is not None:
        where = origin_of("bundles", file, flags)
        if config.workers == 0:
            raise ConfigError(f"bundles ({where}): expected workers of 1 or more beside it, got 0")
        if config.state_dir is None:
            raise ConfigError(f"bundles ({where}): expected state_dir beside it, got none")
    if config.codelab_title is not None and config.http_listen is None:
        where = origin_of("codelab_title", file, flags)
        raise ConfigError(f"codelab_title ({where}): expected http_listen beside it, got none")
    if config.playground and config.http_listen is None:
        where = origin_of("playground", file, flags)
        raise ConfigError(
            f"playground ({where}): expected http_listen (--http) beside it, got none"
        )
    if config.compact_at and config.milvus is not None:
        where = origin_of("compact_at", file, flags)
        raise ConfigError(
            f"compact_at ({where}): expected 0, or none, with milvus, got {config.compact_at}: "
            "what Milvus has are the items as exported"
        )
    if config.compact_at:
        where = origin_of("compact_at", file, flags)
        for name in ("catalog_store", "state_dir"):
            if getattr(config, name) is None:
                raise ConfigError(f"compact_at ({where}): expected {name} beside it, got none")
    return config
