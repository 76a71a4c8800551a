"""The bundles that one process serves side by side, each under a label."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.generation import Generation, GenerationOptions, load_generation
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

    def serving(self, stable: Serving | None = None) -> Generations:
        """Return what requests are answered from.

        Args:
            stable: The stable generation where its items change; None where they do not.
        """
        return Generations(
            stable=stable or unchanging(self.stable),
            canary=None if self.canary is None else unchanging(self.canary),
            canary_share=self.canary_share,
        )

    def close(self) -> None:
        """End the threads of all; no request may be running."""
        for generation in (self.stable, self.canary, self.shadow):
            if generation is not None:
                generation.close()


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
    loaded: dict[str, Generation] = {}
    try:
        for label, folder in (
            ("stable", serving.stable),
            ("canary", serving.canary),
            ("shadow", serving.shadow),
        ):
            if folder is None:
                continue
            if label == "stable" and load_stable is not None:
                loaded[label] = load_stable(folder)
            else:
                loaded[label] = load_generation(folder, options)
    except BaseException:
        for generation in loaded.values():
            generation.close()
        raise
    names = {label: generation.bundle.manifest.name for label, generation in loaded.items()}
    for label, name in names.items():
        if name != names["stable"]:
            logger.warning(
                "the %s is a bundle of another name: %s beside %s", label, name, names["stable"]
            )
    return LabeledGenerations(
        stable=loaded["stable"],
        canary=loaded.get("canary"),
        canary_share=serving.canary_share if "canary" in loaded else 0.0,
        shadow=loaded.get("shadow"),
    )


def unchanging(generation: Generation) -> Unchanging:
    """Return what requests are answered from by a generation whose items do not change."""
    return Unchanging(
        Snapshot(
            funnel=generation.funnel,
            catalog=generation.catalog,
            identity=respond.bundle_id(generation.bundle.manifest, generation.bundle.sha256),
            embeddings=generation.items.embeddings,
        )
    )
