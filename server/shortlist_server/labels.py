"""The bundles that one process serves side by side, each under a label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shortlist.v1 import types_pb2

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog.store import CatalogStore
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.live import LiveGeneration
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.rpc import respond
from shortlist_server.rpc.generations import Generations
from shortlist_server.rpc.snapshot import Serving, Snapshot, Unchanging

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSet:
    """Which bundles are to be served."""

    stable: Path
    """Folder of the bundle that answers whoever the canary does not."""
    canary: Path | None = None
    canary_share: float = 0.0
    """Share of the users whom the canary answers, 0..1."""
    shadow: Path | None = None
    """Folder of a bundle whose answers are compared, and not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledGenerations:
    """The loaded bundles of a serving set."""

    stable: Generation
    canary: Generation | None = None
    canary_share: float = 0.0
    shadow: Generation | None = None
    text_embedder: EmbeddingService | None = None
    """What embeds texts for those of them that hold no embedder; closed by `close`."""

    @property
    def need_service(self) -> bool:
        """Whether one of them has its texts embedded by a service."""
        texts = [generation.items.texts for _, generation in self.by_label()]
        return any(one is not None and one.points is not None and one.points.waits for one in texts)

    def by_label(self) -> Iterator[tuple[BundleLabel, Generation]]:
        """Yield the generations, the stable one first."""
        for label in BundleLabel:
            if (generation := getattr(self, label)) is not None:
                yield label, generation

    def serving(self, live: LiveGenerations | None = None) -> Generations:
        """Return what requests are answered from.

        Args:
            live: The generations where their items change; None where they do not.
        """
        serving: dict[BundleLabel, Serving] = {
            label: unchanging(generation) if live is None else live.by_label[label]
            for label, generation in self.by_label()
        }
        return Generations(
            stable=serving[BundleLabel.STABLE],
            canary=serving.get(BundleLabel.CANARY),
            canary_share=self.canary_share,
            shadow=serving.get(BundleLabel.SHADOW),
        )

    def close(self) -> None:
        """End the threads of all; no request may be running."""
        if self.text_embedder is not None:
            self.text_embedder.close()
        for _, generation in self.by_label():
            generation.close()


class LiveGenerations:
    """The generations of all labels, each of which follows one store by itself: it makes vectors by
    its own item tower, and its faults are its own.
    """

    def __init__(
        self, loaded: LabeledGenerations, store: CatalogStore, *, filter_cache_bytes: int
    ) -> None:
        """Apply all changes that there are, and follow those to come.

        Args:
            loaded: The generations.
            store: Where changes are kept; closed by `close`.
            filter_cache_bytes: Memory for the masks of filters, in bytes, for each of them.

        Raises:
            CatalogUnavailable: the store cannot be read.
        """
        self.store = store
        self.by_label: Mapping[BundleLabel, LiveGeneration] = {
            label: LiveGeneration(
                generation,
                _identity(generation),
                store,
                filter_cache_bytes=filter_cache_bytes,
                label=label,
            )
            for label, generation in loaded.by_label()
        }
        for live in self.by_label.values():
            live.start()

    @property
    def stable(self) -> LiveGeneration:
        """The one whose schema changes are checked by."""
        return self.by_label[BundleLabel.STABLE]

    def close(self) -> None:
        """Follow the store no longer, and close it."""
        for live in self.by_label.values():
            live.close()
        self.store.close()


def load_generations(
    serving: ServingSet,
    options: GenerationOptions | None = None,
    load_stable: Callable[[Path], Generation] | None = None,
) -> LabeledGenerations:
    """Load every bundle of a serving set.

    Args:
        serving: The bundles.
        options: How they are served.
        load_stable: Loads the stable one, where that is not as the others are loaded.

    Raises:
        BundleError: one of them is missing, damaged, too new, or its numbers are not those of
            training; nothing stays loaded then.
    """
    loaded: dict[BundleLabel, Generation] = {}
    try:
        for label in BundleLabel:
            if (folder := getattr(serving, label)) is None:
                continue
            if label == BundleLabel.STABLE and load_stable is not None:
                loaded[label] = load_stable(folder)
            else:
                loaded[label] = load_generation(folder, options)
    except BaseException:
        for generation in loaded.values():
            generation.close()
        raise
    names = {label: generation.bundle.manifest.name for label, generation in loaded.items()}
    for label, name in names.items():
        if name != (stable := names[BundleLabel.STABLE]):
            logger.warning("the %s is a bundle of another name: %s beside %s", label, name, stable)
    return LabeledGenerations(
        stable=loaded[BundleLabel.STABLE],
        canary=loaded.get(BundleLabel.CANARY),
        canary_share=serving.canary_share if BundleLabel.CANARY in loaded else 0.0,
        shadow=loaded.get(BundleLabel.SHADOW),
        text_embedder=None if options is None else options.text_embedder,
    )


def unchanging(generation: Generation) -> Unchanging:
    """Return what requests are answered from by a generation whose items do not change."""
    return Unchanging(
        Snapshot(
            funnel=generation.funnel,
            catalog=generation.catalog,
            identity=_identity(generation),
            embeddings=generation.items.embeddings,
        )
    )


def _identity(generation: Generation) -> types_pb2.BundleId:
    return respond.bundle_id(generation.bundle.manifest, generation.bundle.sha256)
