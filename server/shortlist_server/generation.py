"""A generation: one bundle loaded, verified, and its funnel built: bundle -> stages -> funnel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import Bundle, PopularityList, open_bundle
from shortlist_server.bundle.sections import Index
from shortlist_server.catalog.catalog import BundleCatalog, ItemTable
from shortlist_server.catalog.exported_rows import present_popularity
from shortlist_server.errors import BundleCorrupt, BundleUnsupported, ShortlistError
from shortlist_server.funnel.arrays import ByRow
from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.options import (
    Nearest,
    Popular,
    RecentHistory,
    SourceOptions,
    SourceSettings,
    Text,
)
from shortlist_server.funnel.stages import Source
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import FilterOptions
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.landmarks import Landmarks
from shortlist_server.index.layers import ItemSearch
from shortlist_server.index.milvus import Milvus
from shortlist_server.index.milvus_check import check_loaded
from shortlist_server.index.milvus_options import MilvusOptions
from shortlist_server.index.milvus_searcher import MilvusSearcher
from shortlist_server.index.plan import measure
from shortlist_server.index.recall import RecallMonitor
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.index.vector_index import Metric
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.prompt import PromptInvalid, rerank_prompt
from shortlist_server.runtime.golden import ParityReport, replay
from shortlist_server.runtime.int8_scan import faster_scan
from shortlist_server.runtime.models import LoadedModel, bundle_feeds, load_models
from shortlist_server.runtime.probe import probe_models
from shortlist_server.stages.popularity import CallerSource, PopularSource
from shortlist_server.stages.query_tower import TowerEncoder
from shortlist_server.stages.ranking import OnnxRanker
from shortlist_server.stages.retrieval import HistorySource, NearestSource
from shortlist_server.stages.text import TextItems, TextSource
from shortlist_server.text_index import load_texts

FETCHED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What a funnel is built over. Row i of everything here is the same item."""

    catalog: ItemTable
    item_ids: Sequence[str]
    embeddings: ByRow
    """[rows, dimension] float32."""
    feeds: Mapping[str, ByRow]
    """The ranker's item-side inputs by name, [rows, ...] each; empty without a ranker."""
    searcher: ItemSearch
    popularity: PopularityList | None
    texts: TextItems | None = None
    """Their texts; None where the bundle has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One loaded bundle, verified and ready to answer."""

    bundle: Bundle
    catalog: BundleCatalog
    models: Mapping[str, LoadedModel]
    """By section name."""
    items: Items
    """The items of the bundle as it is."""
    builder: FunnelBuilder
    funnel: Funnel
    """The funnel over these items."""
    monitor: RecallMonitor | None
    """Checks the recall of searches; None where it is off."""
    parity: list[ParityReport]
    """How the golden requests compared with training."""
    milvus: Milvus | None = None
    """Where items are searched in place of here."""

    def close(self) -> None:
        """End its threads."""
        self.funnel.close()
        if self.monitor is not None:
            self.monitor.close()
        if self.milvus is not None:
            self.milvus.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How a bundle is served."""

    exact_items_max: int = 10_000
    """Catalogues up to this size are scanned where a request leaves it open."""
    exact_ms_max: float = 2.0
    """So are larger ones where a scan is expected to take no more milliseconds."""
    filter_cache_bytes: int = 64 << 20
    recall_share: float = 0.0
    """Share of the approximate searches whose recall is measured; 0 switches the monitor off."""
    recall_cpu_share: float = 0.02
    shares: Shares = field(default_factory=Shares)
    text_cache_count: int = 4_096
    """Most query texts whose points are remembered."""
    text_embedder: EmbeddingService | None = None
    """Embeds texts for bundles that hold no embedder; None where there is none. Whoever made it
    closes it.
    """
    milvus: MilvusOptions | None = None
    """Where items are searched by their embeddings in place of here; None: here."""


def load_generation(
    folder: Path,
    options: GenerationOptions | None = None,
    *,
    compacted: bool = False,
    monitor: RecallMonitor | None = None,
) -> Generation:
    """Load a bundle: verify it, replay its golden requests, and build its funnel.

    Args:
        folder: The bundle.
        options: How it is served.
        compacted: Whether it may be one that a server has folded changes into.
        monitor: What has measured recall so far and is to go on; None begins anew.

    Raises:
        BundleError: the bundle is missing, damaged, too new, or its numbers are not those of
            training.
    """
    try:
        return _load(folder, options or GenerationOptions(), compacted, monitor)
    except ShortlistError:
        raise
    except Exception as error:
        # A bundle may be wrong in a way that nobody thought of: that is no reason for a traceback.
        raise BundleCorrupt(f"{folder}: cannot be served: {error!r}") from error


def _load(
    folder: Path, options: GenerationOptions, compacted: bool, monitor: RecallMonitor | None
) -> Generation:
    bundle = open_bundle(folder, compacted=compacted)
    _check_prompts(bundle)
    models = load_models(bundle)
    probe_models(bundle, models)
    parity = replay(bundle, models)
    catalog = BundleCatalog(bundle, FilterOptions(cache_bytes_max=options.filter_cache_bytes))
    searcher, milvus = _item_searcher(bundle, catalog, options)
    if options.recall_share and monitor is None:
        monitor = RecallMonitor(cpu_share=options.recall_cpu_share)
    text_table = bundle.texts
    points = None if text_table is None else text_table.by_item(len(bundle.item_ids))
    ranker = models.get("ranker")
    feeds = {} if ranker is None else bundle_feeds(bundle, ranker, points)
    builder = FunnelBuilder(bundle, models, feeds, monitor, options)
    items = Items(
        catalog=catalog,
        item_ids=bundle.item_ids,
        embeddings=bundle.item_embeddings,
        feeds=feeds,
        searcher=searcher,
        popularity=present_popularity(bundle.popularity, catalog.exported.rows),
        texts=load_texts(
            bundle,
            points,
            lambda path, index, own, by: _searcher(
                path, index, ExactIndex(own, by, faster_scan(own, by)), by, options
            ),
            remote=options.text_embedder,
            cache_count=options.text_cache_count,
        ),
    )
    return Generation(
        bundle=bundle,
        catalog=catalog,
        models=models,
        items=items,
        builder=builder,
        funnel=builder.build(items),
        monitor=monitor,
        parity=parity,
        milvus=milvus,
    )


def _check_prompts(bundle: Bundle) -> None:
    if (prompts := bundle.manifest.prompts) is None:
        return
    try:
        rerank_prompt(bundle.prompts["rerank"])
    except PromptInvalid as error:
        raise BundleCorrupt(f"{prompts.rerank}: {error}") from error


class FunnelBuilder:
    """Builds the funnel of one bundle over its items, as they are or have become."""

    def __init__(
        self,
        bundle: Bundle,
        models: Mapping[str, LoadedModel],
        feeds: Mapping[str, NDArray[Any]],
        monitor: RecallMonitor | None,
        options: GenerationOptions,
    ) -> None:
        """Take the parts that no change of the items touches."""
        self.feeds = feeds
        """The ranker's item-side inputs for the items of the bundle."""
        self._bundle = bundle
        self._tower = models.get("query_tower")
        self._monitor = monitor
        self._options = options
        self._sources = _configured_sources(bundle.manifest)
        self._ranker: OnnxRanker | None = None
        if (ranker := bundle.manifest.ranker) is not None:
            self._ranker = OnnxRanker(
                model=models["ranker"],
                item_feeds=feeds,
                item_ids=bundle.item_ids,
                weights=ranker.weights,
            )

    def build(self, items: Items) -> Funnel:
        """Return the funnel over some items."""
        metric = self._bundle.manifest.metric
        waits = self._options.milvus is not None
        encoder = TowerEncoder(
            tower=self._tower,
            item_ids=items.item_ids,
            embeddings=items.embeddings,
            metric=metric,
        )
        kinds: dict[str, Source] = {
            "nearest": NearestSource(
                items.searcher,
                waits=waits,
                watch=None if self._monitor is None else self._monitor.watch,
                watched_share=self._options.recall_share,
            ),
            "recent_history": HistorySource(
                items.searcher, items.embeddings, cosine=metric == "cosine", waits=waits
            ),
            "popularity": PopularSource(items.popularity, items.catalog.select_value),
            "caller": CallerSource(items.catalog.rows),
            "text": TextSource(items.texts),
        }
        shares = self._options.shares
        return Funnel(
            catalog=items.catalog,
            encoder=encoder,
            gatherer=Gatherer(kinds, encoder, share=shares.sources),
            sources=self._sources,
            ranker=self._ranker and self._ranker.of_items(items.feeds, items.item_ids),
            shares=shares,
            has_texts=items.texts is not None,
            prompts=self._bundle.prompts,
        )


def _item_searcher(
    bundle: Bundle, catalog: BundleCatalog, options: GenerationOptions
) -> tuple[ItemSearch, Milvus | None]:
    """Return what searches the items by their embeddings, and what it asks outside, if anything."""
    index, metric, vectors = bundle.manifest.index, bundle.manifest.metric, bundle.item_embeddings
    if options.milvus is None:
        exact = ExactIndex(vectors, metric, faster_scan(vectors, metric))
        return _searcher(bundle.path(index.file), index, exact, metric, options), None
    if bundle.manifest.compaction is not None:
        raise BundleUnsupported(
            "milvus: expected a bundle as exported, got one that changes were folded into"
        )
    check_loaded(options.milvus, bundle.sha256, len(bundle.item_ids))
    milvus = Milvus(options.milvus)
    searcher = MilvusSearcher(
        milvus,
        alias=options.milvus.alias(bundle.sha256),
        # Neither copied nor measured: it is to stay on the disk, and compare a few.
        exact=ExactIndex(vectors, metric),
        metric=metric,
        columns=catalog.attribute_columns,
        ef=index.ef,
        scan_items_max=options.milvus.scan_items_max,
    )
    return searcher, milvus


def _searcher(
    path: Path, index: Index, exact: ExactIndex, metric: Metric, options: GenerationOptions
) -> Searcher:
    vectors = exact.vectors
    graph = HnswIndex(path, vectors, metric=metric, m=index.m, name=index.file)
    return Searcher(
        exact=exact,
        graph=graph,
        costs=measure(exact, graph, vectors),
        options=SearcherOptions(
            exact_items_max=options.exact_items_max,
            exact_ms_max=options.exact_ms_max,
            fetched_max=FETCHED_MAX,
            ef=index.ef,
        ),
        landmarks=Landmarks(vectors, metric),
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
        elif entry.kind == "text":
            settings = Text()
        elif entry.kind == "popularity":
            settings = Popular(attribute=entry.attribute, value=entry.value, feature=entry.feature)
        sources.append(
            SourceOptions(
                name=entry.name or "", candidate_count=entry.candidate_count, settings=settings
            )
        )
    return tuple(sources)
