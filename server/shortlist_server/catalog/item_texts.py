"""The texts of items that a bundle was not built with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shortlist_server.bundle.item_text import item_text
from shortlist_server.errors import AttributeTypeMismatch
from shortlist_server.funnel.arrays import Floats
from shortlist_server.funnel.resolve import fits, type_name
from shortlist_server.funnel.types import FeatureValue

TOGETHER = 64
"""Texts embedded in one call."""
Embed = Callable[[Sequence[str]], Floats]
"""Returns a point of length 1 for each text, float32 [n, dimension]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTexts:
    """What a bundle makes of the texts of its items."""

    attributes: tuple[str, ...]
    """Names of the attributes that make an item's text, in order."""
    dimension: int
    embed: Embed | None
    """Embeds them; None where there is nothing that could."""
    later: bool = False
    """Whether that takes too long for a change to wait for it: it is served first."""
    missing: str = ""
    """What would have to be there for it, in words."""

    def text(self, attributes: Mapping[str, FeatureValue], field: str) -> str:
        """Return the text of an item; empty where it has none.

        Args:
            attributes: The item's attributes by name.
            field: Path of the attributes in the request.

        Raises:
            AttributeTypeMismatch: an attribute is no text.
        """
        values: list[str | Sequence[str] | None] = []
        for name in self.attributes:
            value = attributes.get(name)
            if value is not None and not (fits(value, "string") or fits(value, "string_list")):
                raise AttributeTypeMismatch(
                    f'{field}["{name}"]',
                    expected="string or string_list, of which the text of an item is made",
                    got=type_name(value),
                )
            values.append(value)  # type: ignore[arg-type]  # looked at above
        return item_text(values)

    def points(self, texts: Sequence[str]) -> Floats:
        """Return the points of items' texts, zeros where a text is empty.

        Raises:
            Exception: what the embedder raises.
        """
        points = np.zeros((len(texts), self.dimension), np.float32)
        places = [place for place, text in enumerate(texts) if text]
        for start in range(0, len(places), TOGETHER):
            together = places[start : start + TOGETHER]
            if self.embed is not None:
                points[together] = self.embed([texts[place] for place in together])
        return points
