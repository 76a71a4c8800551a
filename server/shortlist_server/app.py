"""The composition root: configuration -> bundle -> stages -> funnel -> server."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleCorrupt, ConfigError, ShortlistError
from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.options import (
    Nearest,
    Popular,
    RecentHistory,
    SourceOptions,
    SourceSettings,
)
from shortlist_server.funnel.stages import Source
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import FilterOptions
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.plan import measure
from shortlist_server.index.recall import RecallMonitor
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.observability.masking import Masking, make_key, read_key
from shortlist_server.observability.metrics import Metrics
from shortlist_server.observability.request_log import RequestLog, RequestLogOptions
from shortlist_server.rpc import respond
from shortlist_server.rpc.bundle_service import BundleService
from shortlist_server.rpc.catalog_service import CatalogService
from shortlist_server.rpc.recommendation_service import RecommendationService, Recorder
from shortlist_server.rpc.server import Server, ServerOptions
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.runtime.golden import ParityReport, replay
from shortlist_server.runtime.int8_scan import faster_scan
from shortlist_server.runtime.models import LoadedModel, item_feeds, load_models
from shortlist_server.runtime.probe import probe_models
from shortlist_server.security import certificates, make_access, refuse_early
from shortlist_server.stages.popularity import CallerSource, PopularSource
from shortlist_server.stages.query_tower import TowerEncoder
from shortlist_server.stages.ranking import OnnxRanker
from shortlist_server.stages.retrieval import HistorySource, NearestSource

logger = logging.getLogger(__name__)

FETCHED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One loaded bundle, verified and ready to answer."""

    bundle: Bundle
    catalog: BundleCatalog
    funnel: Funnel
    monitor: RecallMonitor | None
    """Checks the recall of searches; None where it is off."""
    parity: list[ParityReport]
    """How the golden requests compared with training."""

    def close(self) -> None:
        """End its threads."""
        self.funnel.close()
        if self.monitor is not None:
            self.monitor.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How a bundle is served."""

    exact_items_max: int = 10_000
    """Catalogues up to this size are scanned where a request leaves it open."""
    filter_cache_bytes: int = 64 << 20
    recall_share: float = 0.0
    """Share of the approximate searches whose recall is measured; 0 switches the monitor off."""
    recall_cpu_share: float = 0.02
    shares: Shares = field(default_factory=Shares)


def load_generation(folder: Path, options: GenerationOptions | None = None) -> Generation:
    """Load a bundle: verify it, replay its golden requests, and build its funnel.

    Raises:
        BundleError: the bundle is missing, damaged, too new, or its numbers are not those of
            training.
    """
    try:
        return _load(folder, options or GenerationOptions())
    except ShortlistError:
        raise
    except Exception as error:
        # A bundle may be wrong in a way that nobody thought of: that is no reason for a traceback.
        raise BundleCorrupt(f"{folder}: cannot be served: {error!r}") from error


def _load(folder: Path, options: GenerationOptions) -> Generation:
    bundle = open_bundle(folder)
    models = load_models(bundle)
    probe_models(bundle, models)
    parity = replay(bundle, models)
    catalog = BundleCatalog(bundle, FilterOptions(cache_bytes_max=options.filter_cache_bytes))
    vectors, metric = bundle.item_embeddings, bundle.manifest.metric
    exact = ExactIndex(vectors, metric, faster_scan(vectors, metric))
    monitor = None
    if options.recall_share:
        monitor = RecallMonitor(exact, cpu_share=options.recall_cpu_share)
    return Generation(
        bundle=bundle,
        catalog=catalog,
        funnel=_funnel(bundle, catalog, models, exact, monitor, options),
        monitor=monitor,
        parity=parity,
    )


def _funnel(
    bundle: Bundle,
    catalog: BundleCatalog,
    models: dict[str, LoadedModel],
    exact: ExactIndex,
    monitor: RecallMonitor | None,
    options: GenerationOptions,
) -> Funnel:
    manifest, vectors = bundle.manifest, bundle.item_embeddings
    searcher = _searcher(bundle, exact, options)
    encoder = TowerEncoder(
        tower=models.get("query_tower"),
        item_ids=bundle.item_ids,
        embeddings=vectors,
        metric=manifest.metric,
    )
    kinds: dict[str, Source] = {
        "nearest": NearestSource(
            searcher,
            watch=None if monitor is None else monitor.watch,
            watched_share=options.recall_share,
        ),
        "recent_history": HistorySource(searcher, vectors, cosine=manifest.metric == "cosine"),
        "popularity": PopularSource(bundle.popularity, catalog.select_value),
        "caller": CallerSource(catalog.rows),
    }
    ranker = manifest.ranker
    return Funnel(
        catalog=catalog,
        encoder=encoder,
        gatherer=Gatherer(kinds, encoder, share=options.shares.sources),
        sources=_configured_sources(manifest),
        ranker=None
        if ranker is None
        else OnnxRanker(
            model=models["ranker"],
            item_feeds=item_feeds(bundle.item_ids, bundle.item_columns, models["ranker"]),
            item_ids=bundle.item_ids,
            weights=ranker.weights,
        ),
        shares=options.shares,
    )


def _searcher(bundle: Bundle, exact: ExactIndex, options: GenerationOptions) -> Searcher:
    manifest, vectors = bundle.manifest, bundle.item_embeddings
    graph = HnswIndex(
        bundle.path(manifest.index.file),
        vectors,
        metric=manifest.metric,
        m=manifest.index.m,
        name=manifest.index.file,
    )
    return Searcher(
        exact=exact,
        graph=graph,
        costs=measure(exact, graph, vectors),
        options=SearcherOptions(
            exact_items_max=options.exact_items_max, fetched_max=FETCHED_MAX, ef=manifest.index.ef
        ),
    )


def _configured_sources(manifest: Manifest) -> tuple[SourceOptions, ...]:
    """Return the sources of requests that name none: as the bundle says, else the nearest items."""
    if manifest.sources is None:
        return (SourceOptions(settings=Nearest()),)
    sources = []
    for entry in manifest.sources.list:
        settings: SourceSettings = Nearest()
        if entry.kind == "recent_history":
            settings = RecentHistory(event_count=entry.event_count)
        elif entry.kind == "popularity":
            settings = Popular(attribute=entry.attribute, value=entry.value, feature=entry.feature)
        sources.append(
            SourceOptions(
                name=entry.name or "", candidate_count=entry.candidate_count, settings=settings
            )
        )
    return tuple(sources)


def generation_options(config: ServerConfig) -> GenerationOptions:
    """Return what the configuration says of how a bundle is served."""
    return GenerationOptions(
        exact_items_max=config.exact_items_max,
        filter_cache_bytes=config.filter_cache_bytes,
        recall_share=config.recall_share,
        recall_cpu_share=config.recall_cpu_share,
        shares=Shares(sources=config.source_share, diversity=config.diversity_share),
    )


async def serve(config: ServerConfig, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: The configuration.
        ready: Called with the port once calls are answered.

    Raises:
        BundleError: the bundle cannot be served.
        ConfigError: the address cannot be bound, or not without TLS; a file of certificates or keys
            cannot be used; or requests cannot be logged.
        MissingExtra: requests are to be logged, and what that needs is not installed.
    """
    begin = time.perf_counter()
    refuse_early(config)
    recorder = request_log(config)
    generation = load_generation(config.bundle, generation_options(config))
    # What is loaded stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    compute = ComputePool(
        threads=config.compute_threads,
        waiting_max=config.waiting_max,
        wait_s_max=config.wait_ms_max / 1e3,
        standing_s_max=config.wait_ms_standing / 1e3,
    )
    metrics = Metrics() if config.metrics_listen else None
    server = build_server(config, generation, compute, recorder, metrics)
    stop_metrics = None
    if metrics is not None and config.metrics_listen:
        watch(metrics, generation, compute, recorder)
        stop_metrics = metrics.listen(config.metrics_listen)
    port = await server.start()
    manifest = generation.bundle.manifest
    logger.info(
        "serving bundle %s %s (%d items) on port %d after %.2f s",
        manifest.name,
        manifest.version,
        manifest.item_count,
        port,
        time.perf_counter() - begin,
    )
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopping.set)
    ready(port)
    await stopping.wait()
    logger.info("stopping: health is NOT_SERVING, calls in flight finish")
    await server.drain()
    compute.close()
    generation.close()
    if recorder is not None:
        recorder.close()
    if stop_metrics is not None:
        stop_metrics()
    logger.info("stopped")


def watch(
    metrics: Metrics,
    generation: Generation,
    compute: ComputePool,
    recorder: RequestLog | None,
) -> None:
    """Show in the metrics what other parts keep."""
    manifest = generation.bundle.manifest
    metrics.serves(name=manifest.name, version=manifest.version, sha256=generation.bundle.sha256)
    metrics.watch("items", "Items of the catalogue.", lambda: generation.catalog.size)
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


def build_server(
    config: ServerConfig,
    generation: Generation,
    compute: ComputePool,
    recorder: Recorder | None = None,
    metrics: Metrics | None = None,
) -> Server:
    """Return a server of one generation that does not listen yet; call it inside the event loop."""
    manifest = generation.bundle.manifest
    identity = respond.bundle_id(manifest, generation.bundle.sha256)
    return Server(
        recommendation=RecommendationService(
            funnel=generation.funnel,
            catalog=generation.catalog,
            identity=identity,
            compute=compute,
            default_timeout_s=config.default_timeout_ms / 1e3,
            recorder=recorder,
            observe=None if metrics is None else metrics.answered,
        ),
        catalog=CatalogService(item_count=generation.catalog.size, monitor=generation.monitor),
        bundle=BundleService(respond.bundle_info(manifest, generation.catalog, identity)),
        options=ServerOptions(
            listen=config.listen,
            message_bytes_max=config.message_bytes_max,
            drain_notice_s=config.drain_notice_ms / 1e3,
            drain_s=config.drain_ms / 1e3,
            certificates=certificates(config),
        ),
        access=make_access(config),
        observer=metrics,
    )
