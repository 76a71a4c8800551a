"""The composition root: configuration -> bundle -> stages -> funnel -> server."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleCorrupt, ShortlistError
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.rpc import convert
from shortlist_server.rpc.bundle_service import BundleService
from shortlist_server.rpc.recommendation_service import RecommendationService
from shortlist_server.rpc.server import Server, ServerOptions
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.runtime.golden import ParityReport, replay
from shortlist_server.runtime.models import LoadedModel, item_feeds, load_models
from shortlist_server.runtime.probe import probe_models
from shortlist_server.stages.query_tower import TowerEncoder
from shortlist_server.stages.ranking import OnnxRanker
from shortlist_server.stages.retrieval import NearestSource, PopularSource, RetrievalOptions

logger = logging.getLogger(__name__)

FETCHED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One loaded bundle, verified and ready to answer."""

    bundle: Bundle
    catalog: BundleCatalog
    funnel: Funnel
    parity: list[ParityReport]
    """How the golden requests compared with training."""


def load_generation(folder: Path, *, exact_items_max: int) -> Generation:
    """Load a bundle: verify it, replay its golden requests, and build its funnel.

    Raises:
        BundleError: the bundle is missing, damaged, too new, or its numbers are not those of
            training.
    """
    try:
        return _load(folder, exact_items_max)
    except ShortlistError:
        raise
    except Exception as error:
        # A bundle may be wrong in a way that nobody thought of: that is no reason for a traceback.
        raise BundleCorrupt(f"{folder}: cannot be served: {error!r}") from error


def _load(folder: Path, exact_items_max: int) -> Generation:
    bundle = open_bundle(folder)
    models = load_models(bundle)
    probe_models(bundle, models)
    parity = replay(bundle, models)
    catalog = BundleCatalog(bundle)
    return Generation(
        bundle=bundle,
        catalog=catalog,
        funnel=_funnel(bundle, catalog, models, exact_items_max),
        parity=parity,
    )


def _funnel(
    bundle: Bundle, catalog: BundleCatalog, models: dict[str, LoadedModel], exact_items_max: int
) -> Funnel:
    manifest, vectors = bundle.manifest, bundle.item_embeddings
    graph = HnswIndex(
        bundle.path(manifest.index.file),
        vectors,
        metric=manifest.metric,
        m=manifest.index.m,
        name=manifest.index.file,
    )
    ranker = manifest.ranker
    return Funnel(
        catalog=catalog,
        encoder=TowerEncoder(
            tower=models.get("query_tower"),
            item_ids=bundle.item_ids,
            embeddings=vectors,
            metric=manifest.metric,
        ),
        nearest=NearestSource(
            exact=ExactIndex(vectors, manifest.metric),
            graph=graph,
            vectors=vectors,
            metric=manifest.metric,
            options=RetrievalOptions(
                exact_items_max=exact_items_max, fetched_max=FETCHED_MAX, ef=manifest.index.ef
            ),
        ),
        popular=PopularSource(bundle.popularity),
        ranker=None
        if ranker is None
        else OnnxRanker(
            model=models["ranker"],
            item_feeds=item_feeds(bundle.item_ids, bundle.item_columns, models["ranker"]),
            item_ids=bundle.item_ids,
            weights=ranker.weights,
        ),
    )


async def serve(config: ServerConfig, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: The configuration.
        ready: Called with the port once calls are answered.

    Raises:
        BundleError: the bundle cannot be served.
        ConfigError: the address cannot be bound.
    """
    begin = time.perf_counter()
    generation = load_generation(config.bundle, exact_items_max=config.exact_items_max)
    # What is loaded stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    compute = ComputePool(threads=config.compute_threads, waiting_max=config.waiting_max)
    server = build_server(config, generation, compute)
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
    logger.info("stopped")


def build_server(config: ServerConfig, generation: Generation, compute: ComputePool) -> Server:
    """Return a server of one generation that does not listen yet; call it inside the event loop."""
    manifest = generation.bundle.manifest
    identity = convert.bundle_id(manifest, generation.bundle.sha256)
    return Server(
        recommendation=RecommendationService(
            funnel=generation.funnel,
            catalog=generation.catalog,
            identity=identity,
            compute=compute,
            default_timeout_s=config.default_timeout_ms / 1e3,
        ),
        bundle=BundleService(convert.bundle_info(manifest, generation.catalog, identity)),
        options=ServerOptions(
            listen=config.listen,
            message_bytes_max=config.message_bytes_max,
            drain_notice_s=config.drain_notice_ms / 1e3,
            drain_s=config.drain_ms / 1e3,
        ),
    )
