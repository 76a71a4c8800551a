"""The composition root: configuration -> bundle -> stages -> funnel -> server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shortlist.v1 import bundle_pb2

from shortlist_server.access.api_keys import MakeBucket
from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog.sqlite_store import SqliteStore
from shortlist_server.catalog.store import CatalogStore, StoreOptions
from shortlist_server.config import ServerConfig
from shortlist_server.conversations import make_conversation_service
from shortlist_server.errors import ConfigError
from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.stages import Rater, Reranker
from shortlist_server.generation import Generation, GenerationOptions
from shortlist_server.http_settings import http_options
from shortlist_server.labels import LabeledGenerations, LiveGenerations, ServingSet
from shortlist_server.live import LiveGeneration
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.language_model import LanguageModel
from shortlist_server.observability.masking import Masking, make_key, read_key
from shortlist_server.observability.metrics import Metrics
from shortlist_server.observability.request_log import RequestLog, RequestLogOptions
from shortlist_server.observability.tracing import Tracing
from shortlist_server.rpc import respond
from shortlist_server.rpc.bundle_service import BundleControl, BundleService
from shortlist_server.rpc.catalog_service import CatalogService, LabeledCatalog
from shortlist_server.rpc.generations import Generations
from shortlist_server.rpc.recommendation_service import RecommendationService, Recorder
from shortlist_server.rpc.server import Server, ServerOptions
from shortlist_server.rpc.shadow import Shadow
from shortlist_server.rpc.snapshot import Serving
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.security import certificates, make_access

logger = logging.getLogger(__name__)


def generation_options(
    config: ServerConfig, text_embedder: EmbeddingService | None = None
) -> GenerationOptions:
    """Return what the configuration says of how a bundle is served.

    Args:
        config: The configuration.
        text_embedder: What is configured to embed texts, for all bundles of a process; see
            `language_models.embedding_service`.

    Raises:
        ConfigError: a secret cannot be read.
    """
    return GenerationOptions(
        exact_items_max=config.exact_items_max,
        exact_ms_max=config.exact_ms_max,
        filter_cache_bytes=config.filter_cache_bytes,
        recall_share=config.recall_share,
        recall_cpu_share=config.recall_cpu_share,
        text_cache_count=config.text_cache_count,
        text_embedder=text_embedder,
        milvus=None if config.milvus is None else config.milvus.options(),
        shares=Shares(
            sources=config.source_share,
            rerank=config.rerank.share,
            rating=config.rating.share,
            diversity=config.diversity_share,
        ),
    )


def configured_folders(config: ServerConfig) -> dict[str, Path]:
    """Return the folders of the bundles that the configuration names, by label.

    Raises:
        ConfigError: it names no stable one.
    """
    folders = {
        BundleLabel.STABLE: config.served_folder,
        BundleLabel.CANARY: config.canary_bundle,
        BundleLabel.SHADOW: config.shadow_bundle,
    }
    return {label: folder for label, folder in folders.items() if folder is not None}


def serving_set(config: ServerConfig, folders: Mapping[str, Path]) -> ServingSet:
    """Return how bundles are served.

    Args:
        config: The configuration.
        folders: The bundles by label, a stable one among them.
    """
    return ServingSet(
        stable=folders[BundleLabel.STABLE],
        canary=folders.get(BundleLabel.CANARY),
        canary_share=config.canary_share,
        shadow=folders.get(BundleLabel.SHADOW),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a process has together with others that serve on the same port."""

    port: int
    control: BundleControl
    make_bucket: MakeBucket


def watch(
    metrics: Metrics,
    generation: Generation,
    compute: ComputePool,
    recorder: RequestLog | None,
    live: LiveGenerations | None = None,
    tracing: Tracing | None = None,
) -> None:
    """Show in the metrics what other parts keep."""
    manifest = generation.bundle.manifest
    metrics.serves(name=manifest.name, version=manifest.version, sha256=generation.bundle.sha256)
    catalog = generation.catalog
    metrics.watch(
        "items",
        "Items of the catalogue.",
        lambda: catalog.size if live is None else live.stable.snapshot.catalog.size,
    )
    if live is not None:
        _watch_changes(metrics, live)
    metrics.watch(
        "compute_admitted",
        "Single calls that run in a compute thread or wait for one.",
        lambda: compute.admitted_count,
    )
    if generation.monitor is not None:
        metrics.watch_recall(generation.monitor.snapshot)
    if recorder is not None:
        metrics.watch_count(
            "request_log_dropped",
            "Requests that the request log dropped.",
            lambda: recorder.dropped_count,
        )
    if tracing is not None:
        metrics.watch_count(
            "traces_dropped",
            "Calls whose traces did not reach the collector.",
            lambda: tracing.dropped_count,
        )


def _watch_changes(metrics: Metrics, live: LiveGenerations) -> None:
    shown: list[tuple[str, str, Callable[[LiveGeneration], float]]] = [
        (
            "revision",
            "Revision of the catalogue that requests are answered from.",
            lambda one: one.snapshot.revision,
        ),
        (
            "store_age_seconds",
            "Time since the store of changes was last read without a fault.",
            lambda one: one.store_age_s,
        ),
        (
            "changed_items",
            "Items that are new, or others than in the bundle.",
            lambda one: one.state.changed_count,
        ),
        (
            "deleted_items",
            "Items of the bundle that were deleted.",
            lambda one: one.state.deleted_count,
        ),
        (
            "tail_rows",
            "Rows beside the index, which every search compares.",
            lambda one: one.state.tail_size,
        ),
        (
            "pending_rows",
            "Rows that the next folding of changes takes.",
            lambda one: one.state.pending_count,
        ),
        (
            "base_revision",
            "Revision of the catalogue that is folded into the index.",
            lambda one: one.generation.bundle.revision,
        ),
        (
            "misfits",
            "Changed items that the bundle cannot serve as they were written.",
            lambda one: len(one.state.misfits),
        ),
        (
            "unembedded_texts",
            "Changed items whose texts a service is still to embed.",
            lambda one: one.state.unembedded_text_count,
        ),
    ]
    for name, documentation, value in shown:
        values: dict[str, Callable[[], float]] = {
            label: partial(value, one) for label, one in live.by_label.items()
        }
        metrics.watch_label(f"catalog_{name}", documentation, values)


def follow(config: ServerConfig, loaded: LabeledGenerations) -> LiveGenerations | None:
    """Return the generations with the changes of the store, which they follow from now on; None
    where there is no store.

    Raises:
        CatalogError: the store cannot be used.
    """
    if config.catalog_store is None:
        return None
    # The catalogue is that of the stable bundle, whatever those beside it are called.
    store = open_store(config.catalog_store, loaded.stable.bundle.manifest.name)
    return LiveGenerations(loaded, store, filter_cache_bytes=config.filter_cache_bytes)


def open_store(place: str, name: str) -> CatalogStore:
    """Open the store of a catalogue: a file, or a database.

    Args:
        place: As `catalog_store` in the configuration.
        name: Name of the bundle, which is that of the catalogue.

    Raises:
        CatalogError: it cannot be used.
        ConfigError: the database's address is none.
        MissingExtra: it is a database, and the extra `postgres` is not installed.
    """
    if not place.startswith(("postgresql:", "postgres:")):
        return SqliteStore(Path(place), name, StoreOptions())
    # Imported where it is wanted: it is an extra.
    from shortlist_server.catalog.postgres_store import PostgresStore

    return PostgresStore(place, name, StoreOptions())


def request_log(config: ServerConfig) -> RequestLog | None:
    """Return the request log, its thread started; None where requests are not logged.

    Raises:
        ConfigError: the folder or the salt file cannot be used.
        MissingExtra: the extra `replay` is not installed.
    """
    if config.request_log is None:
        return None
    key, salt_file = b"", config.request_log_salt_file
    if config.request_log_users == "hash":
        if salt_file is None:
            raise ConfigError(
                "request_log_salt_file: expected a file, since request_log_users is hash, got none"
            )
        make_key(salt_file)
        key = read_key(salt_file)
    return RequestLog(
        RequestLogOptions(
            folder=config.request_log,
            share=config.request_log_share,
            bytes_max=config.request_log_bytes_max,
            file_s=config.request_log_file_s,
            masking=Masking(config.request_log_users, key),
        )
    )


def bundle_info(generation: Generation) -> bundle_pb2.BundleInfo:
    """Return the description of a generation's bundle."""
    manifest = generation.bundle.manifest
    identity = respond.bundle_id(manifest, generation.bundle.sha256)
    info = respond.bundle_info(manifest, generation.catalog, identity)
    info.item_count = generation.bundle.exported_count
    return info


def build_server(
    config: ServerConfig,
    loaded: Generation | LabeledGenerations,
    compute: ComputePool,
    recorder: Recorder | None = None,
    metrics: Metrics | None = None,
    live: LiveGenerations | None = None,
    tracing: Tracing | None = None,
    shared: Shared | None = None,
    reranker: Reranker | None = None,
    language_model: LanguageModel | None = None,
    rater: Rater | None = None,
) -> Server:
    """Return a server that does not listen yet; call it inside the event loop.

    Args:
        config: The configuration.
        loaded: What answers.
        compute: Where it is computed.
        recorder: Keeps requests; None where they are not kept.
        metrics: Counts calls and answers; None where nobody asks.
        live: The generations, following their store; None where their items do not change.
        tracing: Makes spans; None where there are none.
        shared: What the process has together with others; None where it serves alone.
        reranker: Has a language model put candidates in order; None where there is none.
        language_model: Understands and words conversations; None where there is none.
        rater: Has a language model predict ratings; None where there is none.

    Raises:
        ConfigError: a file of the configuration cannot be used.
        NotConfigured: a bundle cannot answer what is to be answered over HTTP.
    """
    if isinstance(loaded, Generation):
        loaded = LabeledGenerations(stable=loaded)
    generations = loaded.serving(live)
    return Server(
        recommendation=RecommendationService(
            generations=lambda: generations,
            compute=compute,
            default_timeout_s=config.default_timeout_ms / 1e3,
            recorder=recorder,
            observe=None if metrics is None else metrics.answered,
            shadow=_shadow(config, generations.shadow, compute, metrics),
            reranker=reranker,
            rater=rater,
        ),
        catalog=CatalogService(
            catalogs=_catalogs(loaded, generations, live),
            store=None if live is None else live.store,
            default_timeout_s=config.default_timeout_ms / 1e3,
        ),
        conversation=make_conversation_service(
            config, lambda: generations, compute, language_model, metrics
        ),
        bundle=BundleService(
            bundle_info(loaded.stable),
            _others(config, loaded),
            None if shared is None else shared.control,
        ),
        options=ServerOptions(
            listen=config.listen if shared is None else _at_port(config.listen, shared.port),
            share_port=shared is not None,
            connection_age_s=config.connection_age_s,
            message_bytes_max=config.message_bytes_max,
            streams_max=config.streams_max,
            keepalive_ms=config.keepalive_ms,
            keepalive_timeout_ms=config.keepalive_timeout_ms,
            ping_interval_ms_min=config.ping_interval_ms_min,
            drain_notice_s=config.drain_notice_ms / 1e3,
            drain_s=config.drain_ms / 1e3,
            certificates=certificates(config),
            access_log=config.access_log,
            channelz=config.channelz,
            http=http_options(config, loaded),
        ),
        access=make_access(config, None if shared is None else shared.make_bucket),
        observer=metrics,
        tracer=tracing,
    )


def _catalogs(
    loaded: LabeledGenerations, generations: Generations, live: LiveGenerations | None
) -> dict[BundleLabel, LabeledCatalog]:
    return {
        label: LabeledCatalog(
            serving=getattr(generations, label),
            changing=None if live is None else live.by_label[label],
            monitor=generation.monitor,
        )
        for label, generation in loaded.by_label()
    }


def _others(config: ServerConfig, loaded: LabeledGenerations) -> list[bundle_pb2.LabeledBundle]:
    shares = {BundleLabel.CANARY: loaded.canary_share, BundleLabel.SHADOW: config.shadow_share}
    return [
        bundle_pb2.LabeledBundle(label=label, bundle=bundle_info(generation), share=shares[label])
        for label, generation in loaded.by_label()
        if label in shares
    ]


def _shadow(
    config: ServerConfig, serving: Serving | None, compute: ComputePool, metrics: Metrics | None
) -> Shadow | None:
    # Without metrics nobody would learn what it found.
    if serving is None or metrics is None:
        return None
    return Shadow(
        serving,
        share=config.shadow_share,
        compute=compute,
        timeout_s=config.default_timeout_ms / 1e3,
        compared=metrics.compared,
        ended=metrics.shadow_ended,
    )


def _at_port(listen: str, port: int) -> str:
    return f"{listen.rpartition(':')[0]}:{port}"
