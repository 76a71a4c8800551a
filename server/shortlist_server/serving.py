"""One process that serves: loads, listens, drains, ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from shortlist_server.app import (
    Shared,
    build_server,
    configured_folders,
    follow,
    generation_options,
    request_log,
    serving_set,
    watch,
)
from shortlist_server.compacted_folders import CompactedFolders
from shortlist_server.compacted_generation import load_newest
from shortlist_server.compaction import (
    COMPACTIONS,
    COMPACTIONS_HELP,
    SECONDS,
    SECONDS_HELP,
    Compactor,
)
from shortlist_server.config import ServerConfig
from shortlist_server.labels import LabeledGenerations, load_generations
from shortlist_server.language_models import embedding_service, make_language_models
from shortlist_server.live import LiveGeneration
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.observability.metrics import Metrics
from shortlist_server.rerankers import make_rater, make_reranker
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.security import refuse_early
from shortlist_server.telemetry import make_tracing

logger = logging.getLogger(__name__)


def load(config: ServerConfig, folders: Mapping[str, Path]) -> LabeledGenerations:
    """Load bundles as they are to be served.

    Args:
        config: The configuration.
        folders: The bundles by label, a stable one among them.

    Raises:
        BundleError: a bundle cannot be served.
        NotConfigured: the texts of one were embedded by another service than the configured one.
    """
    service = embedding_service(config)
    loaded = load_generations(
        serving_set(config, folders),
        generation_options(config, service),
        lambda stable: load_newest(config, stable, text_embedder=service),
    )
    _settle()
    return loaded


def _settle() -> None:
    """Have the collector look no more at what is loaded, which stays."""
    gc.collect()
    gc.freeze()


async def serve(config: ServerConfig, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: The configuration.
        ready: Called with the port once calls are answered.

    Raises:
        BundleError: the bundle cannot be served.
        ConfigError: the address cannot be bound, or not without TLS; a file of certificates or keys
            cannot be used; or requests cannot be logged.
        MissingExtra: what logging requests, tracing, channelz or a language model needs is not
            installed.
    """
    begin = time.perf_counter()
    refuse_early(config)
    serving = ServingProcess(config, load(config, configured_folders(config)))
    port = await serving.start(begin)
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopping.set)
    ready(port)
    await stopping.wait()
    logger.info("stopping: health is NOT_SERVING, calls in flight finish")
    await serving.server.drain()
    await serving.language_models.close()
    serving.close()
    logger.info("stopped")


class ServingProcess:
    """All that one process needs to serve a generation. Make it inside the event loop."""

    def __init__(
        self, config: ServerConfig, loaded: LabeledGenerations, shared: Shared | None = None
    ) -> None:
        """Build the server; it does not listen yet.

        Args:
            config: The configuration.
            loaded: What answers; its threads, if any, start here.
            shared: What it has together with others; None where it serves alone.

        Raises:
            CatalogError: the store of the live catalogue cannot be used.
            ConfigError: a file of the configuration, or the prompt in it, cannot be used.
            MissingExtra: what logging requests, tracing, channelz or a language model needs is not
                installed.
        """
        self._config = config
        self._loaded = loaded
        generation = loaded.stable
        self._shared = shared
        self._recorder = request_log(config)
        self._tracing = make_tracing(config)
        self.metrics = Metrics() if config.metrics_listen else None
        self._start_text_embedder()
        for _, one in loaded.by_label():
            if one.milvus is not None:
                one.milvus.connect()
        self._live = follow(config, loaded)
        self._compute = ComputePool(
            threads=config.compute_threads,
            waiting_max=config.waiting_max,
            wait_s_max=config.wait_ms_max / 1e3,
            standing_s_max=config.wait_ms_standing / 1e3,
        )
        self._compaction: asyncio.Task[None] | None = None
        self._stop_metrics: Callable[[], None] | None = None
        if self.metrics is not None:
            watch(
                self.metrics, generation, self._compute, self._recorder, self._live, self._tracing
            )
        self.language_models = make_language_models(config, self.metrics)
        reranker = make_reranker(config, self.language_models.llm)
        if self.metrics is not None:
            self.metrics.watch(
                "rerank_arms_off",
                "Language models, each with a prompt, that the lift report switches off.",
                lambda: 0 if reranker is None else reranker.arms_off_count,
            )
        if config.llm is not None or config.text_embedder is not None:
            # Their SDKs are 110,000 objects: looking at them all takes 80 ms, in which all wait.
            _settle()
        self.server = build_server(
            config,
            loaded,
            self._compute,
            self._recorder,
            self.metrics,
            self._live,
            self._tracing,
            shared,
            reranker,
            self.language_models.llm,
            make_rater(config, self.language_models.llm),
        )

    @property
    def pending_rows(self) -> int:
        """Number of rows that a compaction would take."""
        return 0 if self._live is None else self._live.stable.state.pending_count

    async def start(self, begin: float) -> int:
        """Listen; returns the port.

        Args:
            begin: When the process began with it, by `time.perf_counter`.

        Raises:
            ConfigError: an address cannot be bound.
        """
        # Of several processes one collects what all count.
        if self.metrics is not None and self._config.metrics_listen and self._shared is None:
            self._stop_metrics = self.metrics.listen(self._config.metrics_listen)
        port = await self.server.start()
        # Of several processes the supervisor compacts.
        if self._live is not None and self._config.compaction_rows and self._shared is None:
            in_place = _InPlace(self._config, self._live.stable, self._loaded.text_embedder)
            compactor = Compactor(self._config, in_place)
            if self.metrics is not None:
                self._watch_compactions(self.metrics, compactor)
            self._compaction = asyncio.create_task(compactor.run())
        manifest = self._loaded.stable.bundle.manifest
        logger.info(
            "serving bundle %s %s (%d items) on port %d after %.2f s",
            manifest.name,
            manifest.version,
            manifest.item_count,
            port,
            time.perf_counter() - begin,
        )
        return port

    def _start_text_embedder(self) -> None:
        service = self._loaded.text_embedder
        if service is None:
            return
        if self._loaded.need_service:
            service.start(self.metrics)
        else:
            logger.info("text_embedder: no bundle has texts that %s embedded", service.identity)

    def _watch_compactions(self, metrics: Metrics, compactor: Compactor) -> None:
        metrics.watch_counts(COMPACTIONS, COMPACTIONS_HELP, "outcome", lambda: compactor.counts)
        metrics.watch(SECONDS, SECONDS_HELP, lambda: compactor.seconds)

    def close(self) -> None:
        """End all threads, after the server has drained."""
        if self._compaction is not None:
            self._compaction.cancel()
        self._compute.close()
        if self._loaded.text_embedder is not None:
            # First: others wait for it.
            self._loaded.text_embedder.close()
        if self._live is not None:
            self._live.close()
        self._loaded.close()
        if self._recorder is not None:
            self._recorder.close()
        if self._tracing is not None:
            self._tracing.close()
        if self._stop_metrics is not None:
            self._stop_metrics()


class _InPlace:
    """A server of one process, as compaction sees it; implements `compaction.CompactionHost`."""

    def __init__(
        self, config: ServerConfig, live: LiveGeneration, text_embedder: EmbeddingService | None
    ) -> None:
        assert config.state_dir is not None
        self._text_embedder = text_embedder
        self._config = config
        self._live = live
        self._folders = CompactedFolders(config.state_dir)
        self._clean()

    async def pending_rows(self) -> int:
        return self._live.state.pending_count

    def served_folder(self) -> Path:
        return self._config.served_folder

    def is_busy(self) -> bool:
        return False

    async def take_over(self) -> int:
        await asyncio.to_thread(self._take_over)
        return self._live.generation.bundle.revision

    def _take_over(self) -> None:
        monitor = self._live.generation.monitor
        self._live.rebase(
            load_newest(
                self._config, self.served_folder(), monitor, text_embedder=self._text_embedder
            )
        )
        self._clean()

    def _clean(self) -> None:
        self._folders.keep_only({self._live.generation.bundle.folder})
