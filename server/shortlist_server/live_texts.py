"""The texts of items that change while they are served."""

from __future__ import annotations

from dataclasses import replace

from shortlist_server.bundle.sections import Texts
from shortlist_server.catalog.item_texts import ItemTexts
from shortlist_server.catalog.tail import TailView
from shortlist_server.funnel.arrays import Stacked
from shortlist_server.generation import Generation
from shortlist_server.index.layers import Layer, LayeredSearcher
from shortlist_server.llm.text_points import TextPoints
from shortlist_server.stages.text import TextItems


def item_texts(generation: Generation) -> ItemTexts | None:
    """Return what a bundle makes of the texts of changed items; None where it has no texts."""
    section, items = generation.bundle.manifest.texts, generation.items.texts
    if section is None or items is None:
        return None
    return made_item_texts(section, items.points, items.missing)


def made_item_texts(section: Texts, points: TextPoints | None, missing: str) -> ItemTexts:
    """Return what a bundle makes of texts.

    Args:
        section: Its section of texts.
        points: What embeds them; None where nothing does.
        missing: What would have to be there for it.
    """
    return ItemTexts(
        attributes=section.attributes,
        dimension=section.dimension,
        embed=None if points is None else points.of_items,
        later=points is not None and points.waits,
        missing=missing,
    )


def live_texts(own: TextItems | None, base_size: int, tail: TailView) -> TextItems | None:
    """Return the texts of a bundle's items, and of the rows beside them.

    Args:
        own: The bundle's own; None where it has none.
        base_size: Number of its items.
        tail: The rows beside them.
    """
    if own is None or not tail.size:
        return own
    layers = [
        Layer(base_size + segment.start, segment.texts)
        for segment in tail.segments
        if segment.texts is not None
    ]
    assert not isinstance(own.embeddings, Stacked)
    return replace(
        own,
        searcher=LayeredSearcher(own.searcher, base_size, layers),
        embeddings=Stacked(own.embeddings, tail.texts),
    )
